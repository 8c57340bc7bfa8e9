#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "common/message/message_record.h"

namespace apogee::message {

/// Where a message lies: the broker that stores it and its physical offset there.
struct OffsetMessageId {
  std::string ip_bytes;  ///< 4 or 16
  int32_t port = 0;
  int64_t physical_offset = 0;
};
/// 32 upper-case hex digits, 56 with IPv6.
[[nodiscard]] std::string encode_offset_message_id(const HostView& store_host, int64_t physical_offset);
/// Error: kInvalidArgument.
[[nodiscard]] Result<OffsetMessageId> decode_offset_message_id(std::string_view id);

/// Makes the ids that producers give to messages (property UNIQ_KEY). Thread: any.
class UniqueIdGenerator {
 public:
  /// ip_bytes: 4 or 16 bytes of an own address. discriminator: any number that other producers on
  /// this machine hardly have.
  UniqueIdGenerator(std::string_view ip_bytes, int64_t process_id, int32_t discriminator);
  /// now_ms: ms since 1970.
  [[nodiscard]] std::string next(int64_t now_ms);
  void append_next(int64_t now_ms, std::string& to);

 private:
  int64_t month_start_ms(int64_t now_ms);
  std::string prefix_;  // hex of address, process and discriminator
  std::atomic<uint16_t> counter_{0};
  std::atomic<int64_t> month_start_ms_{0};
  std::atomic<int64_t> next_month_start_ms_{0};
};

/// When the id was made, in ms since 1970, as far as its own fields tell (the month is the current or the last one).
/// Error: kInvalidArgument for a text of another form.
[[nodiscard]] Result<int64_t> time_of_unique_id(std::string_view id, int64_t now_ms);

}  // namespace apogee::message
