#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/command_line/command_line.h"
#include "tools/mqbench/loads/pull_load.h"
#include "tools/mqbench/loads/send_load.h"
#include "tools/mqbench/run/run.h"
#include "tools/mqbench/run/targets.h"
#include "tools/mqbench/wire/frame_builder.h"

// Options that several commands share, and how loads are made of them.
namespace mqbench {

struct SendOptions {
  std::string mode = "sync";  ///< "sync", "async", "one-way"
  int64_t connections = 64;
  int64_t window = 64;    ///< of each connection; async only
  double rate = 0;        ///< messages a second of all; 0: closed-loop
  uint64_t messages = 0;  ///< of all, rounded up to whole requests; 0: until the time is over
  bool binary = false;
  std::string group = "mqbench";
  MessageShape shape;
};
struct PullOptions {
  int64_t connections = 1;
  int batch = 32;
  int64_t suspend_ms = 15'000;
  std::string group = "mqbench";
  std::string tags = "*";
  std::string sql;  ///< instead of tags, when not empty
};

void add_run_options(const tools::CommandOptions& command, RunOptions& options, bool timed = true);
void add_target_options(const tools::CommandOptions& command, TargetOptions& options);
void add_send_options(const tools::CommandOptions& command, SendOptions& options);
void add_pull_options(const tools::CommandOptions& command, PullOptions& options);

/// A random number for all that one run sends.
[[nodiscard]] uint32_t new_run_number();
/// Completes what follows from other options. Throws what does not go together.
void settle(SendOptions& options);
[[nodiscard]] std::string describe(const SendOptions& options);
[[nodiscard]] std::string describe(const TargetOptions& options);

/// Adds the senders to the run, spread over its workers; they are stage 0.
std::vector<SendLoad*> add_senders(Run& run, const SendOptions& options, const Targets& targets, uint32_t run_number,
                                   const std::string& name, bool keep_acked);
/// plan: without connections, batch, group and so on, which are the options'. Queues go to the workers in turn.
std::vector<PullLoad*> add_pullers(Run& run, int stage, const PullOptions& options, const PullPlan& plan);

/// Runs, reports; the arguments of this process stand in the report.
/// before: a load that was done already, reported last.
int execute_and_report(Run& run, const RunOptions& options, const std::string& command, const std::string& counted,
                       const LoadResult* before = nullptr);
/// Completes a result that was made without a Run, and reports.
int finish_report(const RunOptions& options, RunResult result, const std::string& command, const std::string& counted);

}  // namespace mqbench
