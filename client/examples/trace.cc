// Sends and consumes a message with trace, and prints its life. mqadmin queryMsgTraceById shows the same.
// The broker needs traceTopicEnable=true, or makes the trace topic itself where it may (autoCreateTopicEnable).
// usage: trace [TOPIC]   (NAMESRV_ADDR=host:port)
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/producer.h"
#include "apogee/push_consumer.h"

int main(int argc, char** argv) {
  const std::string topic = argc > 1 ? argv[1] : "Traced";
  apogee::ProducerConfig producer_config;
  producer_config.group = "traced_producer";
  producer_config.enable_trace = true;  // written in the background: nothing waits for it
  apogee::Producer producer(producer_config);

  std::atomic<int> calls{0};
  apogee::PushConsumerConfig consumer_config;
  consumer_config.group = "traced_consumer";
  consumer_config.enable_trace = true;
  apogee::PushConsumer consumer(consumer_config);
  consumer.set_concurrent_listener(
      [&](const std::vector<apogee::ReceivedMessage>&, apogee::ConcurrentContext& context) {
        context.delay_level_when_later = 1;
        return ++calls == 1 ? apogee::ConsumeResult::kLater : apogee::ConsumeResult::kSuccess;  // fails once
      });
  if (auto status = producer.start(); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.subscribe(topic); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.start(); !status) return std::cerr << status.error().message << "\n", 1;
  auto receipt = producer.send(apogee::Message(topic, "where have I been?").set_keys("a-key"));
  if (!receipt) return std::cerr << receipt.error().message << "\n", 1;

  apogee::AdminConfig admin_config;
  const char* namesrv = std::getenv("NAMESRV_ADDR");
  admin_config.name_servers = namesrv == nullptr ? "" : namesrv;
  apogee::AdminClient admin(admin_config);
  apogee::admin::TraceQuery query;
  query.msg_id = receipt->msg_id;
  // Sent once, and twice before and after the listener; clients write their traces a moment later.
  for (int i = 0; i < 600; ++i) {
    auto trace = admin.message_trace(query);
    if (trace && trace->records.size() >= 5) {
      for (const auto& record : trace->records) {
        std::cout << record.time_ms << " " << apogee::admin::to_string(record.kind) << " by " << record.group;
        if (record.kind != apogee::admin::TraceKind::kSubBefore) {
          std::cout << (record.success ? ": done" : ": failed") << " in " << record.cost_ms << " ms";
        }
        std::cout << "\n";
      }
      return trace->records.size() == 5 ? 0 : 1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::cerr << "the trace did not come\n";
  return 1;
}
