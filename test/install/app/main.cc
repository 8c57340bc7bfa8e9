// What a user's project sees: only installed headers, one library.
#include <cstdio>

#include "apogee/admin_client.h"
#include "apogee/producer.h"
#include "apogee/pull_consumer.h"
#include "apogee/push_consumer.h"

int main() {
  apogee::ProducerConfig config;
  config.group = "installed";
  config.name_servers = "127.0.0.1:1";  // nobody listens there: the error must come as a value
  config.send_timeout = std::chrono::milliseconds(500);
  apogee::Producer producer(config);
  if (auto started = producer.start(); !started) {
    std::printf("start: %s\n", started.error().message.c_str());
    return 0;
  }
  auto sent = producer.send(apogee::Message("Hello", "world"));
  if (sent) {
    std::printf("sent to nobody\n");
    return 1;
  }
  std::printf("send: %s\n", sent.error().message.c_str());
  return sent.error().message.empty() ? 1 : 0;
}
