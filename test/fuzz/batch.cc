#include "common/message/batch.h"

#include "common/base/check.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::message;

int fuzz::batch(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto messages = decode_batch(bytes);
  if (!messages) return 0;
  std::string again;
  for (const auto& message : *messages) append_batch_message(again, message);
  // The messages of a batch fill it.
  APOGEE_CHECK(again.size() == bytes.size());
  return 0;
}
