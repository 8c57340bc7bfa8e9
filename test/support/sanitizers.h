#pragma once

// APOGEE_UNDER_SANITIZER: memory is larger than it would be, and time runs slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define APOGEE_UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define APOGEE_UNDER_SANITIZER 1
#endif
#endif
