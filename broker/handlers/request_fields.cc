#include "broker/handlers/request_fields.h"

#include <utility>

#include "common/base/text.h"

namespace apogee::broker {

namespace code = remoting::response_code;

void RequestFields::reject(std::string why) {
  if (remark_.empty()) remark_ = std::move(why);
}

std::string RequestFields::text(std::string_view name) {
  auto value = ext_.get(name);
  if (!value || trim(*value).empty()) {
    reject("the header field " + std::string(name) + " is missing or blank");
    return {};
  }
  return std::string(*value);
}

std::string RequestFields::text_or(std::string_view name, const char* other) {
  auto value = ext_.get(name);
  return value && !trim(*value).empty() ? std::string(*value) : std::string(other);
}

template <typename Int>
Int RequestFields::integer(std::string_view name, bool required, Int other) {
  auto text = ext_.get(name);
  if (!text || (text->empty() && !required)) {
    if (required) reject("the header field " + std::string(name) + " is missing");
    return other;
  }
  auto value = ext_.get_int<Int>(name);
  if (!value)
    reject("the header field " + std::string(name) + " is no " + (sizeof(Int) == 4 ? "32" : "64") +
           " bit number: " + std::string(text->substr(0, 40)));
  return value.value_or(other);
}

int32_t RequestFields::i32(std::string_view name) { return integer<int32_t>(name, true, 0); }
int32_t RequestFields::i32_or(std::string_view name, int32_t other) { return integer<int32_t>(name, false, other); }
int64_t RequestFields::i64(std::string_view name) { return integer<int64_t>(name, true, 0); }
int64_t RequestFields::i64_or(std::string_view name, int64_t other) { return integer<int64_t>(name, false, other); }

bool RequestFields::boolean(std::string_view name) {
  auto value = ext_.get_bool(name);
  if (!value) reject("the header field " + std::string(name) + " is missing");
  return value.value_or(false);
}

bool RequestFields::boolean_or(std::string_view name, bool other) { return ext_.get_bool(name).value_or(other); }

void refuse(const remoting::Command& request, const remoting::Responder& respond, int32_t code, std::string remark) {
  respond(remoting::Command::response_to(request, code, std::move(remark)));
}

void refuse(const remoting::Command& request, const remoting::Responder& respond, const RequestFields& fields) {
  refuse(request, respond, code::kInvalidParameter, fields.remark());
}

void refuse(const remoting::Command& request, const remoting::Responder& respond, const Error& error) {
  int32_t answer = code::kSystemError;
  if (error.code == Errc::kInvalidArgument) answer = code::kInvalidParameter;
  if (error.code == Errc::kPermission) answer = code::kInvalidParameter;
  if (error.code == Errc::kBusy) answer = code::kSystemBusy;
  if (error.code == Errc::kDiskFull) answer = code::kServiceNotAvailable;
  refuse(request, respond, answer, error.message);
}

void refuse_body(const remoting::Command& request, const remoting::Responder& respond, const char* what,
                 const Error& error) {
  refuse(request, respond, code::kInvalidParameter,
         std::string("the body is no ") + what + ": " + (request.body.empty() ? "it is empty" : error.message));
}

std::optional<std::string> required_text(const remoting::Command& request, const remoting::Responder& respond,
                                         std::string_view name) {
  RequestFields fields(request);
  std::string text = fields.text(name);
  if (fields.ok()) return text;
  refuse(request, respond, fields);
  return std::nullopt;
}

std::optional<Page> page_of(const remoting::Command& request, const remoting::Responder& respond,
                            const std::string& first_field, const std::string& count_field,
                            const remoting::DataVersion& version) {
  RequestFields fields(request);
  const int32_t first = fields.i32_or(first_field, 0);
  const int32_t count_max = fields.i32_or(count_field, 0);
  if (first < 0) fields.reject("the header field " + first_field + " is negative");
  if (count_max < 0) fields.reject("the header field " + count_field + " is negative");
  if (!fields.ok()) {
    refuse(request, respond, fields);
    return std::nullopt;
  }
  if (count_max == 0) return Page{};
  bool changed = false;
  if (auto text = request.ext.get("dataVersion"))
    if (auto known = remoting::decode_data_version(*text)) changed = *known != version;
  return Page{changed ? 0 : static_cast<size_t>(first), static_cast<size_t>(count_max)};
}

void accept(const remoting::Command& request, const remoting::Responder& respond, std::string body) {
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  if (!body.empty()) response.body = SharedBytes::from(std::move(body));
  respond(std::move(response));
}

}  // namespace apogee::broker
