#pragma once

#include <string>
#include <string_view>

#include "broker/filter/consumer_filters.h"
#include "broker/locks/queue_locks.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/replication/setting_notices.h"
#include "broker/request_table.h"
#include "broker/timers/timer_service.h"
#include "store/message_store.h"

namespace apogee::broker {

// Between our brokers a slave asks for tables often and gets them only when they have changed: its request has the
// header field "knownVersion", the "version" of the answer before ("" at first); an answer that would be the same has
// "unchanged" and no body. "logEnd" is the log's end after the table was read: progress that a table tells may be
// believed by a broker that has the log up to there. "logBefore" is the log's end before: a topic that has messages in
// front of it and is not in the table is one that was deleted. Other askers see nothing of this.
inline constexpr const char* kKnownVersionField = "knownVersion";
inline constexpr const char* kVersionField = "version";
inline constexpr const char* kUnchangedField = "unchanged";
inline constexpr const char* kLogEndField = "logEnd";
inline constexpr const char* kLogBeforeField = "logBefore";
inline constexpr const char* kAskingBrokerField = "brokerId";  ///< of the slave that asks

/// Of a broker whose slaves ask for what is not in the log.
struct SyncSources {
  store::MessageStore& store;
  ConsumerOffsets& offsets;
  ConsumerFilters& filters;
  QueueLocks& locks;
  TimerService* timers;  ///< nullptr: they do not run here
  std::string boot;      ///< of this process
  SettingNotices& notices;
};

/// Adds our GET_ALL_QUEUE_LOCKS, at a slave too: a returning master asks for what it granted meanwhile.
void add_lock_answer(RequestTable& table, const QueueLocks& locks);

/// Adds 60 GET_TIMER_CHECK_POINT and our GET_ALL_CONSUMER_FILTERS and GET_ALL_QUEUE_LOCKS, and makes the rows for 21,
/// 43, 45 and 201, which must be there, answer as told above. What sources refer to must outlive the table's use.
void add_sync_answers(RequestTable& table, const SyncSources& sources);

/// The body of the answer to 60, as Apache RocketMQ 5 has it.
[[nodiscard]] std::string encode_timer_checkpoint(const TimerService::Progress& progress);
/// Error: kCorrupt (too short).
[[nodiscard]] Result<TimerService::Progress> decode_timer_checkpoint(std::string_view body);

}  // namespace apogee::broker
