#include "apogee/producer.h"

int main() {
  apogee::ProducerConfig config;
  config.group = "hello";
  config.name_servers = "127.0.0.1:9876";
  apogee::Producer producer(config);
  if (auto started = producer.start(); !started) return 1;
  return producer.send(apogee::Message("Hello", "Hello, ApogeeMQ!")) ? 0 : 1;
}
