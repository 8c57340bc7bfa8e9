#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace apogee::test {

/// Many senders in one thread, each with a connection and one message on its way.
struct Senders {
  int connections = 1;
  size_t body_bytes = 1'024;
  int batch = 1;                   ///< messages in a request
  double requests_per_second = 0;  ///< of all together, latency counted from when each was due; 0: as fast as it goes
};

struct Answer {
  std::chrono::steady_clock::time_point at;
  int64_t latency_us = 0;
};

struct Sent {
  std::vector<Answer> answers;  ///< with SEND_OK
  size_t others = 0;
  double seconds = 0;

  [[nodiscard]] double rate() const { return seconds > 0 ? static_cast<double>(answers.size()) / seconds : 0; }
  /// part: 0.5 is the median; microseconds.
  [[nodiscard]] int64_t percentile(double part) const;
};

/// Sends to a port of 127.0.0.1 until done() says so, which is asked each few milliseconds.
template <typename Done>
Sent send_until(uint16_t port, const Senders& senders, Done done);

/// What send_until() is made of.
class SenderLoop {
 public:
  SenderLoop(uint16_t port, const Senders& senders);
  ~SenderLoop();
  SenderLoop(const SenderLoop&) = delete;
  SenderLoop& operator=(const SenderLoop&) = delete;
  void step();  ///< takes what comes within a few milliseconds
  [[nodiscard]] Sent finish();

 private:
  using Clock = std::chrono::steady_clock;
  struct Connection {
    int fd = -1;
    bool waiting = false;
    Clock::time_point due;
    std::string read;
  };
  void send(Connection& connection);
  void receive(Connection& connection);
  const Senders senders_;
  std::string frame_;
  Clock::duration interval_{};
  Clock::time_point began_;
  std::vector<Connection> connections_;
  Sent sent_;
};

template <typename Done>
Sent send_until(uint16_t port, const Senders& senders, Done done) {
  SenderLoop loop(port, senders);
  while (!done()) loop.step();
  return loop.finish();
}

}  // namespace apogee::test
