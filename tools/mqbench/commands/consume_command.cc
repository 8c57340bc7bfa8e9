#include <fmt/core.h>

#include <memory>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"

namespace mqbench {

namespace {

struct Call {
  RunOptions run;
  TargetOptions target;
  PullOptions pull;
  std::string from = "first";
  bool follow = false;
  bool again = false;
  bool foreign = false;
  bool binary = false;
  bool check_twice = true;
  int64_t expect = -1;
};

int run(Call& call) {
  call.run.title = fmt::format("pulls of {} messages, {}, from the {}; {}", call.pull.batch,
                               call.follow  ? "goes on"
                               : call.again ? "again and again"
                                            : "to the end",
                               call.from, describe(call.target));
  call.run.warmup = 0;
  call.target.create = false;
  Run run(call.run);
  const auto targets = find_targets(call.target);
  const auto ends = queue_ends(targets);
  const auto begins = call.from == "last" ? ends : queue_begins(targets);
  PullPlan plan;
  plan.name = "consume";
  plan.brokers = targets.brokers;
  plan.header = call.binary ? HeaderType::kBinary : HeaderType::kJson;
  plan.foreign_is_wrong = !call.foreign;
  plan.keep_received = call.check_twice && !call.again;
  plan.repeat = call.again;
  for (size_t i = 0; i < targets.queues.size(); ++i)
    plan.queues.push_back({targets.queues[i], begins[i], call.follow ? -1 : ends[i]});
  const auto loads = add_pullers(run, 0, call.pull, plan);
  if (call.expect >= 0)
    run.check([&] {
      uint64_t received = 0;
      for (const auto* load : loads) received += load->received();
      if (received != static_cast<uint64_t>(call.expect))
        run.problems().add(fmt::format("consume: {} messages were expected, {} came", call.expect, received));
    });
  return execute_and_report(run, call.run, "consume", "consume");
}

}  // namespace

Command add_consume_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  const auto command = line.add_command("consume", "Reads queues as fast as it can, and checks what it reads");
  add_target_options(command, call->target);
  add_pull_options(command, call->pull);
  command.add_option("--from", call->from, "first: from the beginning; last: only what comes now")
      .one_of({"first", "last"})
      .show_default()
      .group("Receiving");
  const auto follow =
      command.add_flag("--follow", call->follow, "go on at the end, for --seconds; else stop where the queues end now")
          .group("Receiving");
  command.add_flag("--again", call->again, "at the end begin again, for --seconds; keeps no record of what came")
      .excludes(follow)
      .group("Receiving");
  command.add_flag("--foreign", call->foreign, "the topic may hold messages that mqbench did not write")
      .group("Receiving");
  command.add_flag("!--no-duplicates-check", call->check_twice, "keep no record of what came").group("Receiving");
  command.add_option("--expect", call->expect, "fail unless so many messages come").group("Receiving");
  command.add_flag("--binary", call->binary, "headers in the binary encoding").group("Receiving");
  call->run.seconds = 3'600;
  add_run_options(command, call->run);
  command.footer(
      "One pull is under way for each queue; a pull that finds nothing is held by the broker. Each body's checksum,\n"
      "each message's place in its queue and that it did not come before are checked; otherwise the exit status is 1.\n"
      "The latency is that of the pulls. With tags or SQL92 the rate is that of the messages that the broker "
      "examined.\n\n"
      "Examples\n"
      "  mqbench consume --broker 127.0.0.1:10911 --pid $(pidof mqbroker)       from the beginning to the end\n"
      "  mqbench consume --broker 127.0.0.1:10911 --pull-batch 256 --pull-connections 4\n"
      "  mqbench consume --namesrv 127.0.0.1:9876 --from last --follow --seconds 60\n"
      "  mqbench consume --broker 127.0.0.1:10911 --again --seconds 10 --sql 'price > 10'");
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace mqbench
