#include "tools/mqbench/run/run.h"

#include <fmt/chrono.h>
#include <fmt/core.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <stdexcept>

namespace mqbench {

namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kOpenWithin = 120 * kSecond;
constexpr int64_t kFinishWithin = 30 * kSecond;
constexpr int64_t kStep = 20'000'000;

sigset_t end_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

std::string utc_now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

void pin_to_cpus(const std::string& cpus) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t at = 0; at < cpus.size();) {
    char* end = nullptr;
    const long first = std::strtol(cpus.c_str() + at, &end, 10);
    long last = first;
    if (*end == '-') last = std::strtol(end + 1, &end, 10);
    if (first < 0 || last < first || last >= CPU_SETSIZE || (*end != ',' && *end != '\0'))
      throw std::runtime_error("--cpus " + cpus + ": not a list such as 0,2-3");
    for (long cpu = first; cpu <= last; ++cpu) CPU_SET(static_cast<size_t>(cpu), &set);
    at = static_cast<size_t>(end - cpus.c_str()) + 1;
  }
  if (::sched_setaffinity(0, sizeof set, &set) != 0) throw std::runtime_error("cannot run on the processors " + cpus);
}

Run::Run(const RunOptions& options) : options_(options), pids_(options.pids) {
  pin_to_cpus(options.cpus);
  // The signals come to wait_until() only: threads inherit the mask.
  const auto signals = end_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < options.threads; ++i) workers_.push_back(std::make_unique<Worker>());
  progress_ = !options.quiet && ::isatty(STDERR_FILENO) == 1;
}

Run::~Run() {
  for (auto& worker : workers_) worker->stop_and_join();
  entries_.clear();  // loads have handles on the workers' loops
}

bool Run::wait_until(int64_t at, const std::function<bool()>& done) {
  const auto signals = end_signals();
  for (int64_t now = now_ns(); now < at; now = now_ns()) {
    if (done && done()) return true;
    const int64_t step = std::min(kStep, at - now);
    const timespec wait{static_cast<time_t>(step / kSecond), static_cast<long>(step % kSecond)};
    if (::sigtimedwait(&signals, nullptr, &wait) > 0) {
      // A second one does not wait for anything.
      if (interrupted_) ::_exit(130);
      interrupted_ = true;
      return true;
    }
  }
  return done && done();
}

bool Run::finished(int stage) const {
  return std::all_of(entries_.begin(), entries_.end(),
                     [stage](const Entry& entry) { return entry.stage != stage || entry.load->finished(); });
}

bool Run::all_finished() const { return finished(0) && finished(1); }

void Run::stop_stage(int stage, int64_t end) {
  for (auto& entry : entries_)
    if (entry.stage == stage) worker(entry.worker).post([&load = *entry.load, end] { load.stop(end); });
}

void Run::tick(int64_t now, const Window& window) {
  if (!progress_ || now - last_tick_ < kSecond) return;
  uint64_t done = 0;
  for (const auto& entry : entries_) done += entry.load->done();
  const double rate = static_cast<double>(done - last_done_) * 1e9 / static_cast<double>(now - last_tick_);
  fmt::print(stderr, "\r\033[K{} {:.0f} s of {:.0f}: {:.0f} messages/s",
             now < window.begin ? "warming up," : "measuring,", static_cast<double>(now - window.start) / 1e9,
             static_cast<double>(window.end - window.start) / 1e9, rate);
  std::fflush(stderr);
  line_shown_ = true;
  last_tick_ = now;
  last_done_ = done;
}

void Run::snapshot(ProcessState WatchedProcess::*when) {
  const auto take = [&](WatchedProcess& process) {
    auto state = read_process(process.pid);
    if (!state) {
      problems_.add(state.error().message);
      return;
    }
    process.*when = *state;
  };
  take(self_);
  for (auto& process : watched_) take(process);
}

RunResult Run::execute() {
  for (pid_t pid : pids_)
    if (auto state = read_process(pid); !state) throw std::runtime_error("--pid: " + state.error().message);
  self_ = {::getpid(), "mqbench", {}, {}, {}};
  for (pid_t pid : pids_) watched_.push_back({pid, process_name(pid), {}, {}, {}});
  snapshot(&WatchedProcess::first);
  for (auto& entry : entries_) worker(entry.worker).post([&load = *entry.load] { load.open(); });
  for (size_t i = 0; i < workers_.size(); ++i) workers_[i]->start(fmt::format("mqbench-{}", i).c_str());
  const bool ready = wait_until(now_ns() + kOpenWithin, [this] {
    return std::all_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.load->ready(); });
  });
  if (!ready) problems_.add("not all connections were open within two minutes");

  RunResult result;
  result.started_at = utc_now();
  Window window;
  window.start = now_ns();
  window.begin = window.start + static_cast<int64_t>(options_.warmup * 1e9);
  window.end = window.begin + static_cast<int64_t>(options_.seconds * 1e9);
  last_tick_ = window.start;
  for (auto& entry : entries_) worker(entry.worker).post([&load = *entry.load, window] { load.start(window); });
  const auto ticking = [&] {
    tick(now_ns(), window);
    return all_finished();
  };
  wait_until(window.begin, ticking);
  snapshot(&WatchedProcess::before);
  if (!interrupted_ && !all_finished()) wait_until(window.end, ticking);
  snapshot(&WatchedProcess::after);
  int64_t end = std::min(window.end, now_ns());
  if (all_finished()) {
    int64_t last = window.begin;
    for (const auto& entry : entries_) last = std::max(last, entry.load->finished_at());
    end = std::min(end, last);
  }
  stop_stage(0, end);
  wait_until(now_ns() + kFinishWithin, [this] { return finished(0); });
  if (!finished(0)) {
    uint64_t open = 0;
    for (const auto& entry : entries_) open += entry.load->unanswered();
    problems_.add(
        fmt::format("{} requests were not answered within {} s after the end", open, kFinishWithin / kSecond));
  }
  try {
    if (between_) between_();
  } catch (const std::exception& failure) {
    problems_.add(failure.what());
  }
  stop_stage(1, end);
  wait_until(now_ns() + kFinishWithin, [this] { return finished(1); });
  if (!finished(1))
    problems_.add(fmt::format("not everything was received within {} s after the end", kFinishWithin / kSecond));
  for (auto& running : workers_) running->stop_and_join();
  if (line_shown_) fmt::print(stderr, "\r\033[K");

  result.seconds = std::max(1e-9, static_cast<double>(end - window.begin) / 1e9);
  result.interrupted = interrupted_;
  for (auto& check : checks_) {
    try {
      check();
    } catch (const std::exception& failure) {
      problems_.add(failure.what());
    }
  }
  for (auto& entry : entries_)
    for (auto& part : entry.load->results()) {
      const auto known = std::find_if(result.loads.begin(), result.loads.end(),
                                      [&](const LoadResult& load) { return load.name == part.name; });
      if (known == result.loads.end()) {
        result.loads.push_back(std::move(part));
        continue;
      }
      known->recorded.merge(part.recorded);
      for (const auto& [name, value] : part.figures) known->figures[name] += value;
    }
  result.processes = std::move(watched_);
  result.generator = self_;
  result.problems = problems_.all();
  result.title = options_.title;
  return result;
}

}  // namespace mqbench
