#include "test/fuzz/targets.h"

// One executable a target; FUZZ_TARGET comes from CMake.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { return fuzz::FUZZ_TARGET(data, size); }
