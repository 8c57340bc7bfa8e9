#include "broker/replication/sync_answers.h"

#include <fmt/core.h>

#include <memory>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/base/bytes.h"
#include "common/base/hash.h"

namespace apogee::broker {

namespace code = remoting::response_code;
using remoting::Command;
using remoting::RequestCode;

namespace {

/// The version of a table without reading all of it; empty: made of the answer's body.
using Version = std::function<std::string()>;
/// Told what an asker has.
using Asked = std::function<void(const remoting::Caller& caller, int64_t broker_id, std::string_view known)>;

void conditional(RequestTable& table, RequestCode request_code, store::MessageStore& store, const Version& version,
                 const Asked& asked = nullptr) {
  table.wrap(request_code, [&store, version, asked](remoting::RequestHandler handler) {
    return [&store, version, asked, handler = std::move(handler)](const remoting::Caller& caller, Command request,
                                                                  const remoting::Responder& respond) {
      const auto field = request.ext.get(kKnownVersionField);
      if (!field) return handler(caller, std::move(request), respond);
      const std::string known(*field);
      if (const auto id = request.ext.get_int<int64_t>(kAskingBrokerField); asked && id) asked(caller, *id, known);
      const auto log_before = store.figures().log_max_offset;
      std::string now = version ? version() : "";  // before the table is read: a change meanwhile is told again
      const auto finish = [&store, log_before](Command& response, const std::string& told, bool unchanged) {
        response.ext.set(kVersionField, told);
        response.ext.set(kLogBeforeField, log_before);
        if (unchanged) response.ext.set(kUnchangedField, true);
        response.ext.set(kLogEndField, store.figures().log_max_offset);
      };
      if (!now.empty() && now == known) {
        Command response = Command::response_to(request, code::kSuccess);
        finish(response, now, true);
        return respond(std::move(response));
      }
      handler(caller, std::move(request), remoting::Responder([respond, finish, known, now](Command response) {
                if (response.code != code::kSuccess) return respond(std::move(response));
                const std::string told =
                    !now.empty() ? now
                                 : fmt::format("{:016x}-{}", fnv1a_64(response.body.bytes), response.body.bytes.size());
                const bool unchanged = told == known;
                if (unchanged) response.body = SharedBytes{};
                finish(response, told, unchanged);
                respond(std::move(response));
              }));
    };
  });
}

void answer(RequestTable& table, RequestCode request_code, std::function<std::string()> body) {
  table.add(request_code, RunsOn::kReaders,
            [body = std::move(body)](const remoting::Caller&, Command request, const remoting::Responder& respond) {
              accept(request, respond, body());
            });
}

}  // namespace

std::string encode_timer_checkpoint(const TimerService::Progress& progress) {
  std::string body;
  append_be<int64_t>(body, progress.delivered_until_ms);
  append_be<int64_t>(body, 0);  // a position in Apache's timer log
  append_be<int64_t>(body, progress.queue_offset);
  append_be<int64_t>(body, progress.queue_offset);
  for (int i = 0; i < 3; ++i) append_be<int64_t>(body, 0);  // a DataVersion
  return body;
}

Result<TimerService::Progress> decode_timer_checkpoint(std::string_view body) {
  if (body.size() < 3 * sizeof(int64_t))
    return Error{Errc::kCorrupt, fmt::format("a checkpoint of timers has {} bytes", body.size())};
  return TimerService::Progress{load_be<int64_t>(body.data() + 16), load_be<int64_t>(body.data())};
}

void add_lock_answer(RequestTable& table, const QueueLocks& locks) {
  answer(table, RequestCode::kGetAllQueueLocks, [&locks] { return locks.to_json(); });
}

void add_sync_answers(RequestTable& table, const SyncSources& sources) {
  if (auto* timers = sources.timers; timers != nullptr)
    answer(table, RequestCode::kGetTimerCheckPoint,
           [timers] { return encode_timer_checkpoint(timers->saved_progress()); });
  answer(table, RequestCode::kGetAllConsumerFilters, [&filters = sources.filters] { return filters.to_json(); });
  add_lock_answer(table, sources.locks);

  const auto setting = [&](RequestCode request_code, SettingNotices::Table which) {
    auto& notices = sources.notices;
    conditional(
        table, request_code, sources.store, [&notices, which] { return notices.version(which); },
        [&notices, which](const remoting::Caller& caller, int64_t broker_id, std::string_view known) {
          notices.asked(caller, broker_id, which, known);
        });
  };
  setting(RequestCode::kGetAllTopicConfig, SettingNotices::Table::kTopics);
  setting(RequestCode::kGetAllSubscriptiongroupConfig, SettingNotices::Table::kGroups);
  conditional(
      table, RequestCode::kGetAllConsumerOffset, sources.store,
      [boot = sources.boot, &offsets = sources.offsets] { return boot + "-" + std::to_string(offsets.changes()); });
  conditional(table, RequestCode::kGetAllQueueLocks, sources.store,
              [boot = sources.boot, &locks = sources.locks] { return boot + "-" + std::to_string(locks.version()); });
  for (auto request_code :
       {RequestCode::kGetAllDelayOffset, RequestCode::kGetTimerCheckPoint, RequestCode::kGetAllConsumerFilters})
    conditional(table, request_code, sources.store, nullptr);
}

}  // namespace apogee::broker
