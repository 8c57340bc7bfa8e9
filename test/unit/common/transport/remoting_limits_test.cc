// What goes wrong on connections: peers that reset, do not read or do not answer, stops, budgets.
#include <fcntl.h>
#include <sys/resource.h>

#include <future>
#include <mutex>
#include <thread>

#include "common/remoting/command_codec.h"
#include "test/unit/common/transport/echo_pair.h"

namespace apogee::remoting {
namespace {

using namespace std::chrono_literals;
using test::eventually;
using Clock = std::chrono::steady_clock;

/// A listening socket that accepts nothing by itself.
struct SilentListener {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  uint16_t port = 0;
  explicit SilentListener(int backlog) {
    auto at = loopback(0);
    socklen_t size = sizeof at;
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(::listen(fd, backlog) == 0);
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port = ntohs(at.sin_port);
  }
  ~SilentListener() { ::close(fd); }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port); }
};

void reset(int fd) {
  linger at_once{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(fd);
}

}  // namespace

TEST_CASE("Transport: a connection may be closed by us just when its peer has reset it", "[transport]") {
  auto options = Pair::options();
  options.io_threads = 1;
  std::promise<ConnectionId> victim;
  std::promise<void> blocked, go_on;
  auto may_go_on = go_on.get_future().share();
  Pair pair(
      [&](const Caller& caller, const Command& request, const Responder&) {
        if (request.body.bytes == "victim") return victim.set_value(caller.connection);
        blocked.set_value();
        may_go_on.wait();
      },
      options);
  int fd = raw_connect(pair.server.port()), other = raw_connect(pair.server.port());
  raw_send(fd, encode_frame_to_string(request_with("victim")));
  auto id = victim.get_future().get();
  raw_send(other, encode_frame_to_string(request_with("hold the loop")));
  blocked.get_future().get();
  // In one turn of the loop: a write that cannot leave any more, then the close that tries to flush it.
  pair.server.send_oneway(id, request_with("never read"));
  pair.server.close_connection(id);
  reset(fd);
  go_on.set_value();
  CHECK(eventually([&] { return pair.server.counters().connections_open == 1; }));
  ::close(other);
}

TEST_CASE("Transport: of answers that two threads give at once one leaves", "[transport]") {
  std::vector<std::thread> threads;
  Pair pair([&](const Caller&, const Command& request, const Responder& respond) {
    for (int code : {7, 8})
      threads.emplace_back([request, respond, code] { respond(Command::response_to(request, code)); });
  });
  for (int i = 0; i < 50; ++i) {
    auto reply = pair.client.call_and_wait(pair.address, request_with(""), 5000);
    REQUIRE(reply);
    CHECK((reply->code == 7 || reply->code == 8));
  }
  pair.server.stop();
  for (auto& thread : threads) thread.join();
  CHECK(pair.server.counters().frames_out == 50);
}

TEST_CASE("Transport: requests that come while the server stops do not hold the stop up", "[transport]") {
  std::promise<std::pair<Command, Responder>> held;
  std::atomic<bool> first{true};
  Pair pair([&](const Caller& caller, Command request, Responder respond) {
    if (first.exchange(false)) return held.set_value({std::move(request), std::move(respond)});
    Pair::echo(caller, std::move(request), std::move(respond));
  });
  std::promise<Result<Command>> answer;
  pair.client.call(pair.address, request_with("held"), 30'000,
                   [&](Result<Command> r) { answer.set_value(std::move(r)); });
  auto [request, respond] = held.get_future().get();
  std::thread stopper([&] { pair.server.stop(20'000); });
  // Nobody answers any more: the server is stopping.
  CHECK(eventually([&] { return !pair.client.call_and_wait(pair.address, request_with("late"), 100); }));
  auto begin = Clock::now();
  respond(Command::response_to(request, 0, "made it"));
  respond = Responder();
  stopper.join();
  CHECK(Clock::now() - begin < 10s);
  auto reply = answer.get_future().get();
  REQUIRE(reply);
  CHECK(reply->remark == "made it");
}

TEST_CASE("Transport: no handler runs once stop() has returned", "[transport]") {
  std::atomic<bool> stopped{false}, ran_after{false};
  Pair pair([&](const Caller& caller, Command request, Responder respond) {
    if (stopped) ran_after = true;
    Pair::echo(caller, std::move(request), std::move(respond));
  });
  std::atomic<int> answered{0};
  std::atomic<bool> enough{false};
  std::thread sender([&] {
    while (!enough)
      if (pair.client.call_and_wait(pair.address, request_with("x"), 1000)) ++answered;
  });
  CHECK(eventually([&] { return answered > 20; }));
  pair.server.stop();
  stopped = true;
  pair.server.call(1, request_with(""), 1000, [](const Result<Command>& reply) { CHECK(!reply); });
  pair.server.send_oneway(1, request_with(""));
  enough = true;
  sender.join();
  CHECK(!ran_after);
}

TEST_CASE("Transport: a deadline counts while the connection is still being made", "[transport]") {
  SilentListener full(0);
  // The queue of the listener is full, so that the next connection hangs.
  std::vector<int> waiting;
  for (int i = 0; i < 4; ++i) {
    waiting.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    auto to = loopback(full.port);
    (void)::connect(waiting.back(), reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  RpcClient::Options options;
  options.connect_timeout_ms = 4'000;
  Pair pair(Pair::echo, Pair::options(), {}, options);
  std::promise<Result<Command>> patient;
  auto begin = Clock::now();
  pair.client.call(full.address(), request_with(""), 60'000,
                   [&](Result<Command> r) { patient.set_value(std::move(r)); });
  auto hurried = pair.client.call_and_wait(full.address(), request_with(""), 100);
  CHECK(Clock::now() - begin < 3s);
  REQUIRE(!hurried);
  CHECK(hurried.error().code == Errc::kTimeout);
  auto reply = patient.get_future().get();
  REQUIRE(!reply);
  CHECK(reply.error().code == Errc::kNetwork);
  CHECK(pair.client.call_and_wait(pair.address, request_with(""), 5000));
  for (int fd : waiting) ::close(fd);
}

TEST_CASE("Transport: a one-way request is told to be written when it is, and why not", "[transport]") {
  SilentListener listener(4);
  Pair pair;
  constexpr size_t kMoreThanSocketsTake = 48u << 20;
  std::promise<Status> written;
  pair.client.send_oneway(listener.address(), request_with(std::string(kMoreThanSocketsTake, 'o')),
                          [&](Status s) { written.set_value(std::move(s)); });
  auto told = written.get_future();
  int peer = ::accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC);
  REQUIRE(peer >= 0);
  CHECK(told.wait_for(100ms) == std::future_status::timeout);
  SECTION("the peer reads") {
    std::string sink(1 << 20, '\0');
    size_t read = 0;
    while (read < kMoreThanSocketsTake) {
      auto n = ::recv(peer, sink.data(), sink.size(), 0);
      REQUIRE(n > 0);
      read += static_cast<size_t>(n);
    }
    CHECK(told.get());
  }
  SECTION("the peer goes") {
    reset(peer);
    peer = -1;
    auto status = told.get();
    REQUIRE(!status);
    CHECK(status.error().code == Errc::kNetwork);
  }
  SECTION("we shut down") {
    pair.client.shutdown();
    auto status = told.get();
    REQUIRE(!status);
    CHECK(status.error().code == Errc::kClosed);
  }
  if (peer >= 0) ::close(peer);
}

TEST_CASE("Transport: a peer that asks and does not read is closed, others go on", "[transport]") {
  auto options = Pair::options();
  options.connection_unsent_bytes_max = 1 << 20;
  std::mutex mutex;
  std::vector<std::string> lines;
  Pair pair(
      [](const Caller& caller, Command request, Responder respond) {
        if (request.body.bytes != "much") return Pair::echo(caller, std::move(request), std::move(respond));
        auto response = Command::response_to(request, 0);
        response.body = SharedBytes::from(std::string(1 << 20, 'm'));
        respond(std::move(response));
      },
      options,
      [&](LogLevel, std::string_view line) {
        std::lock_guard lock(mutex);
        lines.emplace_back(line);
      });
  REQUIRE(pair.client.call_and_wait(pair.address, request_with(""), 5000));
  int fd = raw_connect(pair.server.port());
  auto frame = encode_frame_to_string(request_with("much"));
  for (int i = 0; i < 64; ++i) (void)::send(fd, frame.data(), frame.size(), MSG_NOSIGNAL);
  CHECK(eventually([&] {
    std::lock_guard lock(mutex);
    return !lines.empty();
  }));
  CHECK(eventually([&] { return pair.server.counters().connections_open == 1; }));
  CHECK(pair.client.call_and_wait(pair.address, request_with(""), 5000));
  std::lock_guard lock(mutex);
  REQUIRE(!lines.empty());
  CHECK(lines[0].find("does not read") != std::string::npos);
  ::close(fd);
}

TEST_CASE("Transport: one-way requests and forgotten answers give their share of the budget back", "[transport]") {
  auto options = Pair::options();
  options.connection_inflight_bytes_max = 10'000;
  std::atomic<int> handled{0};
  Pair pair([&](const Caller&, const Command&, const Responder&) { ++handled; }, options);
  for (int i = 0; i < 20; ++i) {
    pair.client.send_oneway(pair.address, request_with(std::string(4'000, 'o')));
    pair.client.call(pair.address, request_with(std::string(4'000, 'c')), 60'000, [](const Result<Command>&) {});
  }
  CHECK(eventually([&] { return handled == 40; }));
}

TEST_CASE("Transport: the budget of all connections together stops reading and lets everybody go on", "[transport]") {
  auto options = Pair::options();
  options.io_threads = 2;
  options.total_inflight_bytes_max = 50'000;
  HeldRequests held;
  Pair pair(held.handler(), options);
  constexpr int kConnections = 8, kRequests = 20;
  std::string frames;
  for (int i = 0; i < kRequests; ++i) frames += encode_frame_to_string(request_with(std::string(4'000, 'b')));
  std::vector<int> sockets;
  for (int i = 0; i < kConnections; ++i) {
    sockets.push_back(raw_connect(pair.server.port()));
    raw_send(sockets.back(), frames);
  }
  int answered = 0;
  CHECK(eventually([&] {
    const size_t now = held.answer_all();
    // One frame a connection may go beyond the limit.
    CHECK(now <= 50'000 / 4'000 + 1 + kConnections);
    answered += static_cast<int>(now);
    return answered == kConnections * kRequests;
  }));
  for (int fd : sockets) ::close(fd);
}

TEST_CASE("Transport: a frame that ends in the middle leaves nothing behind", "[transport]") {
  Pair pair;
  auto frame = encode_frame_to_string(request_with(std::string(100'000, 't')));
  for (size_t bytes : {size_t{1}, size_t{4}, size_t{7}, size_t{60}, size_t{90'000}, frame.size() - 1}) {
    int fd = raw_connect(pair.server.port());
    raw_send(fd, frame.substr(0, bytes));
    ::close(fd);
  }
  CHECK(eventually([&] {
    auto counters = pair.server.counters();
    return counters.connections_accepted == 6 && counters.connections_open == 0;
  }));
  CHECK(pair.server.counters().frames_in == 0);
  CHECK(pair.client.call_and_wait(pair.address, request_with(""), 5000));
}

TEST_CASE("Transport: a client that shuts down fails what is outstanding, and later calls at once", "[transport]") {
  SilentListener listener(4);
  Pair pair;
  std::promise<Result<Command>> outstanding;
  pair.client.call(listener.address(), request_with(""), 60'000,
                   [&](Result<Command> r) { outstanding.set_value(std::move(r)); });
  pair.client.shutdown();
  auto failed = outstanding.get_future().get();
  REQUIRE(!failed);
  CHECK(failed.error().code == Errc::kClosed);
  auto later = pair.client.call_and_wait(pair.address, request_with(""), 60'000);
  REQUIRE(!later);
  CHECK(later.error().code == Errc::kClosed);
}

TEST_CASE("Transport: host names are looked up", "[transport]") {
  Pair pair;
  auto by_name = "localhost:" + std::to_string(pair.server.port());
  CHECK(pair.client.call_and_wait(by_name, request_with(""), 10'000));
  auto nobody = pair.client.call_and_wait("no-such-host.invalid:10911", request_with(""), 20'000);
  REQUIRE(!nobody);
  CHECK((nobody.error().code == Errc::kNetwork || nobody.error().code == Errc::kTimeout));
}

TEST_CASE("Transport: without free descriptors accepting waits, says so once, and goes on later", "[transport]") {
  std::atomic<int> complaints{0};
  Pair pair(Pair::echo, Pair::options(), [&](LogLevel, std::string_view line) {
    if (line.find("accept on port") != std::string_view::npos) ++complaints;
  });
  int fd = raw_connect(pair.server.port());  // warms up; its own later use shows that connections go on
  int late = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  std::vector<int> fillers;
  rlimit few = before;
  int highest = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(highest >= 0);
  fillers.push_back(highest);
  few.rlim_cur = static_cast<rlim_t>(std::max(highest, late)) + 8;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  for (int filler; (filler = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) fillers.push_back(filler);
  auto to = loopback(pair.server.port());
  int connected = ::connect(late, reinterpret_cast<sockaddr*>(&to), sizeof to);  // the kernel completes it
  bool told = eventually([&] { return complaints == 1; });
  bool again = eventually([&] { return complaints > 1; }, 350ms);  // three more tries
  for (int filler : fillers) ::close(filler);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(connected == 0);
  CHECK(told);
  CHECK(!again);
  auto frame = encode_frame_to_string(request_with("late"));
  for (int each : {late, fd}) {
    raw_send(each, frame);
    timeval limit{10, 0};
    ::setsockopt(each, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char head[4];
    CHECK(::recv(each, head, sizeof head, MSG_WAITALL) == 4);
    ::close(each);
  }
}

}  // namespace apogee::remoting
