#include "tools/mqbench/store/store_command.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>

#include "tools/command_line/command_line.h"
#include "tools/mqbench/store/scenarios.h"

namespace mqbench {

namespace fs = std::filesystem;

namespace {

struct Scenario {
  const char* name;
  void (*measure)(const StoreBenchOptions& options, Report& report);
};
// Memory first, while the process is small.
constexpr Scenario kScenarios[] = {{"memory", measure_memory},
                                   {"append", measure_append},
                                   {"sync", measure_sync_flush},
                                   {"index", measure_index},
                                   {"start", measure_start}};

struct Call {
  StoreBenchOptions options;
  std::string directory;
  std::vector<std::string> only;
  bool json = false;
};

/// A new directory below the given one, removed with everything in it.
class Scratch {
 public:
  explicit Scratch(const fs::path& parent) {
    fs::create_directories(parent);
    std::string name = (parent / "mqbench-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a directory in " + parent.string());
    path = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path path;
};

int run(Call& call) {
  Report report(call.json, !call.json && ::isatty(STDERR_FILENO) == 1);
  const fs::path parent = call.directory.empty() ? fs::temp_directory_path() : fs::path(call.directory);
  const Scratch scratch(parent);
  auto& options = call.options;
  options.directory = scratch.path;
  // The store to start takes at most a third of the room that there is.
  const auto room = static_cast<int64_t>(fs::space(scratch.path).available);
  if (options.store_bytes > room / 3) {
    options.store_bytes = room / 3;
    fmt::print(stderr, "mqbench: the disk has {} MiB: the store to start gets {} MiB\n", room >> 20,
               options.store_bytes >> 20);
  }
  bool complete = true;
  for (const auto& scenario : kScenarios) {
    if (!call.only.empty() && std::find(call.only.begin(), call.only.end(), scenario.name) == call.only.end()) continue;
    try {
      scenario.measure(options, report);
    } catch (const std::exception& failure) {
      complete = false;
      fmt::print(stderr, "mqbench: {}: {}\n", scenario.name, failure.what());
    }
  }
  report.finish();
  return complete ? 0 : 1;
}

}  // namespace

std::function<int()> add_store_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  auto& options = call->options;
  const auto command =
      line.add_command("store", "The store in this process, at its own interface: no network, no broker");
  command.footer(
      "Figures\n"
      "  memory.*   own memory, open files and start with many topics\n"
      "  append.*   appends of one thread against memcpy of the same bytes\n"
      "  sync.N.*   SYNC_FLUSH with N senders against a bare loop of write and fdatasync\n"
      "  index.*    entries a second and their share of the processor time\n"
      "  start.*    start after a stop; recover.*: after a crash, for each GiB that is walked\n"
      "What is compared is measured in turns in one run, so ratios hold on any machine; rates hold on an idle one.\n"
      "Sizes take a unit: 512K, 64M, 10G.\n\n"
      "Examples\n"
      "  mqbench store --dir /data                    everything, on the disk of /data\n"
      "  mqbench store --only sync --senders 1,64     one scenario\n"
      "  mqbench store --store-size 1G --seconds 1    in a minute or so\n"
      "  mqbench store --json > figures.json");
  command.add_option(
      "--dir", call->directory,
      "where to work: a directory is made in it and removed (default: the system's for temporary files)");
  command.add_option("--only", call->only, "scenarios: memory, append, sync, index, start (default: all)")
      .comma_separated()
      .one_of({"memory", "append", "sync", "index", "start"});
  command.add_flag("--json", call->json, "print one JSON object when all is done");
  command.add_option("--seconds", options.seconds, "of each timed measurement").range(0.01, 3'600.0).show_default();
  command.add_option("--body", options.body_bytes, "bytes of a message's body")
      .bytes()
      .range(int64_t{1}, int64_t{4} << 20)
      .show_default();
  command.add_option("--append-size", options.append_bytes, "bytes that one measurement of appends writes at most")
      .bytes()
      .show_default();
  command.add_option("--senders", options.senders, "numbers of senders under SYNC_FLUSH")
      .comma_separated()
      .range(int64_t{1}, int64_t{100'000})
      .show_default();
  command
      .add_option("--store-size", options.store_bytes, "log of the store that is started; less when the disk is short")
      .bytes()
      .show_default();
  command
      .add_option("--store-body", options.store_body_bytes, "bytes of a body in stores that are started or recovered")
      .bytes()
      .range(int64_t{1}, int64_t{4} << 20)
      .show_default();
  command.add_option("--recover-size", options.recover_bytes, "log of the store that is recovered")
      .bytes()
      .show_default();
  command.add_option("--log-file-size", options.log_file_bytes, "mappedFileSizeCommitLog")
      .bytes()
      .range(int64_t{1} << 16, int64_t{INT32_MAX})
      .show_default();
  command.add_option("--index-messages", options.index_messages, "messages with keys")
      .range(int64_t{1}, int64_t{1'000'000'000})
      .show_default();
  command.add_option("--topics", options.topics, "topics of the scenario memory")
      .range(int64_t{1}, int64_t{1'000'000})
      .show_default();
  command.add_option("--queues", options.queues, "queues of each of them")
      .range(int64_t{1}, int64_t{1'024})
      .show_default();
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace mqbench
