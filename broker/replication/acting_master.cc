#include "broker/replication/acting_master.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "broker/handlers/send_operation.h"
#include "broker/replication/member_group.h"
#include "common/config/properties_file.h"

namespace apogee::broker {

namespace code = remoting::response_code;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr int64_t kHandOverMs = 30'000;
constexpr int64_t kMissingLooks = 2;
constexpr size_t kHalvesPerLook = 64;

}  // namespace

/// What is done while acting; made for one term.
struct ActingMaster::Duties {
  Duties(const Parts& parts, const Escape& to)
      : escape(to),
        put([this](const store::MessageDraft& draft, store::PutCallback done) {
          escape.send(draft, Escape::Kind::kMessage, [this, done = std::move(done)](store::PutResult result) {
            if (!result.stored()) ++refused;
            done(std::move(result));
          });
        }),
        halves(Transactions::Parts{parts.config,
                                   parts.store,
                                   put,
                                   parts.offsets,
                                   parts.producers,
                                   parts.stats,
                                   {},
                                   host_address_of(parts.address),
                                   parts.logger}) {}

  /// Waits for the other master's answer.
  [[nodiscard]] store::PutResult send_half(const store::MessageDraft& draft) {
    auto outcome = std::make_shared<std::promise<store::PutResult>>();
    auto result = outcome->get_future();
    escape.send(draft, Escape::Kind::kHalf,
                [outcome](store::PutResult answer) { outcome->set_value(std::move(answer)); });
    return result.get();
  }

  Escape escape;
  std::atomic<int64_t> refused{0};
  MessagePut put;
  std::unique_ptr<DelayService> delays;
  std::unique_ptr<TimerService> timers;
  Transactions halves;
  std::map<store::QueueOffset, store::LogOffset> undecided;
  store::QueueOffset halves_end = 0;
  bool halves_read = false, halves_failing = false;
  int64_t escaped_half = 0;
};

ActingMaster::ActingMaster(Parts parts)
    : parts_(std::move(parts)),
      escape_(Escape::Parts{parts_.config, parts_.loop, parts_.client, parts_.logger}),
      progress_file_(parts_.config.config_file("actingMaster.json")),
      delay_file_(parts_.config.config_file("actingDelayOffset.json")),
      timers_file_(parts_.config.config_file("actingTimersCheckpoint.json")),
      timers_dir_(parts_.config.store_root + "/actingtimersdb") {
  if (auto text = config::read_whole_file(progress_file_)) {
    if (auto progress = decode_acting_progress(*text)) {
      progress_ = saved_ = std::move(*progress);
      acted_ = true;
    } else {
      parts_.logger.error("{}: {}; what was sent to other masters may be sent again", progress_file_,
                          progress.error().message);
    }
  }
}

ActingMaster::~ActingMaster() { stop(); }

void ActingMaster::start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "acting");
    run();
  });
}

void ActingMaster::stop() {
  {
    std::lock_guard lock(wake_mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::scoped_lock lock(work_mutex_, mutex_);
  end_locked("the broker stops");
}

void ActingMaster::wake() {
  std::lock_guard lock(wake_mutex_);
  woken_ = true;
  wanted_.notify_one();
}

void ActingMaster::run() {
  for (;;) {
    {
      std::unique_lock lock(wake_mutex_);
      wanted_.wait_for(lock, std::chrono::milliseconds(parts_.config.member_group_ms),
                       [this] { return stopping_ || woken_; });
      if (stopping_) return;
      woken_ = false;
    }
    look();
  }
}

ActingMaster::Members ActingMaster::ask_members() {
  Members members;
  for (const auto& server : split_addresses(parts_.config.namesrv_addr.get())) {
    const auto group = ask_member_group(server, parts_.config, parts_.client);
    if (!group) continue;
    members.answered = true;
    for (const auto& [id, address] : group->broker_addrs) {
      members.min_id = std::min(members.min_id, id);
      members.master = members.master || id == 0;
      members.listed = members.listed || (id == parts_.config.broker_id && address == parts_.address);
    }
  }
  return members;
}

void ActingMaster::look() {
  const Members members = ask_members();
  const bool follows = parts_.follows && parts_.follows();
  const int64_t now = steady_now_ms();
  std::lock_guard working(work_mutex_);
  std::unique_lock lock(mutex_);
  if (!members.answered) {
    // It may be that the others see this broker no more, and that the master is back.
    if (unanswered_since_ms_ < 0) unanswered_since_ms_ = now;
    if (now - unanswered_since_ms_ >= parts_.config.broker_not_active_ms) end_locked("no NameServer answers");
  } else {
    unanswered_since_ms_ = -1;
    const bool wanted = !members.master && !follows && members.listed && members.min_id == parts_.config.broker_id;
    missing_looks_ = wanted ? missing_looks_ + 1 : 0;
    if (members.master || follows) {
      end_locked("the master is back");
      not_before_ms_ = 0;
      if (members.master && acted_) {
        if (!std::exchange(handed_over_, false))
          parts_.logger.warn(
              "the master came back without asking how far this slave went in its place: what was sent to other "
              "masters may be delivered by it again");
        acted_ = false;
        progress_ = saved_ = {};
        std::error_code error;
        std::filesystem::remove(progress_file_, error);
      }
    } else if (!wanted) {
      end_locked(members.listed ? "another slave has a smaller id" : "no NameServer lists this broker");
    } else if (missing_looks_ >= kMissingLooks && now >= not_before_ms_) {
      begin_locked();
    }
  }
  if (!duties_) return;
  lock.unlock();
  escape_halves();
  lock.lock();
  note_progress_locked();
}

void ActingMaster::begin_locked() {
  if (duties_) return;
  handed_over_ = false;
  auto duties = std::make_unique<Duties>(parts_, escape_);
  if (parts_.config.remote_escape) {
    progress_.merge(read_progress_files(parts_.config.config_file("delayOffset.json"),
                                        parts_.config.config_file("timersCheckpoint.json")));
    auto prepared = [&]() -> Status {
      std::error_code error;
      for (const auto& file : {delay_file_, delay_file_ + ".bak", timers_file_, timers_file_ + ".bak"})
        std::filesystem::remove(file, error);
      std::filesystem::remove_all(timers_dir_, error);
      APOGEE_TRY(write_progress_files(progress_, delay_file_, timers_file_));
      duties->delays = std::make_unique<DelayService>(DelayService::Parts{
          parts_.store, duties->put, parts_.topics, parts_.groups, parts_.delays_ms, delay_file_, parts_.logger});
      APOGEE_TRY(duties->delays->load());
      APOGEE_TRY_ASSIGN(duties->timers,
                        TimerService::open({timers_dir_, timers_file_, "", parts_.config.timer_precision_ms, 1'000},
                                           {parts_.store, duties->put, parts_.logger}));
      return {};
    }();
    if (!prepared) return parts_.logger.error("this slave cannot act for its master: {}", prepared.error().message);
    const auto host = host_address_of(parts_.address);
    duties->delays->start(host);
    duties->timers->start(host);
  }
  duties_ = std::move(duties);
  ++figures_.terms;
  figures_.acting = true;
  acted_ = true;
  parts_.logger.warn("the broker {} has no master: this slave, id {}, acts for it{}", parts_.config.broker_name,
                     parts_.config.broker_id,
                     parts_.config.remote_escape ? "; what is due goes to other masters of the cluster"
                                                 : "; what is due waits, because enableRemoteEscape is false");
}

bool ActingMaster::read_halves_locked() {
  auto& duties = *duties_;
  if (duties.halves_read) return true;
  duties.halves_end = parts_.store.max_offset(kHalfTopic, 0);
  if (Status read = duties.halves.recover(); !read) {
    parts_.logger.error("{}", read.error().message);
    return false;
  }
  duties.halves_read = true;
  duties.undecided = duties.halves.undecided();
  duties.undecided.erase(duties.undecided.begin(), duties.undecided.lower_bound(progress_.half_offset));
  return true;
}

// Each half message becomes one of another master, which asks the producer in its time.
void ActingMaster::escape_halves() {
  if (!parts_.config.remote_escape) return;
  auto& duties = *duties_;
  std::unique_lock lock(mutex_);
  if (!read_halves_locked()) return;
  for (size_t count = 0; count < kHalvesPerLook && !duties.undecided.empty(); ++count) {
    const auto physical = duties.undecided.begin()->second;
    auto bytes = parts_.store.record_at(physical);
    auto half = bytes ? HalfMessage::of(std::move(*bytes)) : Result<HalfMessage>(Error{Errc::kNotFound, "it is gone"});
    auto copy = half ? half->committed() : Result<StoredCopy>(half.error());
    if (copy) {
      lock.unlock();
      const auto result = duties.send_half(copy->draft(host_address_of(parts_.address)));
      lock.lock();
      if (!result.stored() && result.status != store::PutStatus::kMessageIllegal) {
        ++duties.refused;
        if (!std::exchange(duties.halves_failing, true))
          parts_.logger.warn("half messages wait, no other master takes them: {}", result.detail);
        return;
      }
      duties.halves_failing = false;
      if (result.stored()) ++duties.escaped_half;
      if (!result.stored())
        parts_.logger.error("the half message at {} of the log is given up: {}", physical, result.detail);
    } else {
      parts_.logger.error("the half message at {} of the log is passed over: {}", physical, copy.error().message);
    }
    duties.undecided.erase(duties.undecided.begin());
    progress_.half_offset = duties.undecided.empty() ? duties.halves_end : duties.undecided.begin()->first;
  }
  if (duties.undecided.empty()) progress_.half_offset = std::max(progress_.half_offset, duties.halves_end);
}

void ActingMaster::note_progress_locked() {
  if (duties_->delays) {
    ActingProgress now = read_progress_files("", timers_file_);
    for (const auto& [level, offset] : duties_->delays->offsets().offset_table) now.delay_offsets[level] = offset;
    progress_.merge(now);
  }
  if (progress_ == saved_) return;
  if (Status written = config::replace_file(progress_file_, encode(progress_)); !written)
    return parts_.logger.error("{}", written.error().message);
  saved_ = progress_;
}

/// With those of the present term.
ActingMaster::Figures ActingMaster::figures_locked() const {
  Figures figures = figures_;
  if (!duties_) return figures;
  figures.escaped_half += duties_->escaped_half;
  figures.refused += duties_->refused;
  if (!duties_->delays) return figures;
  figures.escaped_delayed += duties_->delays->delivered_total();
  figures.escaped_timers += duties_->timers->figures().delivered_total;
  return figures;
}

void ActingMaster::end_locked(const char* why) {
  if (!duties_) return;
  if (duties_->delays) {
    duties_->delays->stop();
    duties_->timers->stop();
  }
  note_progress_locked();
  figures_ = figures_locked();
  parts_.logger.warn(
      "this slave acts for its master no more: {}; sent to other masters so far: {} delayed messages, {} timers, {} "
      "half messages",
      why, figures_.escaped_delayed, figures_.escaped_timers, figures_.escaped_half);
  duties_.reset();
  figures_.acting = false;
  missing_looks_ = 0;
  std::error_code error;
  std::filesystem::remove_all(timers_dir_, error);
}

ActingProgress ActingMaster::hand_over() {
  std::lock_guard working(work_mutex_);
  std::lock_guard lock(mutex_);
  end_locked("the master returns and takes over");
  not_before_ms_ = steady_now_ms() + kHandOverMs;
  missing_looks_ = 0;
  handed_over_ = true;
  return acted_ ? progress_ : ActingProgress{};
}

ActingMaster::Figures ActingMaster::figures() const {
  std::lock_guard lock(mutex_);
  return figures_locked();
}

std::map<std::string, std::string> ActingMaster::texts() const {
  const Figures now = figures();
  return {
      {"actingMaster", now.acting ? "true" : "false"},         {"actingTerms", std::to_string(now.terms)},
      {"escapedDelayed", std::to_string(now.escaped_delayed)}, {"escapedTimers", std::to_string(now.escaped_timers)},
      {"escapedHalf", std::to_string(now.escaped_half)},       {"escapeRefused", std::to_string(now.refused)}};
}

void ActingMaster::add_rows(RequestTable& table) {
  table.add(RequestCode::kNotifyMinBrokerIdChange, RunsOn::kIoLoop,
            [this](const remoting::Caller&, const Command& request, const remoting::Responder& respond) {
              wake();
              if (!request.is_oneway()) accept(request, respond);
            });
  table.wrap(RequestCode::kExchangeBrokerHaInfo, [this](remoting::RequestHandler next) -> remoting::RequestHandler {
    return [this, next = std::move(next)](const remoting::Caller& caller, Command request,
                                          const remoting::Responder& respond) {
      if (!request.ext.get_bool(kTakeOverField).value_or(false)) return next(caller, std::move(request), respond);
      if (request.ext.get("brokerName").value_or("") != parts_.config.broker_name)
        return refuse(request, respond, code::kSystemError,
                      "this slave is one of the broker " + parts_.config.broker_name);
      parts_.logger.info("the master returns: {} takes over", caller.address);
      accept(request, respond, encode(hand_over()));
    };
  });
}

}  // namespace apogee::broker
