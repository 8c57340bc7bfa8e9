#include "store/ha/ha_frames.h"

#include "common/base/check.h"
#include "store/ha/record_assembler.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::store;

namespace {

template <typename Parsed>
void look_at(const Parsed& parsed, size_t size) {
  // A frame lies within its bytes.
  APOGEE_CHECK(!parsed || !*parsed || ((*parsed)->bytes > 0 && (*parsed)->bytes <= size));
}

}  // namespace

int fuzz::ha_frames(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  look_at(parse_hello(bytes), size);
  look_at(parse_identity(bytes), size);
  look_at(parse_handshake(bytes), size);
  look_at(parse_proof(bytes), size);
  look_at(parse_ack(bytes), size);
  look_at(parse_challenge(bytes), size);
  look_at(parse_master_frame(bytes), size);
  look_at(parse_classic_report(bytes), size);
  look_at(parse_classic_transfer(bytes), size);
  // What a master sends as log, twice, so that damage is given out too.
  RecordAssembler assembler(4096);
  for (int round = 0; round < 2; ++round) {
    const auto begin = assembler.at();
    assembler.begin_at(begin);
    assembler.add(bytes.substr(static_cast<size_t>(begin)));
    for (;;) {
      const auto at = assembler.at();
      auto run = assembler.take(1 << 20);
      if (!run || !*run) break;
      // Nothing is lost, doubled or made up.
      APOGEE_CHECK((*run)->at == at && !(*run)->bytes.empty());
      APOGEE_CHECK((*run)->bytes == bytes.substr(static_cast<size_t>(at), (*run)->bytes.size()));
      APOGEE_CHECK(assembler.at() == at + static_cast<LogOffset>((*run)->bytes.size()));
    }
  }
  return 0;
}
