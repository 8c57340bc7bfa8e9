#include "common/message/batch.h"

#include <fmt/format.h>

#include "common/base/bytes.h"

namespace apogee::message {

namespace {
constexpr size_t kFixedBytes = 4 + 4 + 4 + 4 + 4 + 2;
}

const char* BatchReader::next(BatchMessage& to) {
  constexpr size_t kFlagPosition = 12, kBodyPosition = 20;
  const char* at = rest_.data();
  if (rest_.size() < kFixedBytes) return "the body ends inside of it";
  const auto announced = load_be<int32_t>(at);  // magic and CRC behind it are left at 0 by clients
  if (announced < 0 || static_cast<size_t>(announced) < kFixedBytes || static_cast<size_t>(announced) > rest_.size())
    return "total length";
  const auto total = static_cast<size_t>(announced);
  to.flag = load_be<int32_t>(at + kFlagPosition);
  const auto body_bytes = load_be<int32_t>(at + kBodyPosition - sizeof(int32_t));
  const size_t variable = total - kFixedBytes;
  if (body_bytes < 0 || static_cast<size_t>(body_bytes) > variable + sizeof(int16_t)) return "body length";
  to.body = rest_.substr(kBodyPosition, static_cast<size_t>(body_bytes));
  if (static_cast<size_t>(body_bytes) > variable) return "properties length";
  const auto properties_bytes = load_be<int16_t>(at + kBodyPosition + to.body.size());
  if (properties_bytes < 0 || static_cast<size_t>(properties_bytes) != variable - to.body.size())
    return "properties length";
  to.properties = rest_.substr(kFixedBytes + to.body.size(), static_cast<size_t>(properties_bytes));
  rest_.remove_prefix(total);
  return nullptr;
}

Result<std::vector<BatchMessage>> decode_batch(std::string_view body) {
  std::vector<BatchMessage> messages;
  auto wrong = [&](const char* field) {
    return Error{Errc::kInvalidArgument, fmt::format("batch message {}: {}", messages.size(), field)};
  };
  if (body.empty()) return wrong("the body is empty");
  for (BatchReader in(body); !in.at_end();)
    if (const char* why = in.next(messages.emplace_back())) {
      messages.pop_back();
      return wrong(why);
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
