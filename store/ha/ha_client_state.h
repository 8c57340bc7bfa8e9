#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "store/ha/ha_client.h"
#include "store/ha/ha_follower.h"
#include "store/ha/log_copier.h"
#include "store/ha/log_mender.h"
#include "store/ha/repeated_lines.h"

namespace apogee::store {

/// What HaClient is made of: which master is followed, when it is tried again, and what happens between two
/// connections. Thread: the loop's, unless said otherwise.
struct HaClient::Impl : std::enable_shared_from_this<HaClient::Impl> {
  using Clock = std::chrono::steady_clock;
  struct Task;

  Impl(Options given, ReplicatedLog& the_log, loop::EventLoop& the_loop, const Logger& the_logger);

  void follow(std::string new_master, bool is_classic);
  void close();
  void wait_for_tasks();                  ///< Thread: not the loop's.
  [[nodiscard]] Figures figures() const;  ///< Thread: any.

  // One attempt.
  void plan(int64_t delay_ms);
  void plan_again();  ///< after a failure
  void begin_attempt();
  void connect(std::optional<LogOffset> classic_from);
  void connected(std::unique_ptr<loop::TcpConnection> connection, std::optional<LogOffset> classic_from);
  void drop_connection();
  void broken(const std::string& why);
  void refused(const std::string& why);
  void parted(const std::string& why);

  // Before the classic stream (ha_classic_check.cc).
  void check_classic_master();
  void compare_last_record(const MasterLog& theirs);
  void begin_classic(const MasterLog& theirs);
  void take_first_record(const std::string& record);

  // While a master is followed.
  void on_following(LogOffset master_end);
  void on_frame(const HaTransfer& header);
  void on_appended(LogOffset end);
  void on_copy_failed(const Error& reason);
  void on_truncate(LogOffset end, LogOffset master_end);
  void take_epoch(Epoch epoch);
  void note_caught_up();
  void tick();
  void mend();
  void acknowledge();

  /// Runs the work elsewhere and `then` on the loop, unless this has stopped or the attempt is over by then.
  void elsewhere(std::function<Status()> work, std::function<void(Status)> then);
  /// Wraps an answer that belongs to the current attempt.
  template <typename Then>
  auto of_this_attempt(Then then) {
    return [weak = weak_from_this(), attempt = attempt_, then](auto result) {
      auto self = weak.lock();
      if (self && !self->stopped && self->attempt_ == attempt) then(std::move(result));
    };
  }
  template <typename Change>
  void tell(Change change) {
    std::lock_guard lock(figures_mutex);
    change(told);
  }

  Options options;
  ReplicatedLog& log;
  loop::EventLoop& loop;
  const Logger& logger;
  RepeatedLines lines;

  std::string master;
  bool classic = false, stopped = false, truncating = false, connecting = false;
  uint64_t attempt_ = 0;  ///< answers to an earlier one are dropped
  int failures = 0;
  loop::EventLoop::TimerId timer = 0, ticker = 0;
  loop::Task give_up;
  std::shared_ptr<HaFollower> follower;
  std::shared_ptr<LogCopier> copier;
  std::shared_ptr<LogMender> mender;
  LogOffset parted_at = INT64_MAX;  ///< for the next attempt: what the last one's proof has told
  int32_t epoch_taken = 0;
  std::atomic<bool> flush_posted{false};
  Clock::time_point rated_at, mended_at, following_since;
  int64_t rated_bytes = 0;

  mutable std::mutex figures_mutex;               // a leaf: the log, which may wait for a truncation, is asked before
  Figures told;                                   // guarded by figures_mutex
  std::optional<Clock::time_point> caught_up_at;  // guarded by figures_mutex

  std::mutex tasks_mutex;
  std::condition_variable tasks_ended;
  int tasks = 0;  // guarded by tasks_mutex: that run elsewhere
};

}  // namespace apogee::store
