#pragma once

#include <fmt/core.h>

#include <functional>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "common/remoting/command.h"

namespace apogee::nameserver {

/// What every handler is given: time in ms of a clock that never goes back.
using ClockMs = std::function<int64_t()>;

inline remoting::Command reply(const remoting::Command& request) {
  return remoting::Command::response_to(request, remoting::response_code::kSuccess);
}
inline remoting::Command reply_with_body(const remoting::Command& request, std::string body) {
  auto response = reply(request);
  response.body = SharedBytes::from(std::move(body));
  return response;
}
inline remoting::Command refusal(const remoting::Command& request, int32_t code, std::string remark) {
  return remoting::Command::response_to(request, code, std::move(remark));
}
inline remoting::Command refusal(const remoting::Command& request, const Error& error) {
  return refusal(request, remoting::response_code::kSystemError, error.message);
}

/// A field that must be there and not be empty. Error: kInvalidArgument naming it.
inline Result<std::string> required_text(const remoting::Command& request, std::string_view name) {
  auto value = request.ext.get(name);
  if (!value || value->empty())
    return Error{Errc::kInvalidArgument, fmt::format("the request lacks the field {}", name)};
  return std::string(*value);
}
/// Error: kInvalidArgument for an absent field and for one that is not a whole number.
inline Result<int64_t> required_int(const remoting::Command& request, std::string_view name) {
  APOGEE_TRY_ASSIGN(auto text, required_text(request, name));
  auto value = request.ext.get_int<int64_t>(name);
  if (!value) return Error{Errc::kInvalidArgument, fmt::format("the field {} is not a whole number: {}", name, text)};
  return *value;
}

/// Assigns a required field, or returns the refusal from the enclosing handler.
#define APOGEE_FIELD(target, request, getter, name) \
  APOGEE_FIELD_INNER(APOGEE_CONCAT(field_, __LINE__), target, request, getter, name)
#define APOGEE_FIELD_INNER(temporary, target, request, getter, name) \
  auto temporary = getter(request, name); \
  if (!temporary) return refusal(request, temporary.error()); \
  target = std::move(temporary).value()

}  // namespace apogee::nameserver
