#include "common/message/properties.h"

#include <fmt/format.h>

#include <algorithm>

namespace apogee::message {

namespace {

// Calls function(part, middle, begin, end) for each text between separators; middle is where its name ends, or npos.
template <typename Function>
void each_text(std::string_view properties, Function function) {
  size_t begin = 0;
  while (begin < properties.size()) {
    size_t end = properties.find(kPropertySeparator, begin);
    if (end == std::string_view::npos) end = properties.size();
    const auto part = properties.substr(begin, end - begin);
    function(part, part.find(kNameValueSeparator), begin, end);
    begin = end + 1;
  }
}

// Calls function(name, value, begin, end) for each whole part; begin and end without the separator.
template <typename Function>
void each_part(std::string_view properties, Function function) {
  each_text(properties, [&](std::string_view part, size_t middle, size_t begin, size_t end) {
    if (middle != std::string_view::npos && middle > 0 && middle + 1 < part.size())
      function(part.substr(0, middle), part.substr(middle + 1), begin, end);
  });
}

void end_last(std::string& properties) {
  if (!properties.empty() && properties.back() != kPropertySeparator) properties += kPropertySeparator;
}

bool has_separator(std::string_view text) {
  return text.find(kNameValueSeparator) != std::string_view::npos ||
         text.find(kPropertySeparator) != std::string_view::npos;
}

}  // namespace

std::optional<std::string_view> find_property(std::string_view properties, std::string_view name) {
  std::optional<std::string_view> found;
  size_t begin = 0;
  while (begin < properties.size()) {
    size_t at = properties.find(name, begin);
    if (at == std::string_view::npos) break;
    size_t middle = at + name.size();
    bool whole = (at == 0 || properties[at - 1] == kPropertySeparator) && middle < properties.size() &&
                 properties[middle] == kNameValueSeparator;
    if (!whole || name.empty()) {
      begin = at + 1;
      continue;
    }
    size_t end = properties.find(kPropertySeparator, middle);
    if (end == std::string_view::npos) end = properties.size();
    if (end > middle + 1) found = properties.substr(middle + 1, end - middle - 1);
    begin = end;
  }
  return found;
}

std::vector<std::pair<std::string_view, std::string_view>> parse_properties(std::string_view properties) {
  std::vector<std::pair<std::string_view, std::string_view>> all;
  each_part(properties, [&](std::string_view name, std::string_view value, size_t, size_t) {
    for (auto& known : all) {
      if (known.first == name) return static_cast<void>(known.second = value);
    }
    all.emplace_back(name, value);
  });
  return all;
}

void append_property(std::string& properties, std::string_view name, std::string_view value) {
  if (name.empty() || value.empty()) return;
  end_last(properties);
  properties.append(name);
  properties += kNameValueSeparator;
  properties.append(value);
  properties += kPropertySeparator;
}

void append_properties(std::string& properties, std::string_view more) {
  if (more.empty()) return;
  end_last(properties);
  properties.append(more);
}

void remove_property(std::string& properties, std::string_view name) {
  std::string kept;
  size_t done = 0;
  each_part(properties, [&](std::string_view part_name, std::string_view, size_t begin, size_t end) {
    if (part_name != name) return;
    kept.append(properties, done, begin - done);
    done = end + 1;
  });
  if (done == 0) return;
  if (done < properties.size()) kept.append(properties, done, std::string::npos);
  properties = std::move(kept);
}

void set_property(std::string& properties, std::string_view name, std::string_view value) {
  remove_property(properties, name);
  append_property(properties, name, value);
}

Status check_properties(std::string_view properties) {
  if (properties.size() > kPropertiesBytesMax)
    return Error{Errc::kTooLarge,
                 fmt::format("properties of {} bytes, more than {}", properties.size(), kPropertiesBytesMax)};
  size_t wrong = std::string_view::npos;
  each_text(properties, [&](std::string_view part, size_t middle, size_t begin, size_t /*end*/) {
    // Java clients write empty values; they are dropped when read.
    if (!part.empty() && (middle == std::string_view::npos || middle == 0)) wrong = std::min(wrong, begin);
  });
  if (wrong == std::string_view::npos) return {};
  return Error{Errc::kInvalidArgument,
               fmt::format("properties: the part at byte {} is not a name, a separator and a value", wrong)};
}

Status check_property(std::string_view name, std::string_view value) {
  if (name.empty() || value.empty())
    return Error{Errc::kInvalidArgument, "a property needs a name and a value that are not empty"};
  if (has_separator(name) || has_separator(value))
    return Error{Errc::kInvalidArgument, fmt::format("property {:.100}: the bytes 1 and 2 separate properties", name)};
  return {};
}

}  // namespace apogee::message
