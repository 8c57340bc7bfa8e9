#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::message {

/// One message inside the body of SEND_BATCH_MESSAGE; views into that body.
struct BatchMessage {
  int32_t flag = 0;
  std::string_view body;
  std::string_view properties;
};

/// The messages in a body of SEND_BATCH_MESSAGE, one after another.
class BatchReader {
 public:
  explicit BatchReader(std::string_view body) : rest_(body) {}
  [[nodiscard]] bool at_end() const { return rest_.empty(); }
  /// nullptr: `to` is the next message; else what is wrong with it.
  [[nodiscard]] const char* next(BatchMessage& to);

 private:
  std::string_view rest_;
};

/// Error: kInvalidArgument, naming the field and the message's number. An empty body is an error too.
[[nodiscard]] Result<std::vector<BatchMessage>> decode_batch(std::string_view body);
/// Bytes that append_batch_message adds.
[[nodiscard]] size_t batch_message_bytes(const BatchMessage& message);
/// The caller has checked that the properties have at most kPropertiesBytesMax bytes.
void append_batch_message(std::string& to, const BatchMessage& message);

}  // namespace apogee::message
