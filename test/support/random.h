#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace apogee::test {

/// The same numbers for the same seed, on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t next() { return engine_(); }
  /// 0 to limit - 1; 0 when there is none.
  int64_t below(int64_t limit) {
    return limit <= 0 ? 0 : static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit));
  }
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
  bool chance(double probability) { return static_cast<double>(engine_() >> 11) * 0x1p-53 < probability; }
  std::string bytes(size_t count) {
    std::string made(count, '\0');
    for (char& each : made) each = static_cast<char>(engine_());
    return made;
  }

 private:
  std::mt19937_64 engine_;
};

/// Whether the long form was asked for: APOGEE_SOAK=1.
inline bool is_soak() { return std::getenv("APOGEE_SOAK") != nullptr; }

/// The seed of a run, printed: APOGEE_SEED, else a new one in the long form, else always the same.
inline uint64_t run_seed(const char* test) {
  const char* given = std::getenv("APOGEE_SEED");
  uint64_t seed = given ? std::strtoull(given, nullptr, 10) : is_soak() ? std::random_device()() : 20'260'721;
  std::printf("%s: APOGEE_SEED=%llu\n", test, static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return seed;
}

}  // namespace apogee::test
