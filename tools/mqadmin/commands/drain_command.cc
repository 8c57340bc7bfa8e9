#include <fmt/format.h>

#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/lag_text.h"
#include "tools/mqadmin/interrupt.h"
#include "tools/mqadmin/topic_drain.h"

// Copying a backlog into a wider topic.
namespace mqadmin {

namespace {

Table plan_table(const DrainPlan& plan) {
  Table table({{"#Topic", "topic", 40},
               {"#Broker Name", "brokerName", 32},
               {"#QID", "queueId", 4},
               {"#From", "from", 16},
               {"#To", "to", 16},
               {"#Messages", "messages"}});
  for (const auto& part : plan.queues)
    table.row(
        {part.queue.topic, part.queue.broker_name, part.queue.queue_id, part.begin, part.end, part.end - part.begin});
  return table;
}

/// How to call the command again.
std::string same_call(Invocation& in) {
  std::string call = fmt::format("mqadmin drainTopic -t {} -g {} -d {}", in.get('t'), in.get('g'), in.get('d'));
  if (in.has('k')) call += " -k " + in.get('k');
  if (in.has('r')) call += " -r " + in.get('r');
  return call;
}

void write_plan(JsonWriter& json, const DrainOptions& options, const DrainPlan& plan) {
  json.begin_object()
      .member("topic", options.topic)
      .member("group", options.group)
      .member("target", options.target)
      .member("targetQueues", plan.targets.size())
      .member("messages", plan.messages)
      .member("expired", plan.expired)
      .member("copiedBefore", plan.copied_already)
      .key("queues");
  plan_table(plan).to_json(json);
}

void print_plan(Invocation& in, const DrainOptions& options, const DrainPlan& plan) {
  in.out.rows(plan_table(plan));
  in.out.line(fmt::format("\n{} messages of {} that {} has not consumed, into {} queues of {}", plan.messages,
                          options.topic, options.group, plan.targets.size(), options.target));
  if (plan.copied_already > 0)
    in.out.line(fmt::format("{} of them are copied already, by a drain that was interrupted", plan.copied_already));
  if (plan.expired > 0) in.out.line(fmt::format("WARN: {} more have expired and are gone", plan.expired));
  if (plan.targets.size() <= plan.queues.size())
    in.out.line(fmt::format("WARN: {} has {} queues and {} has {}: it is not wider", options.target,
                            plan.targets.size(), options.topic, plan.queues.size()));
  const int64_t left = plan.messages - plan.copied_already;
  if (options.rate > 0)
    in.out.line(fmt::format("At {:.0f} messages a second this takes about {}", options.rate,
                            human_duration(static_cast<int64_t>(static_cast<double>(left) / options.rate * 1000))));
}

}  // namespace

Status run_drain_topic(Invocation& in) {
  DrainOptions options;
  options.topic = in.get('t');
  options.group = in.get('g');
  options.target = in.get('d');
  options.key_property = in.get('k');
  APOGEE_TRY_ASSIGN(auto rate, in.number('r', 1'000, 0, 1'000'000));
  options.rate = static_cast<double>(rate);
  Interrupt interrupt;
  TopicDrain drain(in.client(), options);
  APOGEE_TRY_ASSIGN(auto plan, drain.plan());
  JsonWriter json;
  write_plan(json, options, plan);
  print_plan(in, options, plan);
  if (in.has('y')) {
    in.out.line("Nothing was copied: this is a dry run.");
    in.out.write(json.member("dryRun", true).end_object());
    return {};
  }
  (void)in.out.flush();

  DrainResult result;
  {
    Progress bar("messages copied");
    result = drain.run(plan, [&](int64_t done, int64_t total) {
      bar.set(done, total);
      return !interrupt.came();
    });
  }
  const double per_second = result.seconds > 0 ? static_cast<double>(result.copied) / result.seconds : 0;
  in.out.line(fmt::format("\n{}: {} messages copied in {:.1f} s ({:.0f} a second), {} were copied before",
                          result.complete ? "Done" : "Not complete", result.copied, result.seconds, per_second,
                          result.copied_already));
  if (result.complete) {
    in.out.line(
        fmt::format("The offsets of {} are behind the last message that was copied: consumers of {} can begin, "
                    "and what is still sent to {} needs another drain.",
                    options.group, options.target, options.topic));
  }
  in.out.write(json.member("copied", result.copied)
                   .member("skipped", result.copied_already)
                   .member("complete", result.complete)
                   .member("seconds", result.seconds)
                   .end_object());
  if (result.complete && !result.error) return {};
  const std::string again = "; nothing is lost, and the same call goes on where this one ended: " + same_call(in);
  if (result.error) return Error{result.error->code, result.error->message + again};
  return Error{Errc::kClosed, "stopped" + again};
}

}  // namespace mqadmin
