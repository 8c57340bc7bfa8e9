#include "common/message/message_id.h"

#include <ctime>

#include "common/base/bytes.h"
#include "common/base/hex.h"

namespace apogee::message {

namespace {

constexpr size_t kIdDigitsV4 = 32;
constexpr size_t kIdDigitsV6 = 56;

/// First day of the month `months_later` months after the one of now_ms, 00:00 local time.
int64_t month_begin_ms(int64_t now_ms, int months_later) {
  time_t seconds = now_ms / 1000;
  tm parts{};
  localtime_r(&seconds, &parts);
  tm begin{};
  begin.tm_year = parts.tm_year;
  begin.tm_mon = parts.tm_mon + months_later;
  begin.tm_mday = 1;
  begin.tm_isdst = -1;
  return static_cast<int64_t>(mktime(&begin)) * 1000;
}

}  // namespace

std::string encode_offset_message_id(const HostView& store_host, int64_t physical_offset) {
  std::string bytes(store_host.ip_bytes);
  append_be<int32_t>(bytes, store_host.port);
  append_be<int64_t>(bytes, physical_offset);
  return to_hex(bytes);
}

Result<OffsetMessageId> decode_offset_message_id(std::string_view id) {
  std::optional<std::string> bytes;
  if (id.size() == kIdDigitsV4 || id.size() == kIdDigitsV6) bytes = from_hex(id);
  if (!bytes) return Error{Errc::kInvalidArgument, "an offset message id has 32 or 56 hexadecimal digits"};
  OffsetMessageId out;
  size_t ip_size = bytes->size() - 12;
  out.ip_bytes = bytes->substr(0, ip_size);
  out.port = load_be<int32_t>(bytes->data() + ip_size);
  out.physical_offset = load_be<int64_t>(bytes->data() + ip_size + 4);
  return out;
}

UniqueIdGenerator::UniqueIdGenerator(std::string_view ip_bytes, int64_t process_id, int32_t discriminator) {
  std::string bytes(ip_bytes);
  append_be<uint16_t>(bytes, static_cast<uint16_t>(process_id));
  append_be<int32_t>(bytes, discriminator);
  prefix_ = to_hex(bytes);
}

int64_t UniqueIdGenerator::month_start_ms(int64_t now_ms) {
  int64_t start = month_start_ms_.load(std::memory_order_acquire);
  if (now_ms >= start && now_ms < next_month_start_ms_.load(std::memory_order_acquire)) return start;
  start = month_begin_ms(now_ms, 0);
  next_month_start_ms_.store(month_begin_ms(now_ms, 1), std::memory_order_release);
  month_start_ms_.store(start, std::memory_order_release);
  return start;
}

std::string UniqueIdGenerator::next(int64_t now_ms) {
  std::string id;
  append_next(now_ms, id);
  return id;
}

void UniqueIdGenerator::append_next(int64_t now_ms, std::string& to) {
  std::string tail;  // six bytes, which take no memory
  append_be<int32_t>(tail, static_cast<int32_t>(now_ms - month_start_ms(now_ms)));
  append_be<uint16_t>(tail, counter_.fetch_add(1, std::memory_order_relaxed));
  to += prefix_;
  to += to_hex(tail);
}

Result<int64_t> time_of_unique_id(std::string_view id, int64_t now_ms) {
  std::optional<std::string> bytes;
  if (id.size() == kIdDigitsV4 || id.size() == kIdDigitsV6) bytes = from_hex(id);
  if (!bytes) return Error{Errc::kInvalidArgument, "a unique message id has 32 or 56 hexadecimal digits"};
  auto since_month = load_be<int32_t>(bytes->data() + bytes->size() - 6);
  int64_t time = month_begin_ms(now_ms, 0) + since_month;
  return time <= now_ms + 1000 ? time : month_begin_ms(now_ms, -1) + since_month;
}

}  // namespace apogee::message
