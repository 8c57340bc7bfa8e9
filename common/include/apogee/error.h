#pragma once

#include <string>
#include <utility>

namespace apogee {

/// What went wrong, as far as a caller acts on it; everything else is in the message text.
/// A new value is added only where some caller branches on it.
enum class Errc {
  kInvalidArgument,  ///< the input is wrong; the message names the field
  kNotFound,         ///< no such topic, group, queue, message, file or key
  kAlreadyExists,    ///< the thing to be created, or a lock on it, exists
  kPermission,       ///< not readable, not writable, or not allowed
  kTooLarge,         ///< beyond a limit; the message names the limit
  kBusy,             ///< overloaded; trying again later may succeed
  kClosed,           ///< the object, connection or process is shutting down
  kTimeout,          ///< the deadline passed; whether the peer acted is not known
  kNetwork,          ///< connect, read or write failed
  kIo,               ///< the file system failed; the message names the path
  kDiskFull,         ///< no room on the file system
  kCorrupt,          ///< bytes that cannot be what they should be; the message names the place
  kUnsupported,      ///< known to the protocol or the format, but not done here
  kBroker,           ///< a peer answered with an error code; see Error::response_code
  kInternal,         ///< a bug of ours or of a library
};

/// An error as a value: what kind, what to tell a person, and what the peer answered.
struct Error {
  Errc code = Errc::kInternal;
  std::string message;
  /// Response code of the RocketMQ protocol when a peer answered with one, else -1.
  int response_code = -1;

  Error() = default;
  Error(Errc c, std::string m) : code(c), message(std::move(m)) {}
  Error(Errc c, std::string m, int response) : code(c), message(std::move(m)), response_code(response) {}
};

/// The constant's name in plain words, such as "not found".
const char* to_string(Errc code);

}  // namespace apogee
