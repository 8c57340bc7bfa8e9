#include "store/ha/ha_client.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/loop/run_on.h"
#include "store/ha/ha_client_state.h"

namespace apogee::store {

namespace {
constexpr int64_t kConnectMsMax = 5'000;
constexpr int64_t kFirstRetryMs = 50;
constexpr int64_t kTickMsMax = 250;
constexpr int64_t kRateMs = 1'000;
constexpr int64_t kMendMs = 1'000;

int64_t elapsed_ms(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - since).count();
}
}  // namespace

HaClient::Impl::Impl(Options given, ReplicatedLog& the_log, loop::EventLoop& the_loop, const Logger& the_logger)
    : options(std::move(given)), log(the_log), loop(the_loop), logger(the_logger) {
  rated_at = mended_at = following_since = Clock::now();
}

void HaClient::Impl::follow(std::string new_master, bool is_classic) {
  if (stopped || (new_master == master && is_classic == classic && ticker != 0)) return;
  auto weak = weak_from_this();
  if (ticker == 0) {
    int64_t tick_ms = std::clamp<int64_t>(std::min(options.heartbeat_ms, options.silence_ms_max) / 4, 1, kTickMsMax);
    ticker = loop.run_every(loop::Milliseconds(tick_ms), [this] { tick(); });
    if (options.acknowledge_on_disk)
      log.set_replication_listener([weak] {
        auto self = weak.lock();
        if (!self || self->flush_posted.exchange(true)) return;
        self->loop.post([self] {
          self->flush_posted = false;
          self->acknowledge();
        });
      });
  }
  master = std::move(new_master);
  classic = is_classic;
  failures = 0;
  parted_at = INT64_MAX;
  drop_connection();
  if (!copier || !copier->busy())
    copier = std::make_shared<LogCopier>(
        log, loop, logger,
        LogCopier::Listener{.appended = [this](LogOffset end) { on_appended(end); },
                            .failed = [this](const Error& reason) { on_copy_failed(reason); },
                            .idle =
                                [weak] {
                                  if (auto self = weak.lock()) self->plan(0);
                                }});
  tell([&](Figures& f) {
    f.state = master.empty() ? State::kIdle : State::kConnecting;
    f.master = master;
    f.why.clear();
  });
  plan(0);
}

void HaClient::Impl::close() {
  if (std::exchange(stopped, true)) return;
  if (options.acknowledge_on_disk && ticker != 0) log.set_replication_listener(nullptr);
  if (ticker != 0) loop.cancel(std::exchange(ticker, 0));
  drop_connection();
  if (timer != 0) loop.cancel(std::exchange(timer, 0));
}

void HaClient::Impl::wait_for_tasks() {
  std::unique_lock lock(tasks_mutex);
  tasks_ended.wait(lock, [this] { return tasks == 0; });
}

/// Work for another thread. One that is dropped there has failed, and is waited for no longer.
struct HaClient::Impl::Task {
  Task(std::shared_ptr<Impl> owner, std::function<Status()> to_do, std::function<void(Status)> afterwards)
      : self(std::move(owner)), work(std::move(to_do)), then(std::move(afterwards)) {
    std::lock_guard lock(self->tasks_mutex);
    ++self->tasks;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    self->loop.post([owner = self, answer = std::move(then), outcome = std::move(result)] {
      if (!owner->stopped) answer(outcome);
    });
    std::lock_guard lock(self->tasks_mutex);
    --self->tasks;
    self->tasks_ended.notify_all();
  }

  const std::shared_ptr<Impl> self;
  std::function<Status()> work;
  std::function<void(Status)> then;
  Status result = Error(Errc::kClosed, "nobody does it, for the broker stops or is too busy");
};

void HaClient::Impl::elsewhere(std::function<Status()> work, std::function<void(Status)> then) {
  auto task = std::make_shared<Task>(shared_from_this(), std::move(work), std::move(then));
  options.run_elsewhere([task] { task->result = task->work(); });
}

void HaClient::Impl::drop_connection() {
  ++attempt_;
  connecting = false;
  if (give_up) std::exchange(give_up, nullptr)();
  if (follower) std::exchange(follower, nullptr)->close();
  if (copier) copier->halt();
}

void HaClient::Impl::plan(int64_t delay_ms) {
  if (stopped) return;
  if (timer != 0) loop.cancel(timer);
  timer = loop.run_after(loop::Milliseconds(delay_ms), [this] {
    timer = 0;
    begin_attempt();
  });
}

void HaClient::Impl::plan_again() {
  plan(std::min(options.reconnect_ms, kFirstRetryMs << std::min(failures, 16)));
  ++failures;
}

void HaClient::Impl::broken(const std::string& why) {
  drop_connection();
  if (lines.admit(why.substr(0, 32))) logger.warn("replication: the master {} is not followed: {}", master, why);
  tell([&](Figures& f) {
    f.state = State::kConnecting;
    f.why = why;
    ++f.reconnects;
  });
  plan_again();
}

void HaClient::Impl::refused(const std::string& why) {
  drop_connection();
  if (lines.admit("refused " + why.substr(0, 32)))
    logger.error("replication: the master {} cannot be followed: {}", master, why);
  tell([&](Figures& f) {
    f.state = State::kRefused;
    f.why = why;
    ++f.reconnects;
  });
  plan(options.reconnect_ms);
}

void HaClient::Impl::parted(const std::string& why) {
  drop_connection();
  // Whatever the epochs say, the newest one is another's. What is to become of it, the next attempt decides.
  const auto epochs = log.epochs().all();
  parted_at = log.begin();
  for (const auto& epoch : epochs)
    if (epoch.begin < log.end()) parted_at = std::max(parted_at, epoch.begin);
  if (lines.admit("parted"))
    logger.error("replication: the master {} has another log than this slave: {}", master, why);
  tell([&](Figures& f) {
    if (f.state != State::kRefused) f.state = State::kConnecting;
    f.why = why;
  });
  plan(0);
}

void HaClient::Impl::begin_attempt() {
  // The log's end must stand still: an append, or a truncation, plans the attempt when it has ended.
  if (stopped || master.empty() || follower || connecting || truncating || copier->busy()) return;
  ++attempt_;
  connecting = true;
  tell([](Figures& f) {
    if (f.state != State::kRefused) f.state = State::kConnecting;
  });
  if (classic) return check_classic_master();
  connect(std::nullopt);
}

void HaClient::Impl::connect(std::optional<LogOffset> classic_from) {
  give_up = loop::TcpConnection::connect(
      loop, master, loop::Milliseconds(kConnectMsMax),
      of_this_attempt([this, classic_from](Result<std::unique_ptr<loop::TcpConnection>> result) {
        give_up = nullptr;
        if (!result) return broken(result.error().message);
        connected(std::move(*result), classic_from);
      }));
}

void HaClient::Impl::connected(std::unique_ptr<loop::TcpConnection> connection, std::optional<LogOffset> classic_from) {
  connecting = false;
  follower = std::make_shared<HaFollower>(
      options, log,
      HaFollower::Listener{
          .following = [this](LogOffset master_end) { on_following(master_end); },
          .frame = [this](const HaTransfer& header) { on_frame(header); },
          .bytes = [this](std::string_view bytes) { copier->add(bytes); },
          .room = [this](size_t wanted) { return copier->room(wanted); },
          .received = [this](size_t bytes) { copier->received(bytes); },
          .truncate = [this](LogOffset end, LogOffset master_end) { on_truncate(end, master_end); },
          .ended =
              [this](HaFollower::End end, const std::string& why) {
                if (end == HaFollower::End::kParted) return parted(why);
                if (end == HaFollower::End::kRefused) return refused(why);
                broken(why);
              },
          .full = [this] { return copier->full(); },
      });
  auto started = follower;
  if (classic_from) return started->start_classic(std::move(connection), *classic_from);
  tell([](Figures& f) {
    if (f.state != State::kRefused) f.state = State::kHandshake;
  });
  started->start(std::move(connection), std::exchange(parted_at, INT64_MAX));
}

void HaClient::Impl::on_following(LogOffset master_end) {
  following_since = Clock::now();
  const auto last = log.epochs().last();
  epoch_taken = last ? last->number : 0;
  copier->begin_at(log.end());
  if (lines.admit("follows " + master))
    logger.info("replication: follows the master {} from {} on, {} bytes behind", master, log.end(),
                std::max<LogOffset>(0, master_end - log.end()));
  tell([&, end = log.end()](Figures& f) {
    f.state = State::kTransfer;
    f.why.clear();
    f.end = end;
    f.master_end = master_end;
  });
  note_caught_up();
}

void HaClient::Impl::on_frame(const HaTransfer& header) {
  if (copier->received_end() != header.begin) {
    // Only an empty log begins where the master says.
    if (log.end() != log.begin() || copier->busy())
      return follower->fail(
          fmt::format("the master sends {}, where {} was to come", header.begin, copier->received_end()));
    copier->begin_at(header.begin);
  }
  tell([&](Figures& f) {
    f.received_bytes += header.bytes;
    f.master_end = std::max({f.master_end, header.begin + header.bytes, header.confirmed});
    f.confirmed = std::max(f.confirmed, header.confirmed);
  });
  if (header.epoch.number > 0 && header.bytes > 0 && header.epoch.number != epoch_taken) take_epoch(header.epoch);
  note_caught_up();
}

void HaClient::Impl::take_epoch(Epoch epoch) {
  if (epoch.number < epoch_taken)
    return follower->fail(fmt::format("the master sends epoch {} after {}", epoch.number, epoch_taken));
  epoch_taken = epoch.number;
  logger.info("replication: epoch {} of the log begins at {}", epoch.number, epoch.begin);
  copier->hold(true);
  elsewhere([this, epoch] { return log.epochs().append(epoch); }, of_this_attempt([this](const Status& kept) {
              if (!kept) return broken("the epoch cannot be kept: " + kept.error().message);
              copier->hold(false);
              if (follower && copier->has_room()) follower->resume_reading();
            }));
}

void HaClient::Impl::on_appended(LogOffset end) {
  failures = 0;
  lines.forget();
  tell([&](Figures& f) { f.end = end; });
  acknowledge();
  note_caught_up();
  if (follower && copier->has_room()) follower->resume_reading();
}

void HaClient::Impl::acknowledge() {
  if (!follower) return;
  follower->acknowledge(options.acknowledge_on_disk ? std::min(log.flushed(), log.end()) : log.end());
}

void HaClient::Impl::on_copy_failed(const Error& reason) {
  switch (reason.code) {
    case Errc::kDiskFull:
    case Errc::kBusy: return broken("the log takes nothing now, and goes on when it does: " + reason.message);
    default: return broken(reason.message);
  }
}

void HaClient::Impl::on_truncate(LogOffset end, LogOffset master_end) {
  const LogOffset from = log.end();
  drop_connection();
  truncating = true;
  logger.warn("replication: this slave is ahead of its master {}, whose log ends at {}: [{}, {}) is cut off", master,
              master_end, end, from);
  elsewhere(
      [this, end]() -> Status {
        APOGEE_TRY(log.truncate(end));
        return log.epochs().truncate_to(end);
      },
      [this, end](const Status& cut) {
        truncating = false;
        if (!cut) return broken("the log cannot be cut: " + cut.error().message);
        if (mender) mender->truncated(end);
        plan(0);
      });
}

void HaClient::Impl::note_caught_up() {
  const LogOffset end = log.end();
  std::lock_guard lock(figures_mutex);
  if (told.state == State::kTransfer && end >= told.master_end) caught_up_at = Clock::now();
}

void HaClient::Impl::tick() {
  if (follower) {
    auto held = follower;
    held->tick();
    // A quiet connection is a good one, too.
    if (follower && elapsed_ms(following_since) >= options.reconnect_ms) failures = 0;
  }
  if (int64_t elapsed = elapsed_ms(rated_at); elapsed >= kRateMs) {
    tell([&](Figures& f) {
      f.bytes_per_second = (f.received_bytes - rated_bytes) * 1'000 / elapsed;
      rated_bytes = f.received_bytes;
    });
    rated_at = Clock::now();
  }
  mend();
}

void HaClient::Impl::mend() {
  if (!options.ask_record || master.empty() || truncating || elapsed_ms(mended_at) < kMendMs) return;
  mended_at = Clock::now();
  if (!mender)
    mender = std::make_shared<LogMender>(
        LogMender::Options{.scrub_bytes_per_round = options.scrub_bytes_per_second * kMendMs / 1'000,
                           .ask_record = options.ask_record,
                           .elsewhere =
                               [weak = weak_from_this()](auto work, auto then) {
                                 auto self = weak.lock();
                                 if (self && !self->stopped) self->elsewhere(std::move(work), std::move(then));
                               }},
        log, logger);
  mender->round();
  tell([&](Figures& f) {
    f.damaged_ranges = mender->damaged_ranges() + (copier ? copier->damaged_ranges() : 0);
    f.mended_ranges = mender->mended_ranges();
  });
}

HaClient::Figures HaClient::Impl::figures() const {
  const LogOffset end = log.end();
  std::lock_guard lock(figures_mutex);
  Figures now = told;
  now.end = end;
  if (caught_up_at) now.caught_up_ms_ago = elapsed_ms(*caught_up_at);
  return now;
}

HaClient::HaClient(Options options, ReplicatedLog& log, loop::EventLoop& loop, const Logger& logger)
    : impl_(std::make_shared<Impl>(std::move(options), log, loop, logger)) {}

HaClient::~HaClient() { stop(); }

void HaClient::follow(std::string master, bool classic) {
  impl_->loop.post([impl = impl_, master = std::move(master), classic] { impl->follow(master, classic); });
}

void HaClient::stop() {
  loop::run_on(impl_->loop, [this] { impl_->close(); });
  impl_->wait_for_tasks();
}

HaClient::Figures HaClient::figures() const { return impl_->figures(); }

}  // namespace apogee::store
