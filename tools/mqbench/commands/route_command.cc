#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/loads/route_load.h"
#include "tools/mqbench/net/control_client.h"

namespace mqbench {

namespace {

constexpr int kRegisterBroker = 103, kUnregisterBroker = 104, kGetRoute = 105;
/// A NameServer forgets a broker that did not register for two minutes.
constexpr double kRegisteredSeconds = 100;
constexpr const char* kCluster = "mqbench";

struct Call {
  RunOptions run;
  SendOptions send;
  std::string namesrv;
  std::string topic = "mqbench";
  int64_t topics = 1'000, queues = 8;
  int registrations = 10;
  bool do_register = true;
};

std::string topic_name(const Call& call, int64_t number) { return fmt::format("{}-{}", call.topic, number); }

/// A broker that is none, known to the NameServer while this lives.
class Registered {
 public:
  Registered(const Call& call, std::string name)
      : client_(call.namesrv),
        name_(std::move(name)),
        fields_{{"brokerName", name_}, {"brokerAddr", "127.0.0.1:1"}, {"clusterName", kCluster}, {"brokerId", "0"}} {
    topics_ = "{";
    for (int64_t i = 0; i < call.topics; ++i)
      topics_ += fmt::format(
          "{0}\"{1}\":{{\"order\":false,\"perm\":6,\"readQueueNums\":{2},\"topicFilterType\":\"SINGLE_TAG\","
          "\"topicName\":\"{1}\",\"topicSysFlag\":0,\"writeQueueNums\":{2}}}",
          i == 0 ? "" : ",", topic_name(call, i), call.queues);
    topics_ += "}";
  }
  ~Registered() {
    try {
      client_.call(kUnregisterBroker, fields_);
    } catch (const std::exception&) {  // the NameServer forgets it with the connection
    }
  }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;

  /// Registers all topics under a new version; returns how long that took, in ns.
  int64_t register_all() {
    ++version_;
    const auto body = fmt::format(
        "{{\"filterServerList\":[],\"topicConfigSerializeWrapper\":{{\"dataVersion\":{{\"counter\":{},\"timestamp\":{}}"
        "},"
        "\"topicConfigTable\":{}}}}}",
        version_, 1'700'000'000'000 + version_, topics_);
    auto fields = fields_;
    fields.insert(fields.end(), {{"haServerAddr", "127.0.0.1:2"}, {"compressed", "false"}, {"bodyCrc32", "0"}});
    const int64_t begun = now_ns();
    client_.need("registration", kRegisterBroker, fields, body);
    return now_ns() - begun;
  }

 private:
  ControlClient client_;
  const std::string name_;
  const Fields fields_;
  std::string topics_;
  int64_t version_ = 0;
};

int run(Call& call) {
  settle(call.send);
  if (call.do_register && call.run.seconds + call.run.warmup > kRegisteredSeconds)
    throw std::runtime_error(
        fmt::format("at most {} s with --warmup: the NameServer forgets the topics then", kRegisteredSeconds));
  call.run.title =
      fmt::format("routes of {} topics, {} connections{}; NameServer {}", call.topics, call.send.connections,
                  call.send.rate > 0 ? fmt::format(", open-loop at {:.0f}/s", call.send.rate) : "", call.namesrv);
  Run run(call.run);
  std::unique_ptr<Registered> registered;
  LoadResult registrations;
  registrations.name = "register";
  registrations.whole_run = true;
  if (call.do_register) {
    registered = std::make_unique<Registered>(call, fmt::format("mqbench-{:08x}", new_run_number()));
    for (int i = 0; i < call.registrations; ++i) {
      registrations.recorded.latency.record(registered->register_all());
      ++registrations.recorded.messages;
      ++registrations.recorded.frames;
    }
  }
  auto requests = std::make_shared<std::vector<RequestFrame>>();
  for (int64_t i = 0; i < call.topics; ++i)
    requests->push_back(build_request(call.send.shape.header, kGetRoute, false, {{"topic", topic_name(call, i)}}, 0));
  const auto address = resolve_address(call.namesrv);
  const auto workers = std::min<size_t>(run.workers(), static_cast<size_t>(call.send.connections));
  for (size_t worker = 0; worker < workers; ++worker) {
    RequestPlan plan;
    plan.name = "route";
    plan.window = static_cast<size_t>(call.send.window);
    plan.rate = call.send.rate;
    plan.share = static_cast<uint32_t>(worker);
    plan.shares = static_cast<uint32_t>(workers);
    const auto all = static_cast<size_t>(call.send.connections);
    plan.first_connection = static_cast<uint32_t>(all * worker / workers);
    plan.addresses.assign(all * (worker + 1) / workers - all * worker / workers, address);
    run.add(worker, 0, std::make_unique<RouteLoad>(run.worker(worker), run.problems(), std::move(plan), requests));
  }
  return execute_and_report(run, call.run, "route", "route", call.do_register ? &registrations : nullptr);
}

}  // namespace

Command add_route_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  const auto command = line.add_command("route", "Load of a NameServer: route queries, registrations of many topics");
  call->send.connections = 8;
  call->send.window = 1;
  command.add_option("--namesrv", call->namesrv, "HOST:PORT of the NameServer").required().group("Where");
  command.add_option("--topic", call->topic, "the topics are called TOPIC-0 and so on").show_default().group("Where");
  command.add_option("--topics", call->topics, "number of topics").range(1, 1'000'000).show_default().group("Where");
  command.add_option("--queues", call->queues, "queues of each topic that is registered").show_default().group("Where");
  command.add_flag("!--no-register", call->do_register, "the topics are there already; register nothing")
      .group("Where");
  command.add_option("--registrations", call->registrations, "how often all topics are registered before the queries")
      .range(1, 10'000)
      .show_default()
      .group("Where");
  command.add_option("--connections", call->send.connections, "connections in all")
      .range(1, 100'000)
      .show_default()
      .group("Queries");
  command.add_option("--window", call->send.window, "queries without answer on each connection")
      .range(1, 65'536)
      .show_default()
      .group("Queries");
  command.add_option("--rate", call->send.rate, "open-loop: queries a second in all; 0: closed-loop")
      .range(0.0, 1e9)
      .show_default()
      .group("Queries");
  command.add_flag("--binary", call->send.binary, "headers in the binary encoding instead of JSON").group("Queries");
  call->send.mode = "async";
  add_run_options(command, call->run);
  command.footer(
      "`route` are the queries, `register` the registrations of a broker with all the topics, one after another, from\n"
      "the request to the answer. The topics are gone afterwards.\n\n"
      "Examples\n"
      "  mqbench route --namesrv 127.0.0.1:9876 --topics 10000 --pid $(pidof mqnamesrv)\n"
      "  mqbench route --namesrv 127.0.0.1:9876 --connections 64 --window 16 --rate 50000");
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace mqbench
