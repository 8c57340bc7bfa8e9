#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/mqbench/loads/load.h"
#include "tools/mqbench/measure/process_watch.h"
#include "tools/mqbench/net/worker.h"

namespace mqbench {

/// What every network command takes.
struct RunOptions {
  double seconds = 10;
  double warmup = 2;
  int threads = 1;
  std::string cpus;  ///< of the generator, such as "1" or "1,3-5"; "": any
  std::vector<pid_t> pids;
  std::string json;  ///< a file, or "-"
  std::string html;  ///< a file
  std::string title;
  bool quiet = false;
};

/// What is known at the end.
struct RunResult {
  std::string command;
  std::vector<std::string> arguments;
  std::string title;
  std::string started_at;
  double seconds = 0;  ///< of the window as it was
  bool interrupted = false;
  std::vector<LoadResult> loads;  ///< those of one name are merged
  std::vector<WatchedProcess> processes;
  WatchedProcess generator;
  std::vector<std::string> problems;
  std::string counted = "";  ///< the load whose messages processor time is divided by; "": the first
};

/// Loads on workers: opens, warms up, measures, stops, collects. SIGINT and SIGTERM end the window early.
class Run {
 public:
  explicit Run(const RunOptions& options);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  [[nodiscard]] Worker& worker(size_t number) { return *workers_[number % workers_.size()]; }
  [[nodiscard]] size_t workers() const { return workers_.size(); }
  [[nodiscard]] Problems& problems() { return problems_; }
  /// Stage 0 is stopped at the end of the window, stage 1 when stage 0 has finished.
  template <typename L>
  L& add(size_t worker, int stage, std::unique_ptr<L> load) {
    L& added = *load;
    entries_.push_back({std::move(load), worker % workers_.size(), stage});
    return added;
  }
  /// Between the stages: nothing is sent any more. May throw; that is a problem then.
  void between_stages(std::function<void()> task) { between_ = std::move(task); }
  /// After everything has stopped, before the report.
  void check(std::function<void()> task) { checks_.push_back(std::move(task)); }
  void watch(pid_t pid) { pids_.push_back(pid); }
  /// Runs all of it. Throws what keeps it from beginning.
  RunResult execute();

 private:
  struct Entry {
    std::unique_ptr<Load> load;
    size_t worker;
    int stage;
  };
  bool wait_until(int64_t at, const std::function<bool()>& done);
  void stop_stage(int stage, int64_t end);
  [[nodiscard]] bool finished(int stage) const;
  [[nodiscard]] bool all_finished() const;
  void tick(int64_t now, const Window& window);
  void snapshot(ProcessState WatchedProcess::*when);

  const RunOptions options_;
  Problems problems_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Entry> entries_;
  std::function<void()> between_;
  std::vector<std::function<void()>> checks_;
  std::vector<pid_t> pids_;
  std::vector<WatchedProcess> watched_;
  WatchedProcess self_;
  bool interrupted_ = false;
  bool progress_ = false, line_shown_ = false;
  int64_t last_tick_ = 0;
  uint64_t last_done_ = 0;
};

/// Takes a list such as "0,2-3"; pins this process (threads that start later too). Throws what is wrong.
void pin_to_cpus(const std::string& cpus);

/// As in 2026-01-31T23:59:59Z.
[[nodiscard]] std::string utc_now();

/// Writes the report for people, JSON and HTML, as the options say. Returns the exit status: 1 with problems.
int report(const RunOptions& options, const RunResult& result);

}  // namespace mqbench
