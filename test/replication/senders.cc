#include "test/replication/senders.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "common/base/bytes.h"
#include "common/message/batch.h"
#include "common/remoting/command_codec.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

int64_t Sent::percentile(double part) const {
  if (answers.empty()) return 0;
  std::vector<int64_t> all;
  for (const auto& each : answers) all.push_back(each.latency_us);
  const auto at = static_cast<ptrdiff_t>(static_cast<double>(all.size() - 1) * part);
  std::nth_element(all.begin(), all.begin() + at, all.end());
  return all[static_cast<size_t>(at)];
}

SenderLoop::SenderLoop(uint16_t port, const Senders& senders)
    : senders_(senders), connections_(static_cast<size_t>(senders.connections)) {
  RawSend send{"Replicated", 0, std::string(senders.body_bytes, 'b')};
  if (senders.batch > 1) {
    send.batch = true;
    const std::string one = std::move(send.body);
    send.body.clear();
    for (int i = 0; i < senders.batch; ++i) message::append_batch_message(send.body, {0, one, {}});
  }
  frame_ = remoting::encode_frame_to_string(send_request(std::move(send)));
  if (senders.requests_per_second > 0)
    interval_ = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(senders.connections / senders.requests_per_second));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  began_ = Clock::now();
  int number = 0;
  for (auto& each : connections_) {
    each.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(each.fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) throw std::runtime_error("connect");
    const int on = 1;
    ::setsockopt(each.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    each.due = began_ + interval_ * number++ / senders.connections;
  }
}

SenderLoop::~SenderLoop() {
  for (auto& each : connections_) ::close(each.fd);
}

void SenderLoop::send(Connection& connection) {
  connection.waiting = true;
  for (size_t done = 0; done < frame_.size();) {
    const ssize_t n = ::send(connection.fd, frame_.data() + done, frame_.size() - done, MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("the broker closed a connection");
    done += static_cast<size_t>(n);
  }
}

void SenderLoop::receive(Connection& connection) {
  char part[4'096];
  const ssize_t n = ::recv(connection.fd, part, sizeof part, 0);
  if (n <= 0) throw std::runtime_error("the broker closed a connection");
  auto& read = connection.read;
  read.append(part, static_cast<size_t>(n));
  if (read.size() < 4 || read.size() < 4 + static_cast<size_t>(load_be<int32_t>(read.data()))) return;
  const auto now = Clock::now();
  if (read.find("\"code\":0,") != std::string::npos)
    sent_.answers.push_back({now, std::chrono::duration_cast<std::chrono::microseconds>(now - connection.due).count()});
  else
    ++sent_.others;
  read.clear();
  connection.waiting = false;
  connection.due = interval_.count() > 0 ? connection.due + interval_ : now;
}

void SenderLoop::step() {
  auto now = Clock::now();
  Clock::time_point next = now + std::chrono::milliseconds(5);
  std::vector<pollfd> waiting;
  for (auto& each : connections_) {
    if (!each.waiting && each.due <= now) send(each);
    if (!each.waiting) next = std::min(next, each.due);
    waiting.push_back({each.fd, POLLIN, 0});
  }
  const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(next - Clock::now()).count();
  const timespec limit{0, static_cast<long>(std::max<int64_t>(left, 0))};
  if (::ppoll(waiting.data(), waiting.size(), &limit, nullptr) <= 0) return;
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (waiting[i].revents == 0) continue;
    receive(connections_[i]);
    if (interval_.count() == 0 && !connections_[i].waiting) send(connections_[i]);
  }
}

Sent SenderLoop::finish() {
  sent_.seconds = std::chrono::duration<double>(Clock::now() - began_).count();
  return std::move(sent_);
}

}  // namespace apogee::test
