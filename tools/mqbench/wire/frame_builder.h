#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/mqbench/wire/answer.h"

namespace mqbench {

enum class HeaderType : uint8_t { kJson = 0, kBinary = 1 };

using Fields = std::vector<std::pair<std::string, std::string>>;

/// A request's frame whose opaque can be patched in place.
struct RequestFrame {
  std::string bytes;  ///< all of it, or only length and header when the body is written by the sender
  size_t opaque_at = 0;
  HeaderType type = HeaderType::kJson;
};

/// Builds length, header word and header; body_bytes counts in the length. The opaque is kOpaqueFirst.
[[nodiscard]] RequestFrame build_request(HeaderType type, int code, bool one_way, const Fields& fields,
                                         size_t body_bytes);
/// opaque: at least kOpaqueFirst.
void patch_opaque(char* frame, size_t opaque_at, HeaderType type, uint32_t opaque);
/// Exactly so many decimal digits, zeros in front.
void write_digits(char* to, uint64_t number, int digits);
/// Upper-case hexadecimal digits.
void write_hex(char* to, uint64_t number, int digits);

/// What the messages of a load look like.
struct MessageShape {
  size_t body_bytes = 1'024;
  size_t batch = 1;         ///< messages of a frame
  bool keys = false;        ///< each message has a key of its own
  bool unique_key = false;  ///< UNIQ_KEY, as the SDKs send it
  std::vector<std::string> tags = {};
  size_t properties = 0;  ///< further user properties of 16 bytes
  bool one_way = false;
  HeaderType header = HeaderType::kJson;
};

/// The frames to one queue, built once: what differs from message to message has a fixed width and is patched.
/// A frame is `head` and behind it `MessageBodies::bytes`.
struct SendHead {
  RequestFrame request;
  size_t born_at = 0;           ///< 13 digits
  std::vector<size_t> keys_at;  ///< 24 hexadecimal digits each
};
struct MessageBodies {
  std::string bytes;  ///< one body, or the records of a batch
  struct Part {
    size_t body_at = 0;           ///< of its stamp
    std::vector<size_t> keys_at;  ///< in a batch, properties stand here
  };
  std::vector<Part> parts;
  uint64_t filler_hash = 0;
};
/// How much of a key is patched: the producer and the sequence.
inline constexpr int kKeyDigits = 24;

[[nodiscard]] MessageBodies build_bodies(const MessageShape& shape, uint32_t run, const std::string& tag);
[[nodiscard]] SendHead build_send_head(const MessageShape& shape, uint32_t run, const std::string& tag,
                                       const std::string& group, const std::string& topic, int queue_id,
                                       const std::string& broker_name, size_t body_bytes);

}  // namespace mqbench
