#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "common/remoting/bodies/topic_bodies.h"
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
/// The one field that a request needs; nullopt when it is missing or blank, after the request was refused.
[[nodiscard]] std::optional<std::string> required_text(const remoting::Command& request,
                                                       const remoting::Responder& respond, std::string_view name);
/// Which part of a table a request wants: whole, without a maximum. The fields are named as the requests of 5.x have
/// them ("topicSeq", "maxTopicNum"); a table that is not of the version in "dataVersion" any more begins again.
struct Page {
  size_t first = 0;
  size_t count_max = SIZE_MAX;
  /// Whether the next row, of which there were `seen` before, belongs to the page.
  [[nodiscard]] bool holds(size_t seen) const { return seen >= first && seen - first < count_max; }
};
/// nullopt after the request was refused.
[[nodiscard]] std::optional<Page> page_of(const remoting::Command& request, const remoting::Responder& respond,
                                          const std::string& first_field, const std::string& count_field,
                                          const remoting::DataVersion& version);
/// Answers 0, with a body where that is not empty.
void accept(const remoting::Command& request, const remoting::Responder& respond, std::string body = {});

}  // namespace apogee::broker
