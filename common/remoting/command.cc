#include "common/remoting/command.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/text.h"

namespace apogee::remoting {

namespace {
constexpr const char* kLanguages[] = {"JAVA",  "CPP",  "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY",
                                      "OTHER", "HTTP", "GO",     "PHP",    "OMS",    "RUST",   "NODE_JS"};
}  // namespace

const char* to_string(LanguageCode language) {
  auto index = static_cast<size_t>(language);
  return index < std::size(kLanguages) ? kLanguages[index] : "OTHER";
}

LanguageCode language_from_name(std::string_view name) {
  for (size_t i = 0; i < std::size(kLanguages); ++i) {
    if (name == kLanguages[i]) return static_cast<LanguageCode>(i);
  }
  return LanguageCode::kOther;
}

ExtFields::Range ExtFields::keep(std::string_view text) {
  Range range{static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(text.size())};
  arena_.append(text);
  return range;
}

void ExtFields::set(std::string_view name, std::string_view value) {
  for (auto& entry : entries_) {
    if (text(entry.name) == name) {
      entry.value = keep(value);
      return;
    }
  }
  Range kept_name = keep(name);
  entries_.push_back({kept_name, keep(value)});
}

void ExtFields::set(std::string_view name, int64_t value) {
  fmt::format_int digits(value);
  set(name, std::string_view(digits.data(), digits.size()));
}

std::optional<std::string_view> ExtFields::get(std::string_view name) const {
  for (const auto& entry : entries_) {
    if (text(entry.name) == name) return text(entry.value);
  }
  return std::nullopt;
}

std::optional<bool> ExtFields::get_bool(std::string_view name) const {
  auto value = get(name);
  if (!value) return std::nullopt;
  return equals_ignore_case(*value, "true");
}

Command Command::request(RequestCode code) {
  Command command;
  command.code = static_cast<int32_t>(code);
  return command;
}

Command Command::response_to(const Command& request, int32_t code, std::optional<std::string> remark) {
  Command command;
  command.code = code;
  command.opaque = request.opaque;
  command.flag = kResponseFlag;
  command.remark = std::move(remark);
  command.serialize = request.serialize;
  return command;
}

}  // namespace apogee::remoting
