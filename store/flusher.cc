#include "store/flusher.h"

#include <pthread.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace apogee::store {

namespace {

constexpr LogOffset kPageBytes = 4096;

/// So many pieces in an interval, and the one at the end is young.
constexpr LogOffset kMuchPieces = 16;
constexpr auto kGatherMax = std::chrono::milliseconds(2);

}  // namespace

void Flusher::start(std::function<void()> flushed, std::function<void(const Error&)> failed) {
  flushed_ = std::move(flushed);
  failed_ = std::move(failed);
  write_back_from_ = looked_end_ = ends_.end.load();
  looked_time_ = ends_.end_time_ms;
  last_sync_ = std::chrono::steady_clock::now();
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "flusher");
    run();
  });
}

void Flusher::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Flusher::request() {
  {
    std::lock_guard lock(mutex_);
    sync_now_ = true;
    if (waiting_.size() < gathering_) return;
  }
  wanted_.notify_one();
}

void Flusher::nudge() {
  if (nudged_.exchange(true)) return;
  { std::lock_guard lock(mutex_); }  // not between the flusher's look and its sleep
  wanted_.notify_one();
}

void Flusher::wait_for(LogOffset end, Released released) {
  bool too_late;
  {
    std::lock_guard lock(mutex_);
    too_late = ended_;
    if (!too_late) {
      auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options_.timeout_ms);
      auto* loop = loop::EventLoop::current();
      waiting_.push_back({end, deadline, loop != nullptr ? loop->mailbox() : nullptr, std::move(released)});
    }
  }
  // NOLINTNEXTLINE(bugprone-use-after-move): moved in the other case only
  if (too_late) released(ends_.flushed >= end ? Synced::kYes : Synced::kTimeout);
}

bool Flusher::due(LogOffset end, bool stopping) const {
  if (stopping || options_.sync_flush) return true;
  if (end / kPageBytes - ends_.flushed / kPageBytes >= options_.least_pages) return true;
  return std::chrono::steady_clock::now() - last_sync_ >= std::chrono::milliseconds(options_.thorough_interval_ms);
}

void Flusher::write_back(LogOffset end) {
  // Whole pieces only: the next append would wait for one that is being written.
  LogOffset from = std::max(write_back_from_.load(), ends_.flushed.load());
  LogOffset to = end - end % piece_;
  if (to - from >= options_.write_back_bytes) {
    files_.start_write_back(from, to);
    from = to;
  }
  // Also when a sync was faster: else each append from here on would find enough gathered, and wake us in vain.
  write_back_from_ = from;
}

void Flusher::run() {
  const auto interval = std::chrono::milliseconds(options_.sync_flush ? 1'000 : options_.interval_ms);
  auto next_look = std::chrono::steady_clock::now() + interval;
  bool broken = false;
  for (;;) {
    bool stopping, asked;
    {
      std::unique_lock lock(mutex_);
      wanted_.wait_until(lock, next_look, [this] { return sync_now_ || stopping_ || nudged_; });
      if (sync_now_ && !stopping_) gather(lock);
      stopping = stopping_;
      asked = std::exchange(sync_now_, false);
    }
    int64_t end_time = ends_.end_time_ms;  // before the end, so that it is never that of a record behind it
    LogOffset end = ends_.end;
    if (nudged_.exchange(false)) write_back(end);
    const bool looked = std::chrono::steady_clock::now() >= next_look;
    if (looked) {
      next_look = std::chrono::steady_clock::now() + interval;
      if (!asked && !stopping) leave_tail(end, end_time);
    }
    size_t released = 0;
    if (!broken && end > ends_.flushed && (asked || stopping || (looked && due(end, stopping)))) {
      const auto begun = std::chrono::steady_clock::now();
      auto synced = files_.sync(ends_.flushed, end);
      last_sync_ = std::chrono::steady_clock::now();
      last_duration_ = last_sync_ - begun;
      if (synced) {
        ends_.flushed.store(end, std::memory_order_seq_cst);
        ends_.flushed_time_ms = end_time;
        released = release(end, !stopping);  // first of all: somebody waits for it
        flushed_();
        make_end_writable(end);
      } else {
        broken = true;
        logger_.error("writes are refused from now on: {}", synced.error().message);
        failed_(synced.error());
      }
    }
    // Also what began to wait just after the sync that covers it.
    released += release(ends_.flushed, !stopping);
    if (released > 0) last_group_ = released;
    if (broken) expire(true);
    if (stopping && (broken || ends_.end == ends_.flushed)) break;
  }
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  (void)release(ends_.flushed, false);
  expire(true);
}

/// The sync has made the pages about the end read-only; so that not the next appends pay for it.
void Flusher::make_end_writable(LogOffset end) const {
  auto file = files_.at(end);
  if (!file) return;
  const LogOffset in_file = end - file->begin;
  file->map->populate(static_cast<size_t>(in_file), static_cast<size_t>(piece_ - in_file % piece_));
}

/// While the log grows by much, its last piece is left to the next interval: a sync would make it read-only, and the
/// append that finds it so may wait for the journal of the file system. What is left begins with a record, because the
/// flushed end is told to others, and is small beside what has come in this interval, or one unit.
void Flusher::leave_tail(LogOffset& end, int64_t& end_time) {
  const LogOffset looked_at = std::exchange(looked_end_, end);
  const int64_t looked_time = std::exchange(looked_time_, end_time);
  const LogOffset whole = std::min(end, ends_.before_tail.load(std::memory_order_relaxed));
  if (options_.sync_flush || end - looked_at < kMuchPieces * piece_ ||
      whole <= std::max(looked_at, ends_.flushed.load()))
    return;
  end = whole;
  end_time = looked_time;
}

/// Senders that wait for their answers before they send again come back together: a sync for the first of them alone
/// would make the others wait for a second one. So as many as the last sync released get half the time of a sync to
/// come.
void Flusher::gather(std::unique_lock<std::mutex>& lock) {
  if (last_group_ < 2 || waiting_.size() >= last_group_) return;
  const auto patience = std::min<std::chrono::nanoseconds>(last_duration_ / 2, kGatherMax);
  gathering_ = last_group_;
  wanted_.wait_for(lock, patience, [this] { return stopping_ || waiting_.size() >= gathering_; });
  gathering_ = 0;
}

/// What the loops wait for goes to them in one task each, so that the next sync begins at once.
size_t Flusher::release(LogOffset flushed, bool at_home) {
  std::vector<Waiting> covered;
  {
    std::lock_guard lock(mutex_);
    auto kept = std::stable_partition(waiting_.begin(), waiting_.end(),
                                      [&](const Waiting& each) { return each.end <= flushed; });
    covered.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(kept));
    waiting_.erase(waiting_.begin(), kept);
  }
  const size_t count = covered.size();
  while (!covered.empty()) {
    auto home = covered.front().home;
    auto others =
        std::stable_partition(covered.begin(), covered.end(), [&](const Waiting& each) { return each.home == home; });
    auto group = std::make_shared<std::vector<Waiting>>(std::make_move_iterator(covered.begin()),
                                                        std::make_move_iterator(others));
    covered.erase(covered.begin(), others);
    auto tell = [group] {
      for (auto& each : *group) each.released(Synced::kYes);
    };
    if (!home || !at_home || !home->post(tell)) tell();
  }
  return count;
}

void Flusher::expire(bool all) {
  std::vector<Waiting> late;
  {
    auto now = std::chrono::steady_clock::now();
    std::lock_guard lock(mutex_);
    auto kept = std::stable_partition(waiting_.begin(), waiting_.end(),
                                      [&](const Waiting& each) { return all || each.deadline <= now; });
    late.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(kept));
    waiting_.erase(waiting_.begin(), kept);
  }
  for (auto& each : late) each.released(Synced::kTimeout);
}

}  // namespace apogee::store
