#include "common/base/check.h"
#include "common/base/hash.h"
#include "common/message/compression.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::message;

namespace {

void look_at_properties(std::string_view text) {
  check_properties(text).ignore("whatever it is, the rest must bear it");
  for (auto [name, value] : parse_properties(text))
    // A parsed property is found.
    APOGEE_CHECK(find_property(text, name) == value);
  std::string changed(text);
  set_property(changed, "KEYS", "k");
  // A property that was set is found.
  APOGEE_CHECK(find_property(changed, "KEYS") == "k");
  remove_property(changed, "KEYS");
  // A removed property is gone.
  APOGEE_CHECK(!find_property(changed, "KEYS"));
  (void)java_string_hash(text);
}

void look_at_record(std::string_view bytes) {
  auto record = decode_record(bytes);
  if (!record) return;
  // A record lies within its bytes.
  APOGEE_CHECK(record->bytes.size() <= bytes.size());
  (void)body_crc_matches(*record);
  (void)to_string(record->born_host);
  (void)encode_offset_message_id(record->store_host, record->physical_offset);
  if (auto type = compression_of(record->sys_flag))
    decompress(*type, record->body, 1 << 20).ignore("most bodies are not compressed");
  look_at_properties(record->properties);
}

}  // namespace

int fuzz::records(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  look_at_properties(bytes);
  look_at_record(bytes);
  if (auto records = split_records(bytes)) {
    for (auto record : *records) look_at_record(record);
  }
  decode_offset_message_id(bytes).ignore("any text may come as an id");
  return 0;
}
