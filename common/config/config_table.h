#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "apogee/result.h"
#include "common/config/tunable.h"

namespace apogee::config {

/// Who gave a value.
enum class Origin : uint8_t { kDefault, kEnvironment, kFile, kCommandLine, kRunTime };
const char* to_string(Origin origin);

/// Inclusive bounds of a whole number.
struct Range {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

/// What else is to be known about a field.
struct Traits {
  std::string unit;        ///< "ms", "bytes", ...; empty = none
  bool important = false;  ///< shown by -m
  bool locked = false;     ///< never changed by a request from outside (kPermission), though the file may set it
  bool secret = false;     ///< its value is never shown: "***" where it is not empty, nothing in properties text
};

/// The settings of a program: one row a key, behind loading, checking, listing, changing while it runs, and --help.
/// A row points into a plain config struct, which must outlive the table; the value that the field has when its row
/// is added is its default. A field of a plain type can be set at start only; a Tunable field may also change later.
///
/// Thread: rows are added and files loaded before threads start. set(Origin::kRunTime), update(), rows(), get() and
/// to_properties_text() may then be called from any thread.
class ConfigTable {
 public:
  /// Heading in --help of the rows added next.
  void group(std::string title) { group_ = std::move(title); }

  void add_bool(std::string key, bool* field, std::string help, Traits traits = {});
  void add_bool(std::string key, Tunable<bool>* field, std::string help, Traits traits = {});
  void add_int(std::string key, int32_t* field, Range range, std::string help, Traits traits = {});
  void add_int(std::string key, int64_t* field, Range range, std::string help, Traits traits = {});
  void add_int(std::string key, Tunable<int32_t>* field, Range range, std::string help, Traits traits = {});
  void add_int(std::string key, Tunable<int64_t>* field, Range range, std::string help, Traits traits = {});
  void add_double(std::string key, double* field, double min, double max, std::string help, Traits traits = {});
  void add_double(std::string key, Tunable<double>* field, double min, double max, std::string help,
                  Traits traits = {});
  void add_string(std::string key, std::string* field, std::string help, Traits traits = {});
  void add_string(std::string key, Tunable<std::string>* field, std::string help, Traits traits = {});
  /// check: whether the text may be set; its error becomes that of set().
  void add_string(std::string key, Tunable<std::string>* field, std::function<Status(std::string_view)> check,
                  std::string help, Traits traits = {});
  /// names: what may be written, each with its value.
  template <typename Enum, std::enable_if_t<std::is_enum_v<Enum>, int> = 0>
  void add_enum(std::string key, Enum* field, const std::vector<std::pair<std::string, Enum>>& names, std::string help,
                Traits traits = {}) {
    add_choice(
        std::move(key), as_ints(names), [field] { return static_cast<int64_t>(*field); },
        [field](int64_t value) { *field = static_cast<Enum>(value); }, false, std::move(help), std::move(traits));
  }
  template <typename Enum, std::enable_if_t<std::is_enum_v<Enum>, int> = 0>
  void add_enum(std::string key, Tunable<Enum>* field, const std::vector<std::pair<std::string, Enum>>& names,
                std::string help, Traits traits = {}) {
    add_choice(
        std::move(key), as_ints(names), [field] { return static_cast<int64_t>(field->get()); },
        [field](int64_t value) { field->set(static_cast<Enum>(value)); }, true, std::move(help), std::move(traits));
  }
  /// Keys of Apache RocketMQ that mean nothing here: accepted with any value, noted by notices().
  /// A key that has a row stays what it is.
  void add_ignored(const std::vector<std::string>& keys);

  /// Errors: kNotFound for an unknown key (the message names the nearest known one), kInvalidArgument for a bad value,
  /// and with Origin::kRunTime kUnsupported for a field that is set at start only and kPermission for a locked one
  /// (unless the value is the present one).
  [[nodiscard]] Status set(std::string_view key, std::string_view value, Origin origin);

  /// Sets what a properties file says. Errors begin with "PATH:LINE: "; see set() and read_properties_file().
  [[nodiscard]] Status load_file(const std::string& path);

  struct Change {
    std::string key, before, after;
  };
  /// Body of an UPDATE_BROKER_CONFIG or UPDATE_NAMESRV_CONFIG request: all of it or, after an error, nothing.
  /// Returns what differs now. Errors as set().
  [[nodiscard]] Result<std::vector<Change>> update(std::string_view properties_text);

  /// Every row that is no secret as "key=value" lines, sorted by key.
  [[nodiscard]] std::string to_properties_text() const;

  struct Row {
    std::string key, value, default_value, group, help, unit;
    std::string accepts;  ///< "true or false", "0..65535", "one of A, B", "text"
    bool run_time = false;
    bool important = false;
    bool locked = false;
    Origin origin = Origin::kDefault;
  };
  /// In the order of adding.
  [[nodiscard]] std::vector<Row> rows() const;
  /// The present value as text. Error: kNotFound.
  [[nodiscard]] Result<std::string> get(std::string_view key) const;
  [[nodiscard]] bool is_ignored(std::string_view key) const { return ignored_.count(std::string(key)) != 0; }
  /// Lines for the log about keys that were given and have no effect here; cleared by the call.
  [[nodiscard]] std::vector<std::string> take_notices();
  /// The known key that looks most like the given one; empty when none does.
  [[nodiscard]] std::string nearest_key(std::string_view key) const;

 private:
  using Assign = std::function<void()>;
  struct Field {
    std::string key, group, help, accepts, default_value;
    Traits traits;
    bool run_time = false;
    Origin origin = Origin::kDefault;
    std::function<std::string()> read;
    std::function<Result<Assign>(std::string_view)> parse;  ///< checks the text, and returns what assigns it
  };
  /// A value that was checked and waits for being assigned; field is nullptr for an ignored key.
  struct Checked {
    Field* field = nullptr;
    Assign assign;
  };

  template <typename Enum>
  static std::vector<std::pair<std::string, int64_t>> as_ints(const std::vector<std::pair<std::string, Enum>>& names) {
    std::vector<std::pair<std::string, int64_t>> ints;
    ints.reserve(names.size());
    for (const auto& [name, value] : names) ints.emplace_back(name, static_cast<int64_t>(value));
    return ints;
  }
  void add_choice(std::string key, std::vector<std::pair<std::string, int64_t>> names, std::function<int64_t()> read,
                  std::function<void(int64_t)> assign, bool run_time, std::string help, Traits traits);
  template <typename Read, typename Write>
  void add_whole_number(std::string key, Range range, Read read, Write write, bool run_time, std::string help,
                        Traits traits);
  template <typename Read, typename Write>
  void add_truth(std::string key, Read read, Write write, bool run_time, std::string help, Traits traits);
  template <typename Read, typename Write>
  void add_fraction(std::string key, double min, double max, Read read, Write write, bool run_time, std::string help,
                    Traits traits);
  template <typename Read, typename Write>
  void add_text(std::string key, Read read, Write write, bool run_time, std::string help, Traits traits);
  void add(Field field);
  [[nodiscard]] Result<Checked> check(std::string_view key, std::string_view value, Origin origin);

  mutable std::mutex mutex_;  ///< guards the values while the program runs
  std::string group_ = "Settings";
  std::vector<Field> fields_;
  std::map<std::string, size_t, std::less<>> by_key_;
  std::set<std::string> ignored_;
  std::vector<std::string> notices_;
};

}  // namespace apogee::config
