#include <fmt/core.h>

#include "common/message/message_record.h"
#include "store/ha/ha_client_state.h"
#include "store/ha/last_record.h"
#include "store/recovery.h"

// The classic stream shows neither where the master's log begins nor that a slave is ahead of it, so both are asked for
// before each connection.
namespace apogee::store {

void HaClient::Impl::check_classic_master() {
  if (!options.ask_log || !options.ask_record)
    return refused("a classic master is followed only when it can be asked about its log");
  options.ask_log(of_this_attempt([this](Result<MasterLog> answer) {
    if (!answer) return broken("the master does not tell where its log begins and ends: " + answer.error().message);
    const auto& theirs = *answer;
    tell([&](Figures& f) { f.master_end = theirs.end; });
    if (log.end() == log.begin()) return begin_classic(theirs);
    if (log.end() > theirs.end)
      return refused(
          fmt::format("this slave's log is [{}, {}), the master's [{}, {}): this slave is ahead by {} bytes. "
                      "Remedy: make this slave the master, or let it begin with an empty store",
                      log.begin(), log.end(), theirs.begin, theirs.end, log.end() - theirs.end));
    if (log.end() < theirs.begin)
      return refused(
          fmt::format("this slave's log ends at {}, the master's begins at {}: what lies between is gone. "
                      "Remedy: let this slave begin with an empty store",
                      log.end(), theirs.begin));
    compare_last_record(theirs);
  }));
}

void HaClient::Impl::compare_last_record(const MasterLog& theirs) {
  auto ours = std::make_shared<std::optional<LastRecord>>();
  elsewhere(
      [this, ours]() -> Status {
        APOGEE_TRY_ASSIGN(*ours, last_record(log));
        return {};
      },
      of_this_attempt([this, ours, theirs](const Status& found) {
        if (!found) return broken("this slave's last record cannot be read: " + found.error().message);
        if (!*ours || (*ours)->at < theirs.begin) {
          logger.warn("replication: no record of this slave can be compared with the master {}'s", master);
          return connect(log.end());
        }
        options.ask_record((*ours)->at, of_this_attempt([this, ours](Result<std::string> record) {
                             if (!record && record.error().code != Errc::kNotFound)
                               return broken("the master does not give a record to compare: " + record.error().message);
                             if (!record || *record != (*ours)->bytes)
                               return refused(fmt::format(
                                   "this slave's last record, at {}, is not the one that the master has there: the "
                                   "logs have parted. Remedy: compare them, and empty the store of the one that is "
                                   "to follow",
                                   (*ours)->at));
                             connect(log.end());
                           }));
      }));
}

void HaClient::Impl::begin_classic(const MasterLog& theirs) {
  if (theirs.begin > 0 || theirs.end == 0) return connect(theirs.begin);
  // A request of 0 means the newest file only. So the first record comes another way, and its end is requested.
  options.ask_record(0, of_this_attempt([this](Result<std::string> record) {
                       if (!record)
                         return broken("the master does not give its first record: " + record.error().message);
                       take_first_record(*record);
                     }));
}

void HaClient::Impl::take_first_record(const std::string& record) {
  auto position = look_at(record, 0, true);
  if (position.kind != LogPosition::Kind::kRecord || position.bytes != static_cast<int64_t>(record.size()))
    return broken("the master's first record is damaged, or is none");
  auto done = of_this_attempt([this](const Status& appended) {
    if (!appended) return on_copy_failed(appended.error());
    connect(log.end());
  });
  log.append_copy(0, SharedBytes::from(record), [&loop = loop, done](Status result) {
    loop.post([done, result = std::move(result)] { done(result); });
  });
}

}  // namespace apogee::store
