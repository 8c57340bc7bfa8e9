#include "tools/mqbench/wire/stamp.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace mqbench {

namespace {
constexpr size_t kHashed = offsetof(Stamp, checksum);
}

uint64_t hash_filler(std::string_view filler) { return XXH3_64bits(filler.data(), filler.size()); }

void write_stamp(Stamp stamp, uint64_t filler_hash, char* to) {
  std::memcpy(to, &stamp, kHashed);
  stamp.checksum = XXH3_64bits_withSeed(to, kHashed, filler_hash);
  std::memcpy(to + kHashed, &stamp.checksum, sizeof stamp.checksum);
}

BodyCheck check_body(std::string_view body, Stamp& stamp) {
  if (body.size() < Stamp::kBytes) return BodyCheck::kForeign;
  std::memcpy(&stamp, body.data(), Stamp::kBytes);
  if (stamp.magic != Stamp::kMagic) return BodyCheck::kForeign;
  if (stamp.body_bytes != body.size()) return BodyCheck::kDamaged;
  const auto filler = hash_filler(body.substr(Stamp::kBytes));
  return XXH3_64bits_withSeed(body.data(), kHashed, filler) == stamp.checksum ? BodyCheck::kGood : BodyCheck::kDamaged;
}

}  // namespace mqbench
