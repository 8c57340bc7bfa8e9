#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/loop/event_loop.h"
#include "common/loop/run_on.h"
#include "store/ha/ha_client.h"
#include "store/ha/ha_server.h"
#include "test/support/memory_log.h"
#include "test/support/wait.h"

namespace apogee::test {

/// The lines that something has logged. Thread: any.
class LinesLogged {
 public:
  LinesLogged()
      : logger([this](LogLevel, std::string_view line) {
          std::lock_guard lock(mutex_);
          lines_.emplace_back(line);
        }) {}
  [[nodiscard]] bool have(std::string_view part) const {
    std::lock_guard lock(mutex_);
    for (const auto& line : lines_) {
      if (line.find(part) != std::string::npos) return true;
    }
    return false;
  }
  [[nodiscard]] std::string all() const {
    std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& line : lines_) text += line + "\n";
    return text;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;

 public:
  Logger logger;
};

/// A master's end on loopback, over a log that the test owns.
struct MasterRig {
  explicit MasterRig(store::ReplicatedLog& log, store::HaServer::Options options = master_options())
      : server(std::move(options), log, loop.loop(), lines.logger) {
    auto started = server.start();
    if (!started) throw std::runtime_error(started.error().message);
  }
  static store::HaServer::Options master_options() {
    store::HaServer::Options options;
    options.bind_address = "127.0.0.1";
    options.port = 0;
    options.broker_name = "broker-a";
    options.secret = "s3cret";
    options.heartbeat_ms = 200;
    return options;
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server.port()); }

  LinesLogged lines;
  loop::LoopThread loop{"ha-master"};
  store::HaServer server;
};

/// A slave's end.
struct SlaveRig {
  explicit SlaveRig(store::ReplicatedLog& log, store::HaClient::Options options = slave_options())
      : client(with_worker(std::move(options)), log, loop.loop(), lines.logger) {}
  ~SlaveRig() { client.stop(); }
  static store::HaClient::Options slave_options() {
    store::HaClient::Options options;
    options.broker_name = "broker-a";
    options.broker_id = 1;
    options.secret = "s3cret";
    options.heartbeat_ms = 200;
    options.reconnect_ms = 100;
    return options;
  }
  store::HaClient::Options with_worker(store::HaClient::Options options) {
    options.run_elsewhere = [this](std::function<void()> task) { worker.loop().post(std::move(task)); };
    return options;
  }
  [[nodiscard]] bool is(store::HaClient::State state) const { return client.figures().state == state; }

  LinesLogged lines;
  loop::LoopThread worker{"ha-worker"};
  loop::LoopThread loop{"ha-slave"};
  store::HaClient client;
};

inline bool same_log(const MemoryLog& master, const MemoryLog& slave) {
  return eventually([&] { return slave.end() == master.end(); }) && slave.begin() == master.begin() &&
         slave.content() == master.content();
}

}  // namespace apogee::test
