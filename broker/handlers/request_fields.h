#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "common/remoting/command.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// Reads the header fields of one request. The first field that is missing or is not what it should be makes the
/// remark; what is read afterwards may be anything.
class RequestFields {
 public:
  explicit RequestFields(const remoting::Command& request) : ext_(request.ext) {}

  std::string text(std::string_view name);                        ///< must be there and not be blank
  std::string text_or(std::string_view name, const char* other);  ///< blank counts as absent
  int32_t i32(std::string_view name);
  int32_t i32_or(std::string_view name, int32_t other);
  int64_t i64(std::string_view name);
  int64_t i64_or(std::string_view name, int64_t other);
  bool boolean(std::string_view name);
  bool boolean_or(std::string_view name, bool other);

  /// Makes `why` the remark unless something was wrong before.
  void reject(std::string why);
  [[nodiscard]] bool ok() const { return remark_.empty(); }
  [[nodiscard]] const std::string& remark() const { return remark_; }

 private:
  template <typename Int>
  Int integer(std::string_view name, bool required, Int other);
  const remoting::ExtFields& ext_;
  std::string remark_;
};

/// Answers with a code and why.
void refuse(const remoting::Command& request, const remoting::Responder& respond, int32_t code, std::string remark);
/// Answers 29 with the fields' remark.
void refuse(const remoting::Command& request, const remoting::Responder& respond, const RequestFields& fields);
/// Answers with the code that the protocol has for the error: 29 for an argument, 17 or 26 are the caller's to choose.
void refuse(const remoting::Command& request, const remoting::Responder& respond, const Error& error);
/// Answers 29: the body could not be read; the remark says which body and why.
void refuse_body(const remoting::Command& request, const remoting::Responder& respond, const char* what,
                 const Error& error);
/// Answers 0, with a body where that is not empty.
void accept(const remoting::Command& request, const remoting::Responder& respond, std::string body = {});

}  // namespace apogee::broker
