#pragma once

#include <cstdio>
#include <cstdlib>

/// States what must hold unless we have a bug; ends the process otherwise, in release builds too.
#define APOGEE_CHECK(condition) \
  do { \
    if (!(condition)) { \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort(); \
    } \
  } while (false)
