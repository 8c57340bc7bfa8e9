#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/loads/idle_load.h"

namespace mqbench {

namespace {

struct Call {
  RunOptions run;
  TargetOptions target;
  SendOptions send;
  double sending = 0;
  double heartbeat_seconds = 30;
};

int run(Call& call) {
  settle(call.send);
  const auto all = call.send.connections;
  const auto sending = std::min(all, static_cast<int64_t>(std::llround(static_cast<double>(all) * call.sending)));
  call.run.title = fmt::format("{} connections, {} of them send; {}", all, sending, describe(call.target));
  Run run(call.run);
  const auto run_number = new_run_number();
  Targets targets;
  if (sending > 0)
    targets = find_targets(call.target);
  else
    targets.brokers = find_brokers(call.target);
  const auto idle = static_cast<size_t>(all - sending);
  for (size_t worker = 0; worker < run.workers(); ++worker) {
    IdlePlan plan;
    plan.heartbeat_seconds = call.heartbeat_seconds;
    plan.group = call.send.group;
    plan.client_prefix = fmt::format("mqbench@{:08x}-{}-", run_number, worker);
    for (size_t i = worker; i < idle; i += run.workers())
      plan.addresses.push_back(targets.brokers[i % targets.brokers.size()].address);
    run.add(worker, 0, std::make_unique<IdleLoad>(run.worker(worker), run.problems(), std::move(plan)));
  }
  if (sending > 0) {
    auto send = call.send;
    send.connections = sending;
    add_senders(run, send, targets, run_number, "produce", false);
  }
  return execute_and_report(run, call.run, "connections", sending > 0 ? "produce" : "connect");
}

}  // namespace

Command add_connections_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  const auto command =
      line.add_command("connections", "Opens many connections and keeps them, idle or with some that send");
  call->send.connections = 1'000;
  add_target_options(command, call->target);
  add_send_options(command, call->send);
  command.add_option("--sending", call->sending, "share of the connections that send, 0 to 1")
      .range(0.0, 1.0)
      .show_default()
      .group("Sending");
  command.add_option("--heartbeat", call->heartbeat_seconds, "seconds between two heartbeats of an idle connection")
      .range(0.1, 100.0)
      .show_default()
      .group("Sending");
  add_run_options(command, call->run);
  command.footer(
      "`connect` tells how long each connection took to open, `heartbeat` how long its heartbeats took. A connection\n"
      "that is lost makes the exit status 1. With --pid the memory before the first connection is shown too.\n\n"
      "Examples\n"
      "  mqbench connections --broker 127.0.0.1:10911 --connections 10000 --pid $(pidof mqbroker)\n"
      "  mqbench connections --broker 127.0.0.1:10911 --connections 10000 --sending 0.01\n"
      "  mqbench connections --broker 127.0.0.1:10911 --connections 500 --sending 1 --rate 2000");
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace mqbench
