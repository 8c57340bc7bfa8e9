#include <fmt/core.h>

#include <memory>
#include <stdexcept>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"

namespace mqbench {

namespace {

struct Call {
  RunOptions run;
  TargetOptions target;
  SendOptions send;
  PullOptions pull;
  bool mixed = false;
  std::string catch_up_topic;
  int64_t catch_up_topics = 1, catch_up_queues = 8;
  bool foreign = false;
};

/// What was acknowledged must have come.
void check_delivered(Run& run, const std::vector<SendLoad*>& senders, const std::vector<PullLoad*>& pullers) {
  Ledger acked, received;
  for (const auto* sender : senders) sender->add_acked(acked);
  for (const auto* puller : pullers) puller->add_received(received);
  uint64_t missing = 0, all = 0;
  for (const auto& [producer, sequences] : acked) {
    missing += sequences.missing_in(received[producer]);
    all += sequences.count();
  }
  if (missing > 0) run.problems().add(fmt::format("{} of {} acknowledged messages did not come", missing, all));
}

/// Live consumers of what is sent from now on.
std::vector<PullLoad*> add_live(Run& run, const Call& call, const Targets& targets, const std::vector<int64_t>& ends,
                                uint32_t run_number) {
  PullPlan plan;
  plan.name = "receive";
  plan.delivery_name = "e2e";
  plan.run = run_number;
  plan.brokers = targets.brokers;
  plan.header = call.send.shape.header;
  plan.foreign_is_wrong = !call.foreign;
  for (size_t i = 0; i < targets.queues.size(); ++i) plan.queues.push_back({targets.queues[i], ends[i]});
  return add_pullers(run, 1, call.pull, plan);
}

/// A consumer with a group of its own that reads from the beginning, again and again.
void add_catching_up(Run& run, const Call& call, const Targets& live) {
  auto targets = live;
  if (!call.catch_up_topic.empty()) {
    auto options = call.target;
    options.topic = call.catch_up_topic;
    options.topics = call.catch_up_topics;
    options.queues = call.catch_up_queues;
    options.create = false;
    targets = find_targets(options);
  }
  const auto begins = queue_begins(targets);
  const auto ends = queue_ends(targets);
  PullPlan plan;
  plan.name = "catch_up";
  plan.brokers = targets.brokers;
  plan.foreign_is_wrong = !call.foreign;
  plan.keep_received = false;
  plan.repeat = true;
  for (size_t i = 0; i < targets.queues.size(); ++i)
    if (ends[i] > begins[i]) plan.queues.push_back({targets.queues[i], begins[i], ends[i]});
  if (plan.queues.empty())
    throw std::runtime_error("there is nothing to catch up with: fill the topic by `mqbench produce`");
  auto pull = call.pull;
  pull.group += "_catch_up";
  add_pullers(run, 0, pull, plan);
}

int run(Call& call) {
  settle(call.send);
  if (call.send.shape.one_way)
    throw std::runtime_error("what is sent one-way is not acknowledged: --mode sync or async");
  call.run.title = fmt::format("{}, live consumers{}; {}", describe(call.send),
                               call.mixed ? ", and one that catches up" : "", describe(call.target));
  Run run(call.run);
  const auto targets = find_targets(call.target);
  const auto run_number = new_run_number();
  const auto senders = add_senders(run, call.send, targets, run_number, "send", true);
  const auto pullers = add_live(run, call, targets, queue_ends(targets), run_number);
  if (call.mixed) add_catching_up(run, call, targets);
  run.between_stages([&] {
    const auto ends = queue_ends(targets);
    for (size_t i = 0; i < pullers.size(); ++i) {
      std::vector<int64_t> share;
      for (size_t queue = i; queue < ends.size(); queue += pullers.size()) share.push_back(ends[queue]);
      run.worker(i).post([puller = pullers[i], share = std::move(share)] { puller->finish_at(share); });
    }
  });
  if (call.pull.tags == "*") run.check([&] { check_delivered(run, senders, pullers); });
  return execute_and_report(run, call.run, call.mixed ? "mixed" : "e2e", "e2e");
}

Command add(tools::CommandLine& line, bool mixed, const char* name, const char* about, const char* footer) {
  auto call = std::make_shared<Call>();
  call->mixed = mixed;
  const auto command = line.add_command(name, about);
  call->send.rate = 1'000;
  call->send.connections = 8;
  call->send.mode = "async";  // a sender that waits could not keep to the rate
  add_target_options(command, call->target);
  add_send_options(command, call->send);
  add_pull_options(command, call->pull);
  command.add_flag("--foreign", call->foreign, "the topics may hold messages that mqbench did not write")
      .group("Receiving");
  if (mixed) {
    command
        .add_option("--catch-up-topic", call->catch_up_topic,
                    "what the consumer that catches up reads (default: the topics that are sent to)")
        .group("Receiving");
    command.add_option("--catch-up-topics", call->catch_up_topics, "as --topics").show_default().group("Receiving");
    command.add_option("--catch-up-queues", call->catch_up_queues, "as --queues").show_default().group("Receiving");
  }
  add_run_options(command, call->run);
  command.footer(footer);
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace

Command add_e2e_command(tools::CommandLine& line) {
  return add(line, false, "e2e", "Sends, receives, and measures from send to receive",
             "Latency `e2e` counts from the moment the send was meant for until the message was read by a consumer\n"
             "whose pull the broker held. Everything acknowledged must come, once and undamaged; otherwise the exit\n"
             "status is 1. Processor time is divided by received messages.\n\n"
             "Examples\n"
             "  mqbench e2e --broker 127.0.0.1:10911 --rate 5000 --seconds 60 --pid $(pidof mqbroker)\n"
             "  mqbench e2e --broker 127.0.0.1:10911 --rate 0 --mode async --connections 4     closed-loop: the most\n"
             "  mqbench e2e --namesrv 127.0.0.1:9876 --rate 1000 --html e2e.html");
}

Command add_mixed_command(tools::CommandLine& line) {
  return add(
      line, true, "mixed", "e2e, while another consumer reads from the beginning, again and again",
      "Latencies are those of `mqbench e2e`; `catch_up` is the other consumer. Fill the topic first; to read\n"
      "cold log, fill a topic of its own and more than fits into memory.\n\n"
      "Examples\n"
      "  mqbench produce --broker 127.0.0.1:10911 --topic cold --mode async --batch 16 --seconds 60\n"
      "  mqbench mixed --broker 127.0.0.1:10911 --rate 5000 --catch-up-topic cold --seconds 60\n"
      "  mqbench mixed --broker 127.0.0.1:10911 --rate 2000 --seconds 300 --pid $(pidof mqbroker) --html mixed.html");
}

}  // namespace mqbench
