#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "apogee/message_queue.h"
#include "apogee/result.h"

namespace apogee::remoting {

struct JsonLimits {
  size_t bytes_max = 64 * 1024 * 1024;
  int depth_max = 64;
};

/// Reads JSON and everything else that Java's fastjson reads and writes: bare and single-quoted member names,
/// bare integer keys, whole objects as keys (they become their compact JSON text), additional commas, NaN (null),
/// trailing white space. Of members of one name the last one counts. Errors: kInvalidArgument with the byte where it
/// stops to make sense; kTooLarge. Nothing is thrown.
[[nodiscard]] Result<nlohmann::json> read_json(std::string_view text, const JsonLimits& limits = {});

// Access that is as tolerant: a missing member, null or a value that cannot be meant yields the fallback.
[[nodiscard]] int64_t json_int(const nlohmann::json& object, const char* name, int64_t fallback);  ///< also from text
[[nodiscard]] double json_double(const nlohmann::json& object, const char* name, double fallback);
[[nodiscard]] bool json_bool(const nlohmann::json& object, const char* name, bool fallback);
[[nodiscard]] std::string json_text(const nlohmann::json& object, const char* name, std::string_view fallback);

/// Reads a MessageQueue from an object, or from the text of a map key.
[[nodiscard]] MessageQueue json_message_queue(const nlohmann::json& object);
[[nodiscard]] Result<MessageQueue> message_queue_from_key(const std::string& key);

}  // namespace apogee::remoting
