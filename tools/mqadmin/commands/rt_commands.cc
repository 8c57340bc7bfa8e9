#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "apogee/producer.h"
#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/interrupt.h"

// How long sends take.
namespace mqadmin {

namespace {

using Clock = std::chrono::steady_clock;

/// A producer that tries once, so that what is measured is one send.
Result<std::unique_ptr<apogee::Producer>> measuring_producer(Invocation& in) {
  if (in.name_servers().empty()) return Error{Errc::kInvalidArgument, "no NameServer address is given"};
  apogee::ProducerConfig config;
  config.name_servers = in.name_servers();
  config.group = "PID_SMSC";
  config.retries = 0;
  config.compress_body_bytes_min = 0;
  auto producer = std::make_unique<apogee::Producer>(std::move(config));
  APOGEE_TRY(producer->start());
  return producer;
}

struct Sent {
  double ms = 0;
  Result<apogee::SendReceipt> result;
};

Sent send_one(apogee::Producer& producer, const apogee::Message& message, const apogee::SendOptions& options) {
  const auto begin = Clock::now();
  auto result = producer.send(message, options);
  return {std::chrono::duration<double, std::milli>(Clock::now() - begin).count(), std::move(result)};
}

/// Mean of the sends but the first, which also makes the connection; of the first where there is no other.
class Mean {
 public:
  void add(double ms) {
    if (count_++ == 0)
      first_ = ms;
    else
      sum_ += ms;
  }
  [[nodiscard]] double ms() const { return count_ > 1 ? sum_ / static_cast<double>(count_ - 1) : first_; }

 private:
  double first_ = 0, sum_ = 0;
  int64_t count_ = 0;
};

Cell ms_cell(double ms) {
  std::string text = fmt::format("{:.2f}", ms);
  return {text, text};
}

struct Load {
  int64_t count = 0;
  std::string body;
};

Result<Load> load_of(Invocation& in, char count_letter, int64_t count_default) {
  Load load;
  APOGEE_TRY_ASSIGN(load.count, in.number(count_letter, count_default, 1, 10'000'000));
  APOGEE_TRY_ASSIGN(auto bytes, in.number('s', 128, 1, 4 * 1024 * 1024));
  load.body = std::string(static_cast<size_t>(bytes), 'a');
  return load;
}

struct RoundTrip {
  Mean mean;
  int64_t stored = 0, failed = 0;
  std::string last_error;
};

/// One round of clusterRT for one broker; ends early when the user does not want to wait.
Result<RoundTrip> measure_broker(apogee::Producer& producer, const Load& load, const std::string& broker,
                                 Interrupt& interrupt) {
  RoundTrip trip;
  const apogee::Message message(broker, load.body);
  for (int64_t i = 0; i < load.count && !interrupt.came(); ++i) {
    auto sent = send_one(producer, message, {});
    trip.mean.add(sent.ms);
    if (sent.result) {
      ++trip.stored;
    } else {
      ++trip.failed;
      trip.last_error = sent.result.error().message;
    }
  }
  return trip;
}

}  // namespace

Status run_check_msg_send_rt(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto load, load_of(in, 'a', 100));
  Interrupt interrupt;
  APOGEE_TRY_ASSIGN(auto producer, measuring_producer(in));
  const apogee::Message message(in.get('t'), load.body);
  APOGEE_TRY_ASSIGN(auto queues, producer->queues(message.topic()));
  if (queues.empty()) return Error{Errc::kNotFound, fmt::format("the topic {} has no queue to send to", in.get('t'))};
  Table table(
      {{"#Broker Name", "brokerName", 32}, {"#QID", "queueId", 4}, {"#Send Result", "sent", 20}, {"#RT", "rtMs"}});
  Mean mean;
  int64_t failed = 0, done = 0;
  std::string last_error;
  Progress progress("sends", load.count);
  for (; done < load.count && !interrupt.came(); ++done) {
    const auto& queue = queues[static_cast<size_t>(done) % queues.size()];
    auto sent = send_one(*producer, message, apogee::SendOptions::to(queue));
    mean.add(sent.ms);
    if (!sent.result) {
      ++failed;
      last_error = sent.result.error().message;
    }
    const char* stored = sent.result ? "true" : "false";
    table.row({queue.broker_name, queue.queue_id, {stored, stored}, ms_cell(sent.ms)});
    progress.advance();
  }
  progress.hide();
  in.out.rows(table);
  in.out.line(fmt::format("Avg RT: {:.2f}", mean.ms()));
  JsonWriter json;
  json.begin_object().key("sends");
  table.to_json(json);
  in.out.write(json.member("averageRtMs", mean.ms()).member("failed", failed).end_object());
  if (failed > 0) return Error{Errc::kBroker, fmt::format("{} of {} sends failed: {}", failed, done, last_error)};
  return {};
}

Status run_send_msg_status(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto load, load_of(in, 'c', 50));
  const std::string broker = in.get('b');
  Interrupt interrupt;
  APOGEE_TRY(in.client().broker_address(broker));
  APOGEE_TRY_ASSIGN(auto producer, measuring_producer(in));
  // Each broker has a topic of its own name.
  auto first = send_one(*producer, apogee::Message(broker, std::string(16, 'a')), {});
  if (!first.result) return std::move(first.result).error();
  const apogee::Message message(broker, load.body);
  JsonWriter json;
  json.begin_array();
  for (int64_t i = 0; i < load.count && !interrupt.came(); ++i) {
    auto sent = send_one(*producer, message, {});
    if (!sent.result) return std::move(sent.result).error();
    const auto& receipt = *sent.result;
    in.out.line(
        fmt::format("rt={:.2f}ms, SendResult=SendResult [sendStatus={}, msgId={}, offsetMsgId={}, "
                    "messageQueue=MessageQueue [topic={}, brokerName={}, queueId={}], queueOffset={}]",
                    sent.ms, apogee::to_string(receipt.status), receipt.msg_id, receipt.offset_msg_id,
                    receipt.queue.topic, receipt.queue.broker_name, receipt.queue.queue_id, receipt.queue_offset));
    json.begin_object()
        .member("rtMs", sent.ms)
        .member("sendStatus", apogee::to_string(receipt.status))
        .member("msgId", receipt.msg_id)
        .member("offsetMsgId", receipt.offset_msg_id)
        .member("brokerName", receipt.queue.broker_name)
        .member("queueId", receipt.queue.queue_id)
        .member("queueOffset", receipt.queue_offset)
        .end_object();
  }
  in.out.write(json.end_array());
  return {};
}

Status run_cluster_rt(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto load, load_of(in, 'a', 100));
  APOGEE_TRY_ASSIGN(auto interval, in.number('i', 10, 1, 86'400));
  APOGEE_TRY_ASSIGN(auto rounds, in.number('r', 0, 1, INT32_MAX));
  APOGEE_TRY_ASSIGN(auto as_log, in.truth('p', false));
  const std::string room = in.get('m', "noname");
  Interrupt interrupt;
  APOGEE_TRY_ASSIGN(auto cluster, in.client().cluster());
  const std::string wanted = in.get('c');
  if (!wanted.empty() && cluster.clusters.count(wanted) == 0)
    return Error{Errc::kNotFound, fmt::format("there is no cluster {}", wanted)};
  APOGEE_TRY_ASSIGN(auto producer, measuring_producer(in));
  bool header = true;
  for (int64_t round = 0; rounds == 0 || round < rounds; ++round) {
    if (round > 0 && interrupt.came(std::chrono::seconds(interval))) break;
    Table table({{"#Cluster Name", "cluster", 24},
                 {"#Broker Name", "brokerName", 24},
                 {"#RT", "rtMs", 8},
                 {"#successCount", "successCount", 16},
                 {"#failCount", "failCount", 16}},
                header);
    for (const auto& [name, brokers] : cluster.clusters) {
      if (!wanted.empty() && name != wanted) continue;
      for (const auto& broker : brokers) {
        APOGEE_TRY_ASSIGN(auto trip, measure_broker(*producer, load, broker, interrupt));
        if (as_log) {
          in.out.line(fmt::format("{}|{}|{}|{}|{:.0f}", human_time(now_ms()), room, name, broker, trip.mean.ms()));
        } else {
          table.row({name, broker, ms_cell(trip.mean.ms()), trip.stored, trip.failed});
        }
        if (in.out.json()) {
          JsonWriter json;
          json.begin_object().member("time", now_ms()).member("machineRoom", room).member("cluster", name);
          json.member("brokerName", broker).member("rtMs", trip.mean.ms()).member("successCount", trip.stored);
          json.member("failCount", trip.failed);
          if (!trip.last_error.empty()) json.member("lastError", trip.last_error);
          in.out.write(json.end_object());
        }
      }
    }
    if (!as_log) in.out.rows(table);
    header = false;
    if (!in.out.flush() || interrupt.came()) break;
  }
  return {};
}

}  // namespace mqadmin
