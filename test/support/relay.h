#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace apogee::test {

/// Listens on `host` and passes connections on to another place, both ways, each byte so much later. For kernels
/// without a delay of their own. The threads are on the machine (Network::Visit) of the thread that makes it.
class Relay {
 public:
  Relay(const std::string& host, std::string to_host, uint16_t to_port, std::chrono::milliseconds delay);
  ~Relay();  ///< closes everything
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] int64_t bytes() const;  ///< passed on so far

 private:
  struct Pipe;
  void accept_all();
  void carry(int from, const std::shared_ptr<Pipe>& pipe);
  void deliver(const std::shared_ptr<Pipe>& pipe, int to);

  const std::string to_host_;
  const uint16_t to_port_;
  const std::chrono::milliseconds delay_;
  uint16_t port_ = 0;
  int listener_ = -1;
  mutable std::mutex mutex_;
  bool stopping_ = false;
  int64_t bytes_ = 0;
  std::vector<int> sockets_;
  std::vector<std::shared_ptr<Pipe>> pipes_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace apogee::test
