#include "common/base/process.h"

#include <malloc.h>

#include <cstdlib>

#include "test/support/catch.h"
#include "test/support/sanitizers.h"

#ifndef APOGEE_UNDER_SANITIZER  // they bring an allocator of their own
TEST_CASE("large buffers go back to the system also when others were freed before", "[process]") {
  apogee::return_large_buffers();
  constexpr size_t kBytes = 8 << 20;
  const size_t before = ::mallinfo2().hblkhd;
  for (int i = 0; i < 2; ++i) {
    void* buffer = std::malloc(kBytes);
    REQUIRE(buffer != nullptr);
    CHECK(::mallinfo2().hblkhd >= before + kBytes);  // a mapping of its own
    std::free(buffer);
    CHECK(::mallinfo2().hblkhd < before + kBytes);
  }
}
#endif
