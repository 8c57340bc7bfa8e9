#include "common/base/check.h"
#include "common/remoting/command_codec.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::remoting;

namespace {

bool same(const Command& a, const Command& b) {
  if (a.code != b.code || a.opaque != b.opaque || a.flag != b.flag || a.body.bytes != b.body.bytes) return false;
  if (a.ext.size() != b.ext.size()) return false;
  for (size_t i = 0; i < a.ext.size(); ++i) {
    if (b.ext.get(a.ext.name(i)) != a.ext.value(i)) return false;
  }
  return true;
}

}  // namespace

int fuzz::frame(const uint8_t* data, size_t size) {
  auto command = decode_frame(SharedBytes::from(std::string(reinterpret_cast<const char*>(data), size)));
  if (!command) {
    // An undecodable frame is corrupt.
    APOGEE_CHECK(command.error().code == Errc::kCorrupt);
    return 0;
  }
  (void)command->ext.get_int<int64_t>("queueId");
  (void)command->ext.get_bool("batch");
  // The binary header has sixteen bits for the code and 64 KiB for a name.
  if (command->serialize == SerializeType::kJson) {
    auto again = decode_frame(SharedBytes::from(encode_frame_to_string(*command).substr(kFrameLengthBytes)));
    // An encoded command decodes to itself.
    APOGEE_CHECK(again.has_value() && same(*command, *again));
  } else {
    auto header = encode_header(*command);
    // A binary header has its fixed part.
    APOGEE_CHECK(header.size() >= 21);
  }
  return 0;
}
