#include "common/remoting/bodies/json_writer.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "common/remoting/json_scanner.h"

namespace apogee::remoting {

JsonWriter& JsonWriter::key(std::string_view name) {
  comma();
  append_json_string(out_, name);
  out_ += ':';
  return *this;
}

JsonWriter& JsonWriter::bare_key(int64_t number) {
  comma();
  fmt::format_to(std::back_inserter(out_), "{}:", number);
  return *this;
}

JsonWriter& JsonWriter::key(const MessageQueue& queue) {
  value(queue);
  comma_ = false;
  out_ += ':';
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  comma();
  append_json_string(out_, text);
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(int64_t number) {
  comma();
  fmt::format_to(std::back_inserter(out_), "{}", number);
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(bool yes) { return raw(yes ? "true" : "false"); }

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return raw("null");
  char buffer[64];
  double size = std::fabs(number);
  bool plain = size == 0 || (size >= 1e-3 && size < 1e7);
  auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, number, format);
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  size_t exponent = text.find('e');
  std::string out(text.substr(0, exponent));
  if (out.find('.') == std::string::npos) out += ".0";
  if (exponent != std::string_view::npos) {
    std::string_view digits = text.substr(exponent + 1);
    out += 'E';
    if (digits[0] == '-') out += '-';
    digits.remove_prefix(1);
    while (digits.size() > 1 && digits[0] == '0') digits.remove_prefix(1);
    out += digits;
  }
  return raw(out);
}

JsonWriter& JsonWriter::value(const MessageQueue& queue) {
  begin_object();
  member("brokerName", queue.broker_name).member("queueId", queue.queue_id).member("topic", queue.topic);
  return end_object();
}

JsonWriter& JsonWriter::value(const std::vector<std::string>& texts) {
  begin_array();
  for (const auto& text : texts) value(text);
  return end_array();
}

JsonWriter& JsonWriter::value(const std::map<std::string, std::string>& table) {
  begin_object();
  for (const auto& [name, text] : table) member(name, text);
  return end_object();
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  comma();
  out_ += json;
  comma_ = true;
  return *this;
}

}  // namespace apogee::remoting
