#include "common/base/text.h"

#include <fmt/format.h>

namespace apogee {

namespace {

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '%' || c == '|';
}

Status check_name(const char* what, std::string_view name, size_t bytes_max) {
  if (trim(name).empty()) return Error{Errc::kInvalidArgument, fmt::format("The specified {} is blank", what)};
  if (name.size() > bytes_max)
    return Error{Errc::kInvalidArgument,
                 fmt::format("The specified {} is longer than {} bytes: {:.200}", what, bytes_max, name)};
  for (char c : name) {
    if (is_name_char(c)) continue;
    return Error{
        Errc::kInvalidArgument,
        fmt::format("The specified {} contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$: {}", what, name)};
  }
  return {};
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::string_view trim(std::string_view text) {
  auto blank = [](char c) { return static_cast<unsigned char>(c) <= ' '; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> parts;
  while (true) {
    size_t end = separator.empty() ? std::string_view::npos : text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + separator.size());
  }
}

bool equals_ignore_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

Status check_topic_name(std::string_view topic) {
  bool of_group = is_retry_topic(topic) || is_dlq_topic(topic);
  return check_name("topic", topic, of_group ? kRetryTopicBytesMax : kTopicBytesMax);
}

Status check_group_name(std::string_view group) { return check_name("group", group, kGroupBytesMax); }

std::string retry_topic_of(std::string_view group) { return std::string(kRetryTopicPrefix).append(group); }
std::string reply_topic_of(std::string_view cluster) { return std::string(cluster) + "_REPLY_TOPIC"; }

std::string dlq_topic_of(std::string_view group) { return std::string(kDlqTopicPrefix).append(group); }

}  // namespace apogee
