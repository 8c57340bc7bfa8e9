#include "common/config/config_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "common/base/check.h"
#include "common/config/properties_file.h"

namespace apogee::config {
namespace {

std::string_view without_blanks(std::string_view text) {
  while (!text.empty() && static_cast<unsigned char>(text.front()) <= ' ') text.remove_prefix(1);
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
  return text;
}

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }
bool same_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

/// How many single characters must be changed, added or dropped; case does not count.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t replaced = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  return text;
}

/// A field without its value. A template because the type is the table's own.
template <typename Field, typename Traits>
Field described(std::string key, std::string accepts, bool run_time, std::string help, Traits traits) {
  Field field;
  field.key = std::move(key);
  field.help = std::move(help);
  field.accepts = std::move(accepts);
  field.traits = std::move(traits);
  field.run_time = run_time;
  return field;
}

}  // namespace

const char* to_string(Origin origin) {
  switch (origin) {
    case Origin::kDefault: return "default";
    case Origin::kEnvironment: return "environment";
    case Origin::kFile: return "file";
    case Origin::kCommandLine: return "command line";
    case Origin::kRunTime: return "changed at run time";
  }
  return "unknown";
}

void ConfigTable::add(Field field) {
  APOGEE_CHECK(by_key_.count(field.key) == 0);
  ignored_.erase(field.key);
  field.group = group_;
  field.default_value = field.read();
  by_key_[field.key] = fields_.size();
  fields_.push_back(std::move(field));
}

template <typename Read, typename Write>
void ConfigTable::add_truth(std::string key, Read read, Write write, bool run_time, std::string help, Traits traits) {
  auto field = described<Field>(std::move(key), "true or false", run_time, std::move(help), std::move(traits));
  field.read = [read] { return std::string(read() ? "true" : "false"); };
  field.parse = [write](std::string_view text) -> Result<Assign> {
    bool yes = same_ignoring_case(text, "true");
    if (!yes && !same_ignoring_case(text, "false"))
      return Error{Errc::kInvalidArgument, fmt::format("\"{}\" is neither true nor false", text)};
    return Assign([write, yes] { write(yes); });
  };
  add(std::move(field));
}

template <typename Read, typename Write>
void ConfigTable::add_whole_number(std::string key, Range range, Read read, Write write, bool run_time,
                                   std::string help, Traits traits) {
  using Int = decltype(read());
  range.min = std::max<int64_t>(range.min, std::numeric_limits<Int>::min());
  range.max = std::min<int64_t>(range.max, std::numeric_limits<Int>::max());
  const bool below = range.min != std::numeric_limits<Int>::min(), above = range.max != std::numeric_limits<Int>::max();
  auto field = described<Field>(std::move(key),
                                below && above ? fmt::format("{}..{}", range.min, range.max)
                                : below        ? fmt::format("at least {}", range.min)
                                : above        ? fmt::format("at most {}", range.max)
                                               : std::string("whole number"),
                                run_time, std::move(help), std::move(traits));
  field.read = [read] { return std::to_string(read()); };
  field.parse = [write, range, accepts = field.accepts](std::string_view text) -> Result<Assign> {
    int64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || end != text.data() + text.size() || error == std::errc::invalid_argument)
      return Error{Errc::kInvalidArgument, fmt::format("\"{}\" is not a whole number", text)};
    if (error != std::errc() || value < range.min || value > range.max)
      return Error{Errc::kInvalidArgument, fmt::format("{} is out of range ({})", text, accepts)};
    return Assign([write, value] { write(static_cast<Int>(value)); });
  };
  add(std::move(field));
}

template <typename Read, typename Write>
void ConfigTable::add_fraction(std::string key, double min, double max, Read read, Write write, bool run_time,
                               std::string help, Traits traits) {
  auto field =
      described<Field>(std::move(key), fmt::format("{}..{}", min, max), run_time, std::move(help), std::move(traits));
  field.read = [read] { return number_text(read()); };
  field.parse = [write, min, max](std::string_view text) -> Result<Assign> {
    const std::string copy(text);
    char* end = nullptr;
    double value = std::strtod(copy.c_str(), &end);
    if (copy.empty() || *end != '\0' || !std::isfinite(value))
      return Error{Errc::kInvalidArgument, fmt::format("\"{}\" is not a number", text)};
    if (value < min || value > max)
      return Error{Errc::kInvalidArgument, fmt::format("{} is out of range ({}..{})", text, min, max)};
    return Assign([write, value] { write(value); });
  };
  add(std::move(field));
}

template <typename Read, typename Write>
void ConfigTable::add_text(std::string key, Read read, Write write, bool run_time, std::string help, Traits traits) {
  auto field = described<Field>(std::move(key), "text", run_time, std::move(help), std::move(traits));
  field.read = read;
  field.parse = [write](std::string_view text) -> Result<Assign> {
    return Assign([write, value = std::string(text)] { write(value); });
  };
  add(std::move(field));
}

void ConfigTable::add_choice(std::string key, std::vector<std::pair<std::string, int64_t>> names,
                             std::function<int64_t()> read, std::function<void(int64_t)> assign, bool run_time,
                             std::string help, Traits traits) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name.first;
  auto field = described<Field>(std::move(key), "one of " + list, run_time, std::move(help), std::move(traits));
  field.read = [names, read] {
    const int64_t present = read();
    for (const auto& [name, value] : names)
      if (value == present) return name;
    return std::to_string(present);
  };
  field.parse = [names, assign, accepts = field.accepts](std::string_view text) -> Result<Assign> {
    for (const auto& entry : names)
      if (same_ignoring_case(entry.first, text)) return Assign([assign, value = entry.second] { assign(value); });
    return Error{Errc::kInvalidArgument, fmt::format("\"{}\" is not {}", text, accepts)};
  };
  add(std::move(field));
}

void ConfigTable::add_bool(std::string key, bool* f, std::string help, Traits traits) {
  add_truth(
      std::move(key), [f] { return *f; }, [f](bool v) { *f = v; }, false, std::move(help), std::move(traits));
}
void ConfigTable::add_bool(std::string key, Tunable<bool>* f, std::string help, Traits traits) {
  add_truth(
      std::move(key), [f] { return f->get(); }, [f](bool v) { f->set(v); }, true, std::move(help), std::move(traits));
}
void ConfigTable::add_int(std::string key, int32_t* f, Range range, std::string help, Traits traits) {
  add_whole_number(
      std::move(key), range, [f] { return *f; }, [f](int32_t v) { *f = v; }, false, std::move(help), std::move(traits));
}
void ConfigTable::add_int(std::string key, int64_t* f, Range range, std::string help, Traits traits) {
  add_whole_number(
      std::move(key), range, [f] { return *f; }, [f](int64_t v) { *f = v; }, false, std::move(help), std::move(traits));
}
void ConfigTable::add_int(std::string key, Tunable<int32_t>* f, Range range, std::string help, Traits traits) {
  add_whole_number(
      std::move(key), range, [f] { return f->get(); }, [f](int32_t v) { f->set(v); }, true, std::move(help),
      std::move(traits));
}
void ConfigTable::add_int(std::string key, Tunable<int64_t>* f, Range range, std::string help, Traits traits) {
  add_whole_number(
      std::move(key), range, [f] { return f->get(); }, [f](int64_t v) { f->set(v); }, true, std::move(help),
      std::move(traits));
}
void ConfigTable::add_double(std::string key, double* f, double min, double max, std::string help, Traits traits) {
  add_fraction(
      std::move(key), min, max, [f] { return *f; }, [f](double v) { *f = v; }, false, std::move(help),
      std::move(traits));
}
void ConfigTable::add_double(std::string key, Tunable<double>* f, double min, double max, std::string help,
                             Traits traits) {
  add_fraction(
      std::move(key), min, max, [f] { return f->get(); }, [f](double v) { f->set(v); }, true, std::move(help),
      std::move(traits));
}
void ConfigTable::add_string(std::string key, std::string* f, std::string help, Traits traits) {
  add_text(
      std::move(key), [f] { return *f; }, [f](const std::string& v) { *f = v; }, false, std::move(help),
      std::move(traits));
}
void ConfigTable::add_string(std::string key, Tunable<std::string>* f, std::string help, Traits traits) {
  add_text(
      std::move(key), [f] { return f->get(); }, [f](const std::string& v) { f->set(v); }, true, std::move(help),
      std::move(traits));
}

void ConfigTable::add_string(std::string key, Tunable<std::string>* f, std::function<Status(std::string_view)> check,
                             std::string help, Traits traits) {
  add_string(std::move(key), f, std::move(help), std::move(traits));
  auto& field = fields_.back();
  field.parse = [check = std::move(check), parse = field.parse](std::string_view text) -> Result<Assign> {
    APOGEE_TRY(check(text));
    return parse(text);
  };
}

void ConfigTable::add_ignored(const std::vector<std::string>& keys) {
  for (const auto& key : keys)
    if (by_key_.count(key) == 0) ignored_.insert(key);
}

std::string ConfigTable::nearest_key(std::string_view key) const {
  std::string best;
  size_t best_distance = std::max<size_t>(2, key.size() / 3) + 1;
  for (const auto& field : fields_) {
    size_t distance = edit_distance(key, field.key);
    if (distance < best_distance) {
      best_distance = distance;
      best = field.key;
    }
  }
  for (const auto& name : ignored_) {
    size_t distance = edit_distance(key, name);
    if (distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

Result<ConfigTable::Checked> ConfigTable::check(std::string_view key, std::string_view value, Origin origin) {
  auto found = by_key_.find(key);
  if (found == by_key_.end()) {
    if (is_ignored(key)) return Checked{};
    std::string nearest = nearest_key(key);
    return Error{Errc::kNotFound, nearest.empty()
                                      ? fmt::format("unknown key \"{}\"", key)
                                      : fmt::format("unknown key \"{}\"; did you mean \"{}\"?", key, nearest)};
  }
  Field& field = fields_[found->second];
  value = without_blanks(value);
  auto assign = field.parse(value);
  if (!assign) return Error{assign.error().code, fmt::format("{}: {}", key, assign.error().message)};
  if (origin == Origin::kRunTime && (field.traits.secret || value != field.read())) {
    if (field.traits.locked) return Error{Errc::kPermission, fmt::format("{}: may not be changed by a request", key)};
    if (!field.run_time)
      return Error{Errc::kUnsupported,
                   fmt::format("{}: cannot be changed while running; set it in the config file and restart", key)};
  }
  return Checked{&field, std::move(*assign)};
}

Status ConfigTable::set(std::string_view key, std::string_view value, Origin origin) {
  std::lock_guard lock(mutex_);
  APOGEE_TRY_ASSIGN(auto checked, check(key, value, origin));
  if (checked.field == nullptr) {
    notices_.push_back(fmt::format("the setting {} is accepted but has no effect here", key));
    return {};
  }
  if (origin == Origin::kRunTime && !checked.field->run_time) return {};  // the present value again
  checked.assign();
  checked.field->origin = origin;
  return {};
}

Status ConfigTable::load_file(const std::string& path) {
  APOGEE_TRY_ASSIGN(auto properties, read_properties_file(path));
  for (const auto& property : properties) {
    auto status = set(property.key, property.value, Origin::kFile);
    if (!status)
      return Error{status.error().code, fmt::format("{}:{}: {}", path, property.line, status.error().message)};
  }
  return {};
}

Result<std::vector<ConfigTable::Change>> ConfigTable::update(std::string_view properties_text) {
  APOGEE_TRY_ASSIGN(auto properties, parse_properties(properties_text));
  std::lock_guard lock(mutex_);
  std::vector<Checked> all;
  for (const auto& property : properties) {
    APOGEE_TRY_ASSIGN(auto checked, check(property.key, property.value, Origin::kRunTime));
    if (checked.field == nullptr)
      notices_.push_back(fmt::format("the setting {} is accepted but has no effect here", property.key));
    else if (checked.field->run_time)
      all.push_back(std::move(checked));
  }
  std::vector<Change> changes;
  for (auto& checked : all) {
    std::string before = checked.field->read();
    checked.assign();
    std::string after = checked.field->read();
    if (before == after) continue;
    checked.field->origin = Origin::kRunTime;
    changes.push_back({checked.field->key, std::move(before), std::move(after)});
  }
  return changes;
}

std::string ConfigTable::to_properties_text() const {
  std::map<std::string, std::string> values;
  {
    std::lock_guard lock(mutex_);
    for (const auto& field : fields_)
      if (!field.traits.secret) values[field.key] = field.read();
  }
  return config::to_properties_text(values);
}

std::vector<ConfigTable::Row> ConfigTable::rows() const {
  std::lock_guard lock(mutex_);
  std::vector<Row> rows;
  for (const auto& f : fields_) {
    const std::string value = f.read();
    rows.push_back({f.key, f.traits.secret && !value.empty() ? "***" : value, f.default_value, f.group, f.help,
                    f.traits.unit, f.accepts, f.run_time, f.traits.important, f.traits.locked, f.origin});
  }
  return rows;
}

Result<std::string> ConfigTable::get(std::string_view key) const {
  std::lock_guard lock(mutex_);
  auto found = by_key_.find(key);
  if (found == by_key_.end()) return Error{Errc::kNotFound, fmt::format("unknown key \"{}\"", key)};
  const Field& field = fields_[found->second];
  std::string value = field.read();
  return field.traits.secret && !value.empty() ? "***" : value;
}

std::vector<std::string> ConfigTable::take_notices() {
  std::lock_guard lock(mutex_);
  return std::exchange(notices_, {});
}

}  // namespace apogee::config
