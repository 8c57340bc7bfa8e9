#include "tools/mqbench/commands/options.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>

#include "common/base/logger.h"
#include "common/base/process.h"
#include "tools/mqbench/wire/stamp.h"

namespace mqbench {

namespace {

std::vector<std::string> own_arguments() {
  std::ifstream in("/proc/self/cmdline");
  const std::string all((std::istreambuf_iterator<char>(in)), {});
  std::vector<std::string> arguments;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\0', at), all.size());
    arguments.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  if (!arguments.empty()) arguments.erase(arguments.begin());
  return arguments;
}

}  // namespace

void add_run_options(const tools::CommandOptions& command, RunOptions& options, bool timed) {
  constexpr const char* kGroup = "Run and report";
  if (timed) {
    command.add_option("--seconds", options.seconds, "length of the measured window")
        .range(0.05, 1e6)
        .show_default()
        .group(kGroup);
    command.add_option("--warmup", options.warmup, "seconds of load before it, which are not measured")
        .range(0.0, 1e6)
        .show_default()
        .group(kGroup);
  }
  command.add_option("--threads", options.threads, "event loops of the generator")
      .range(1, 64)
      .show_default()
      .group(kGroup);
  command.add_option("--cpus", options.cpus, "processors that the generator runs on, such as 1 or 0,2-3").group(kGroup);
  command
      .add_option("--pid", options.pids,
                  "server process whose processor time, memory, faults and switches are reported; repeatable")
      .group(kGroup);
  command.add_option("--json", options.json, "write the report as JSON to this file; - is standard output")
      .group(kGroup);
  command.add_option("--html", options.html, "write it as one HTML page with plots to this file").group(kGroup);
  command.add_flag("--quiet", options.quiet, "no line of progress").group(kGroup);
}

void add_target_options(const tools::CommandOptions& command, TargetOptions& options) {
  constexpr const char* kGroup = "Where";
  command.add_option("--broker", options.broker, "HOST:PORT of one broker; no NameServer is asked").group(kGroup);
  command.add_option("--namesrv", options.namesrv, "HOST:PORT of a NameServer: all masters that it knows")
      .group(kGroup);
  command.add_option("--broker-name", options.broker_name, "of these, only this one").group(kGroup);
  command.add_option("--topic", options.topic, "topic; with --topics N the topics TOPIC-0 and so on")
      .show_default()
      .group(kGroup);
  command.add_option("--topics", options.topics, "number of topics").range(1, 1'000'000).show_default().group(kGroup);
  command.add_option("--queues", options.queues, "queues of each topic on each broker")
      .range(1, 65'536)
      .show_default()
      .group(kGroup);
  command.add_flag("!--no-create", options.create, "the topics are there already, with so many queues").group(kGroup);
}

void add_send_options(const tools::CommandOptions& command, SendOptions& options) {
  constexpr const char* kGroup = "Sending";
  auto& shape = options.shape;
  command
      .add_option("--mode", options.mode, "sync: one message without answer on a connection; async: --window; one-way")
      .one_of({"sync", "async", "one-way"})
      .show_default()
      .group(kGroup);
  command.add_option("--connections", options.connections, "connections in all")
      .range(1, 1'000'000)
      .show_default()
      .group(kGroup);
  command.add_option("--window", options.window, "requests without answer on each connection (async)")
      .range(1, 65'536)
      .show_default()
      .group(kGroup);
  command
      .add_option(
          "--rate", options.rate,
          "open-loop: messages a second in all, sent when they are due; 0: closed-loop, as fast as answers come")
      .range(0.0, 1e9)
      .show_default()
      .group(kGroup);
  command.add_option("--body", shape.body_bytes, fmt::format("bytes of a body, at least {}", Stamp::kBytes))
      .bytes()
      .range(Stamp::kBytes, size_t{32} << 20)
      .show_default()
      .group(kGroup);
  command.add_option("--batch", shape.batch, "messages of one request (SEND_BATCH_MESSAGE)")
      .range(1, 100'000)
      .show_default()
      .group(kGroup);
  command.add_flag("--keys", shape.keys, "each message has a key of its own").group(kGroup);
  command.add_flag("--unique-key", shape.unique_key, "and a UNIQ_KEY, as SDKs send it").group(kGroup);
  command.add_option("--tags", shape.tags, "tags that the messages have in turn, such as A,B")
      .comma_separated()
      .group(kGroup);
  command.add_option("--properties", shape.properties, "further properties of each message, 16 bytes each")
      .range(0, 1'000)
      .group(kGroup);
  command.add_flag("--binary", options.binary, "headers in the binary encoding instead of JSON").group(kGroup);
  command.add_option("--producer-group", options.group, "group of the producers").show_default().group(kGroup);
}

void add_pull_options(const tools::CommandOptions& command, PullOptions& options) {
  constexpr const char* kGroup = "Receiving";
  command.add_option("--pull-connections", options.connections, "connections to each broker that the queues share")
      .range(1, 100'000)
      .show_default()
      .group(kGroup);
  command.add_option("--pull-batch", options.batch, "messages that a pull asks for")
      .range(1, 10'000)
      .show_default()
      .group(kGroup);
  command.add_option("--suspend-ms", options.suspend_ms, "how long the broker may hold a pull that finds nothing")
      .range(1, 600'000)
      .show_default()
      .group(kGroup);
  command.add_option("--group", options.group, "consumer group; no offset is committed").show_default().group(kGroup);
  const auto tags =
      command.add_option("--subscription", options.tags, "tags that are subscribed to, such as \"A || B\"")
          .show_default()
          .group(kGroup);
  command.add_option("--sql", options.sql, "an SQL92 expression instead of tags, such as \"price > 10\"")
      .excludes(tags)
      .group(kGroup);
}

uint32_t new_run_number() { return std::random_device{}(); }

void settle(SendOptions& options) {
  options.shape.one_way = options.mode == "one-way";
  options.shape.header = options.binary ? HeaderType::kBinary : HeaderType::kJson;
  if (options.mode == "sync") options.window = 1;
  const apogee::Logger silent;
  apogee::raise_descriptor_limit(static_cast<uint64_t>(options.connections) + 100, silent);
}

std::string describe(const SendOptions& options) {
  const auto& shape = options.shape;
  std::string text = fmt::format("{} send, {} connections", options.mode, options.connections);
  if (options.mode == "async") text += fmt::format(" x {} in flight", options.window);
  text += fmt::format(", bodies of {} bytes", shape.body_bytes);
  if (shape.batch > 1) text += fmt::format(" in batches of {}", shape.batch);
  text += options.rate > 0 ? fmt::format(", open-loop at {:.0f}/s", options.rate) : ", closed-loop";
  if (options.binary) text += ", binary headers";
  return text;
}

std::string describe(const TargetOptions& options) {
  return fmt::format("{}, {} topic{} of {} queue{}", options.broker.empty() ? options.namesrv : options.broker,
                     options.topics, options.topics == 1 ? "" : "s", options.queues, options.queues == 1 ? "" : "s");
}

std::vector<SendLoad*> add_senders(Run& run, const SendOptions& options, const Targets& targets, uint32_t run_number,
                                   const std::string& name, bool keep_acked) {
  const auto frames = build_send_frames(options.shape, run_number, options.group, targets);
  auto workers = std::min<size_t>(run.workers(), static_cast<size_t>(options.connections));
  const uint64_t requests = (options.messages + options.shape.batch - 1) / options.shape.batch;
  if (requests != 0) workers = std::min<size_t>(workers, requests);
  std::vector<SendLoad*> loads;
  uint32_t next = 0;
  for (size_t worker = 0; worker < workers; ++worker) {
    RequestPlan plan;
    plan.name = name;
    plan.first_connection = next;
    plan.window = static_cast<size_t>(options.window);
    plan.one_way = options.shape.one_way;
    plan.rate = options.rate;
    plan.share = static_cast<uint32_t>(worker);
    plan.shares = static_cast<uint32_t>(workers);
    plan.messages_per_request = options.shape.batch;
    plan.messages = (requests * (worker + 1) / workers - requests * worker / workers) * options.shape.batch;
    plan.bytes_per_request = options.shape.batch * options.shape.body_bytes;
    std::vector<size_t> brokers;
    const auto until = static_cast<uint32_t>(static_cast<size_t>(options.connections) * (worker + 1) / workers);
    for (; next < until; ++next) {
      brokers.push_back(next % targets.brokers.size());
      plan.addresses.push_back(targets.brokers[brokers.back()].address);
    }
    loads.push_back(&run.add(worker, 0,
                             std::make_unique<SendLoad>(run.worker(worker), run.problems(), std::move(plan), frames,
                                                        std::move(brokers), keep_acked)));
  }
  return loads;
}

std::vector<PullLoad*> add_pullers(Run& run, int stage, const PullOptions& options, const PullPlan& plan) {
  std::vector<PullLoad*> loads;
  for (size_t worker = 0; worker < run.workers(); ++worker) {
    PullPlan share = plan;
    share.group = options.group;
    share.connections = static_cast<size_t>(options.connections);
    share.batch = options.batch;
    share.suspend_ms = options.suspend_ms;
    share.sql = !options.sql.empty();
    share.subscription = share.sql ? options.sql : options.tags;
    share.queues.clear();
    for (size_t i = worker; i < plan.queues.size(); i += run.workers()) share.queues.push_back(plan.queues[i]);
    loads.push_back(
        &run.add(worker, stage, std::make_unique<PullLoad>(run.worker(worker), run.problems(), std::move(share))));
  }
  return loads;
}

int execute_and_report(Run& run, const RunOptions& options, const std::string& command, const std::string& counted,
                       const LoadResult* before) {
  auto result = run.execute();
  if (before != nullptr) result.loads.push_back(*before);
  return finish_report(options, std::move(result), command, counted);
}

int finish_report(const RunOptions& options, RunResult result, const std::string& command, const std::string& counted) {
  result.command = command;
  result.arguments = own_arguments();
  result.counted = counted;
  return report(options, result);
}

}  // namespace mqbench
