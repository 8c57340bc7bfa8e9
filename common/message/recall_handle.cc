#include "common/message/recall_handle.h"

#include <charconv>
#include <vector>

#include "common/base/base64.h"
#include "common/base/text.h"

namespace apogee::message {

namespace {
constexpr std::string_view kVersion = "v1";
constexpr size_t kParts = 5;
}  // namespace

std::string encode_recall_handle(const RecallHandle& handle) {
  std::string text(kVersion);
  for (const auto& part : {handle.topic, handle.broker_name, std::to_string(handle.due_ms), handle.unique_id}) {
    if (part.empty() || part.find(' ') != std::string::npos) return {};
    text += ' ';
    text += part;
  }
  return to_base64url(text);
}

Result<RecallHandle> decode_recall_handle(std::string_view text) {
  const Error invalid{Errc::kInvalidArgument, "recall handle is invalid"};
  const auto bytes = from_base64url(text);
  if (!bytes) return invalid;
  const auto parts = split(*bytes, " ");
  if (parts.size() < kParts || parts[0] != kVersion) return invalid;
  RecallHandle handle{std::string(parts[1]), std::string(parts[2]), -1, std::string(parts[4])};
  if (handle.topic.empty() || handle.broker_name.empty() || handle.unique_id.empty()) return invalid;
  const auto number = parts[3];
  int64_t due_ms = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), due_ms);
  if (error == std::errc() && end == number.data() + number.size()) handle.due_ms = due_ms;
  return handle;
}

}  // namespace apogee::message
