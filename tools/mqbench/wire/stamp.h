#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace mqbench {

/// The head of every body that mqbench sends, little-endian:
///   0 magic u32 | 4 run u32 | 8 producer u32 | 12 body bytes u32 | 16 sequence u64 | 24 intended start i64 (ns of the
///   steady clock) | 32 XXH3 of the 32 bytes before, seeded with the XXH3 of everything behind the stamp
struct Stamp {
  static constexpr uint32_t kMagic = 0x4D514231;
  static constexpr size_t kBytes = 40;

  uint32_t magic = kMagic;
  uint32_t run = 0;  ///< random, the same for everything that one mqbench sends
  uint32_t producer = 0;
  uint32_t body_bytes = 0;
  uint64_t sequence = 0;
  int64_t intended_ns = 0;
  uint64_t checksum = 0;
};
static_assert(sizeof(Stamp) == Stamp::kBytes);

enum class BodyCheck : uint8_t { kGood, kForeign, kDamaged };

/// The hash of what follows the stamp in a body.
[[nodiscard]] uint64_t hash_filler(std::string_view filler);
/// Writes the stamp with its checksum to the beginning of a body.
void write_stamp(Stamp stamp, uint64_t filler_hash, char* to);
/// Reads and checks the whole body. kForeign: it is none of ours.
[[nodiscard]] BodyCheck check_body(std::string_view body, Stamp& stamp);

}  // namespace mqbench
