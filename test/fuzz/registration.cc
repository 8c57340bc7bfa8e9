#include "common/base/check.h"
#include "common/message/compression.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::remoting;

// The first byte picks the version; the rest is taken as a compressed body and, since a mutated zlib stream
// seldom inflates, as what would be inside of one.
int fuzz::registration(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  int32_t version = (data[0] & 1) != 0 ? 479 : 409;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  decode_compressed_register_broker_body(bytes, version).ignore("most streams are broken");
  auto packed = message::compress(message::Compression::kZlib, bytes, 1);
  // Any bytes can be compressed.
  APOGEE_CHECK(packed.has_value());
  auto body = decode_compressed_register_broker_body(*packed, version);
  if (!body) return 0;
  auto again = decode_compressed_register_broker_body(encode_compressed(*body, version), version);
  // An encoded registration can be decoded.
  APOGEE_CHECK(again.has_value());
  return 0;
}
