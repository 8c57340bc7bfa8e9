#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee {

/// Without ASCII white space and control characters at both ends, as Java's String.trim.
[[nodiscard]] std::string_view trim(std::string_view text);
/// All parts, empty ones too; one empty part for an empty text. The views live as long as the text.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, std::string_view separator);
[[nodiscard]] bool equals_ignore_case(std::string_view a, std::string_view b);  ///< ASCII
[[nodiscard]] bool is_utf8(std::string_view text);
/// The same text with U+FFFD in place of each byte that is not UTF-8, as Java decodes it.
[[nodiscard]] std::string to_valid_utf8(std::string_view text);

inline constexpr size_t kTopicBytesMax = 127;
inline constexpr size_t kRetryTopicBytesMax = 255;  ///< of %RETRY% and %DLQ% topics
inline constexpr size_t kGroupBytesMax = 120;
inline constexpr std::string_view kRetryTopicPrefix = "%RETRY%";
inline constexpr std::string_view kDlqTopicPrefix = "%DLQ%";

/// Whether a topic has a legal name: not blank, not too long, only [%|a-zA-Z0-9_-].
/// Error: kInvalidArgument; the message says what is wrong, fit for a remark.
[[nodiscard]] Status check_topic_name(std::string_view topic);
/// The same for a consumer or producer group.
[[nodiscard]] Status check_group_name(std::string_view group);

[[nodiscard]] std::string retry_topic_of(std::string_view group);
[[nodiscard]] std::string dlq_topic_of(std::string_view group);
/// Where replies to requests of a cluster go.
[[nodiscard]] std::string reply_topic_of(std::string_view cluster);
[[nodiscard]] inline bool is_retry_topic(std::string_view topic) {
  return topic.substr(0, kRetryTopicPrefix.size()) == kRetryTopicPrefix;
}
[[nodiscard]] inline bool is_dlq_topic(std::string_view topic) {
  return topic.substr(0, kDlqTopicPrefix.size()) == kDlqTopicPrefix;
}

}  // namespace apogee
