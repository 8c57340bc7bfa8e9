#include <fmt/core.h>

#include <memory>
#include <numeric>
#include <thread>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"

namespace mqbench {

namespace {

struct Call {
  RunOptions run;
  TargetOptions target;
  SendOptions send;
};

/// What was acknowledged must be in the queues. One-way sends may still be on their way.
void check_stored(Run& run, const std::vector<SendLoad*>& senders, const Targets& targets, int64_t before,
                  bool one_way) {
  uint64_t acked = 0;
  for (const auto* sender : senders) acked += sender->acknowledged();
  int64_t stored = 0, last = -1;
  for (int still = 0; still < 20; ++still) {
    const auto ends = queue_ends(targets);
    stored = std::accumulate(ends.begin(), ends.end(), int64_t{0}) - before;
    if (stored >= static_cast<int64_t>(acked)) return;
    if (stored != last) still = 0;
    last = stored;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  run.problems().add(fmt::format("{} messages were {}, but the queues have only {} more than before", acked,
                                 one_way ? "sent one-way" : "acknowledged", stored));
}

int run(Call& call, const tools::CommandOptions& options) {
  settle(call.send);
  if (call.send.messages != 0) {
    if (!options.given("--warmup")) call.run.warmup = 0;
    if (!options.given("--seconds")) call.run.seconds = 86'400;
  }
  call.run.title = fmt::format("{}; {}", describe(call.send), describe(call.target));
  Run run(call.run);
  const auto targets = find_targets(call.target);
  const auto senders = add_senders(run, call.send, targets, new_run_number(), "produce", false);
  const auto ends = queue_ends(targets);
  const auto before = std::accumulate(ends.begin(), ends.end(), int64_t{0});
  run.check([&] { check_stored(run, senders, targets, before, call.send.shape.one_way); });
  return execute_and_report(run, call.run, "produce", "produce");
}

}  // namespace

Command add_produce_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  const auto command = line.add_command("produce", "Sends messages: sync, async, one-way, in batches");
  add_target_options(command, call->target);
  add_send_options(command, call->send);
  command
      .add_option("--messages", call->send.messages,
                  "end after so many instead of --seconds (in whole batches); all are measured, --warmup is 0 then")
      .range(uint64_t{1}, uint64_t{1} << 40)
      .group("Sending");
  add_run_options(command, call->run);
  command.footer(
      "Closed-loop (no --rate) finds the most that the broker takes; its latencies are those of senders that wait for\n"
      "each other. Open-loop (--rate) sends at fixed moments and counts from them, so a stall is seen by all messages\n"
      "that were due in it: latencies are to be read there.\n"
      "Afterwards the ends of the queues must have grown by what was acknowledged; otherwise the exit status is 1.\n\n"
      "Examples\n"
      "  mqbench produce --broker 127.0.0.1:10911                                    64 senders that wait\n"
      "  mqbench produce --broker 127.0.0.1:10911 --mode async --connections 4 --pid $(pidof mqbroker)\n"
      "  mqbench produce --broker 127.0.0.1:10911 --messages 1000000 --batch 16      fill a topic\n"
      "  mqbench produce --broker 127.0.0.1:10911 --rate 5000 --seconds 60 --html send.html\n"
      "  mqbench produce --namesrv 127.0.0.1:9876 --batch 32 --topics 100 --queues 4 --keys --tags A,B\n"
      "  mqbench produce --broker 127.0.0.1:10911 --mode one-way --connections 2 --json -");
  return [call, command] { return command.called() ? run(*call, command) : 0; };
}

}  // namespace mqbench
