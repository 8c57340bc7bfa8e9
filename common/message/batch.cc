#include "common/message/batch.h"

#include <fmt/format.h>

#include "common/base/bytes.h"

namespace apogee::message {

namespace {
constexpr size_t kFixedBytes = 4 + 4 + 4 + 4 + 4 + 2;
}

Result<std::vector<BatchMessage>> decode_batch(std::string_view body) {
  std::vector<BatchMessage> messages;
  auto wrong = [&](const char* field) {
    return Error{Errc::kInvalidArgument, fmt::format("batch message {}: {}", messages.size(), field)};
  };
  if (body.empty()) return wrong("the body is empty");
  while (!body.empty()) {
    if (body.size() < kFixedBytes) return wrong("the body ends inside of it");
    auto total = load_be<int32_t>(body.data());
    if (total < 0 || static_cast<size_t>(total) < kFixedBytes || static_cast<size_t>(total) > body.size())
      return wrong("total length");
    ByteReader in(body.substr(0, static_cast<size_t>(total)));
    in.take(12);  // total length, magic and CRC, which clients leave at 0
    BatchMessage message;
    message.flag = in.read<int32_t>();
    auto body_bytes = in.read<int32_t>();
    if (body_bytes < 0 || static_cast<size_t>(body_bytes) > in.remaining()) return wrong("body length");
    message.body = in.take(static_cast<size_t>(body_bytes));
    auto properties_bytes = in.read<int16_t>();
    if (!in.ok() || properties_bytes < 0) return wrong("properties length");
    message.properties = in.take(static_cast<size_t>(properties_bytes));
    if (!in.ok() || in.remaining() != 0) return wrong("properties length");
    messages.push_back(message);
    body.remove_prefix(static_cast<size_t>(total));
  }
  return messages;
}

size_t batch_message_bytes(const BatchMessage& message) {
  return kFixedBytes + message.body.size() + message.properties.size();
}

void append_batch_message(std::string& to, const BatchMessage& message) {
  append_be<int32_t>(to, static_cast<int32_t>(batch_message_bytes(message)));
  append_be<int32_t>(to, 0);
  append_be<int32_t>(to, 0);
  append_be<int32_t>(to, message.flag);
  append_be<int32_t>(to, static_cast<int32_t>(message.body.size()));
  to.append(message.body);
  append_be<int16_t>(to, static_cast<int16_t>(message.properties.size()));
  to.append(message.properties);
}

}  // namespace apogee::message
