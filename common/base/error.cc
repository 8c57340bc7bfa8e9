#include "apogee/error.h"

namespace apogee {

const char* to_string(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument: return "invalid argument";
    case Errc::kNotFound: return "not found";
    case Errc::kAlreadyExists: return "already exists";
    case Errc::kPermission: return "no permission";
    case Errc::kTooLarge: return "too large";
    case Errc::kBusy: return "busy";
    case Errc::kClosed: return "closed";
    case Errc::kTimeout: return "timed out";
    case Errc::kNetwork: return "network error";
    case Errc::kIo: return "I/O error";
    case Errc::kDiskFull: return "disk full";
    case Errc::kCorrupt: return "corrupt";
    case Errc::kUnsupported: return "not supported";
    case Errc::kBroker: return "refused by the peer";
    case Errc::kInternal: return "internal error";
  }
  return "unknown error";
}

}  // namespace apogee
