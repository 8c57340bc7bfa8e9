#pragma once

// The one place where the test framework comes in.
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace apogee::test {

inline const std::thread::id kMainThread = std::this_thread::get_id();

/// Catch2's assertions write shared state without a lock, and a failed REQUIRE throws: both are for the main thread
/// alone. Other threads collect what they saw, and the main thread checks it after it has waited for them.
inline void assert_main_thread(const char* file, int line) {
  if (std::this_thread::get_id() == kMainThread) return;
  std::fprintf(stderr, "%s:%d: an assertion of a test outside the main thread\n", file, line);
  std::_Exit(EXIT_FAILURE);  // not abort(): Catch2 would report the signal, from this thread
}

}  // namespace apogee::test

#undef CHECK
#undef CHECK_FALSE
#undef REQUIRE
#undef REQUIRE_FALSE
#define APOGEE_TEST_ASSERTION(name, disposition, ...) \
  do { \
    ::apogee::test::assert_main_thread(__FILE__, __LINE__); \
    INTERNAL_CATCH_TEST(name, disposition, __VA_ARGS__); \
  } while (false)
#define CHECK(...) APOGEE_TEST_ASSERTION("CHECK", Catch::ResultDisposition::ContinueOnFailure, __VA_ARGS__)
#define CHECK_FALSE(...) \
  APOGEE_TEST_ASSERTION( \
      "CHECK_FALSE", Catch::ResultDisposition::ContinueOnFailure | Catch::ResultDisposition::FalseTest, __VA_ARGS__)
#define REQUIRE(...) APOGEE_TEST_ASSERTION("REQUIRE", Catch::ResultDisposition::Normal, __VA_ARGS__)
#define REQUIRE_FALSE(...) \
  APOGEE_TEST_ASSERTION("REQUIRE_FALSE", Catch::ResultDisposition::Normal | Catch::ResultDisposition::FalseTest, \
                        __VA_ARGS__)
