#pragma once

#include <cstddef>
#include <cstdint>

/// What the fuzzers feed, and what replay_test.cc feeds with the corpus. Each returns 0, and aborts where
/// a decoder breaks a promise; reading out of bounds and the like are the sanitizers' to find.
namespace fuzz {

int frame(const uint8_t* data, size_t size);
int json_bodies(const uint8_t* data, size_t size);
int records(const uint8_t* data, size_t size);
int batch(const uint8_t* data, size_t size);
int registration(const uint8_t* data, size_t size);
int properties_file(const uint8_t* data, size_t size);
int sql_filter(const uint8_t* data, size_t size);
int ha_frames(const uint8_t* data, size_t size);

}  // namespace fuzz
