#include <algorithm>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "common/remoting/command_codec.h"
#include "test/unit/common/transport/echo_pair.h"

namespace apogee::remoting {

using namespace std::chrono_literals;
using test::eventually;

TEST_CASE("Transport: pipelined calls each get their own answer", "[transport]") {
  Pair pair;
  std::mutex mutex;
  int right = 0, answered = 0;
  for (int i = 0; i < 500; ++i) {
    std::string body(static_cast<size_t>(i) * 37, static_cast<char>('a' + i % 26));
    pair.client.call(pair.address, request_with(body), 5000, [&, body](Result<Command> reply) {
      std::lock_guard lock(mutex);
      ++answered;
      if (reply && reply->body.bytes == body) ++right;
      if (!reply) UNSCOPED_INFO(reply.error().message);
    });
  }
  CHECK(eventually([&] {
    std::lock_guard lock(mutex);
    return answered == 500;
  }));
  std::lock_guard lock(mutex);
  CHECK(right == 500);
}

TEST_CASE("Transport: a body of several MiB arrives whole both ways", "[transport]") {
  Pair pair;
  std::string body(9 << 20, 'x');
  body.back() = 'y';
  auto reply = pair.client.call_and_wait(pair.address, request_with(body), 10'000);
  REQUIRE(reply);
  CHECK(reply->body.bytes == body);
}

TEST_CASE("Transport: a one-way request is never answered and the next call is", "[transport]") {
  std::atomic<int> oneways{0};
  Pair pair([&](const Caller& caller, Command request, Responder respond) {
    if (request.is_oneway()) ++oneways;
    Pair::echo(caller, std::move(request), std::move(respond));
  });
  pair.client.send_oneway(pair.address, request_with("quiet"));
  auto reply = pair.client.call_and_wait(pair.address, request_with("loud"), 5000);
  REQUIRE(reply);
  CHECK(reply->body.bytes == "loud");
  CHECK(oneways == 1);
  CHECK(pair.server.counters().frames_out == 1);
}

TEST_CASE("Transport: a call that nobody answers times out, and nobody listening is a network error", "[transport]") {
  std::mutex mutex;
  std::vector<Responder> held;
  Pair pair([&](const Caller&, Command, Responder respond) {
    std::lock_guard lock(mutex);
    held.push_back(std::move(respond));
  });
  auto late = pair.client.call_and_wait(pair.address, request_with(""), 50);
  REQUIRE(!late);
  CHECK(late.error().code == Errc::kTimeout);
  auto refused = pair.client.call_and_wait("127.0.0.1:1", request_with(""), 2000);
  REQUIRE(!refused);
  CHECK(refused.error().code == Errc::kNetwork);
  auto nonsense = pair.client.call_and_wait("nonsense", request_with(""), 2000);
  CHECK(!nonsense);
}

TEST_CASE("Transport: an answer may come from another thread, once", "[transport]") {
  std::vector<std::thread> threads;
  Pair pair([&](const Caller&, Command request, Responder respond) {
    threads.emplace_back([request, respond] {
      respond(Command::response_to(request, 7, "seven"));
      respond(Command::response_to(request, 8, "eight"));
    });
  });
  auto reply = pair.client.call_and_wait(pair.address, request_with(""), 5000);
  pair.server.stop();
  for (auto& thread : threads) thread.join();
  REQUIRE(reply);
  CHECK(reply->code == 7);
  CHECK(reply->remark == "seven");
}

TEST_CASE("Transport: every request arrives once while other threads let earlier ones go", "[transport]") {
  constexpr int kCalls = 20'000, kAtOnce = 8;
  // Threads that hold a frame for a moment: it goes at any time, also while the loop reads.
  std::vector<std::unique_ptr<loop::LoopThread>> holders;
  for (int i = 0; i < 3; ++i) holders.push_back(std::make_unique<loop::LoopThread>("holder"));
  std::atomic<size_t> next_holder{0};
  std::mutex mutex;
  std::map<std::string, int> arrived;
  std::atomic<int> next{0}, done{0}, wrong{0};
  std::function<void()> call_one;
  auto options = Pair::options();
  options.io_threads = 1;
  Pair pair(
      [&](const Caller&, Command request, Responder respond) {
        {
          std::lock_guard lock(mutex);
          ++arrived[std::string(request.body.bytes)];
        }
        auto& holder = holders[next_holder++ % holders.size()]->loop();
        holder.post([request = std::move(request), respond = std::move(respond)]() mutable {
          auto response = Command::response_to(request, 0);
          response.body = SharedBytes::from(std::string(request.body.bytes));
          request = {};
          respond(std::move(response));
        });
      },
      options);
  RpcClient other(pair.thread.loop(), {}, pair.logger);
  call_one = [&] {
    const int number = next++;
    if (number >= kCalls) return;
    auto body = std::to_string(number) + ":" + std::string(static_cast<size_t>(number % 300), 'x');
    auto& client = number % 2 == 0 ? pair.client : other;
    client.call(pair.address, request_with(body), 20'000, [&, body](const Result<Command>& reply) {
      if (!reply || reply->body.bytes != body) ++wrong;
      call_one();
      ++done;
    });
  };
  for (int i = 0; i < kAtOnce; ++i) call_one();
  REQUIRE(eventually([&] { return done == kCalls; }, 120s));
  CHECK(wrong == 0);
  const std::lock_guard lock(mutex);
  CHECK(arrived.size() == kCalls);
  CHECK(std::all_of(arrived.begin(), arrived.end(), [](const auto& each) { return each.second == 1; }));
}

TEST_CASE("Transport: the server calls a connected client", "[transport]") {
  std::promise<ConnectionId> connected;
  Pair pair([&](const Caller& caller, Command request, Responder respond) {
    connected.set_value(caller.connection);
    Pair::echo(caller, std::move(request), std::move(respond));
  });
  pair.client.set_handler([](const Caller&, Command request, Responder respond) {
    respond(Command::response_to(request, 0, "from the client"));
  });
  REQUIRE(pair.client.call_and_wait(pair.address, request_with(""), 5000));
  auto id = connected.get_future().get();
  std::promise<Result<Command>> answer;
  pair.server.call(id, Command::request(RequestCode::kGetConsumerRunningInfo), 5000,
                   [&](Result<Command> reply) { answer.set_value(std::move(reply)); });
  auto reply = answer.get_future().get();
  REQUIRE(reply);
  CHECK(reply->remark == "from the client");

  std::promise<Result<Command>> gone;
  pair.server.call(id + 99, Command::request(RequestCode::kGetConsumerRunningInfo), 5000,
                   [&](Result<Command> r) { gone.set_value(std::move(r)); });
  CHECK(gone.get_future().get().error().code == Errc::kClosed);
}

TEST_CASE("Transport: a broken connection fails what is pending and the next call connects again", "[transport]") {
  std::atomic<bool> drop{true};
  RemotingServer* server = nullptr;
  std::vector<Responder> held;
  Pair pair([&](const Caller& caller, Command request, Responder respond) {
    if (drop) {
      held.push_back(std::move(respond));
      server->close_connection(caller.connection);
      return;
    }
    Pair::echo(caller, std::move(request), std::move(respond));
  });
  server = &pair.server;
  auto broken = pair.client.call_and_wait(pair.address, request_with(""), 5000);
  REQUIRE(!broken);
  CHECK(broken.error().code == Errc::kNetwork);
  drop = false;
  CHECK(pair.client.call_and_wait(pair.address, request_with(""), 5000));
}

TEST_CASE("Transport: hostile frames close their own connection only", "[transport]") {
  Pair pair;
  std::vector<std::string> hostile = {std::string("\x7f\xff\xff\xff", 4),
                                      std::string("\xff\xff\xff\xff", 4),
                                      std::string("\x00\x00\x00\x00", 4),
                                      std::string("\x00\x00\x00\x08\x00\xff\xff\xff{}{}", 12),
                                      std::string("\x00\x00\x00\x06\x00\x00\x00\x02{x", 10),
                                      std::string("GET / HTTP/1.1\r\n\r\n")};
  for (const auto& bytes : hostile) {
    int fd = raw_connect(pair.server.port());
    REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    char nothing;
    CHECK(::recv(fd, &nothing, 1, 0) <= 0);
    ::close(fd);
    CHECK(pair.client.call_and_wait(pair.address, request_with("still here"), 5000));
  }
  auto counters = pair.server.counters();
  CHECK(counters.bad_frames + counters.oversize_frames == hostile.size());
}

TEST_CASE("Transport: a frame that comes byte by byte is understood", "[transport]") {
  Pair pair;
  auto request = request_with("slow");
  request.opaque = 5;
  auto bytes = encode_frame_to_string(request);
  int fd = raw_connect(pair.server.port());
  for (char byte : bytes) REQUIRE(::send(fd, &byte, 1, MSG_NOSIGNAL) == 1);
  char head[4];
  REQUIRE(::recv(fd, head, 4, MSG_WAITALL) == 4);
  std::string rest(static_cast<size_t>(load_be<int32_t>(head)), '\0');
  REQUIRE(::recv(fd, rest.data(), rest.size(), MSG_WAITALL) == static_cast<ssize_t>(rest.size()));
  auto reply = decode_frame(SharedBytes::from(rest));
  REQUIRE(reply);
  CHECK(reply->opaque == 5);
  CHECK(reply->body.bytes == "slow");
  ::close(fd);
}

TEST_CASE("Transport: reading stops while too much is unanswered and goes on afterwards", "[transport]") {
  auto options = Pair::options();
  options.connection_inflight_bytes_max = 10'000;
  options.io_threads = 1;
  HeldRequests held;
  Pair pair(held.handler(), options);
  std::atomic<int> answered{0};
  for (int i = 0; i < 20; ++i)
    pair.client.call(pair.address, request_with(std::string(4'000, 'b')), 10'000, [&](Result<Command> reply) {
      if (reply) ++answered;
    });
  REQUIRE(eventually([&] { return held.count() >= 3; }));
  CHECK(held.count() == 3);
  CHECK(eventually([&] {
    held.answer_all();
    return answered == 20;
  }));
}

TEST_CASE("Transport: closing is told once, with the address", "[transport]") {
  Logger logger;
  RemotingServer server(Pair::options(), logger);
  std::atomic<int> closes{0};
  server.set_handler(Pair::echo);
  server.set_close_listener([&](ConnectionId id, const std::string& address) {
    if (id != 0 && address.starts_with("127.0.0.1:")) ++closes;
  });
  REQUIRE(server.start());
  {
    loop::LoopThread thread("short");
    RpcClient client(thread.loop(), {}, logger);
    REQUIRE(client.call_and_wait("127.0.0.1:" + std::to_string(server.port()), request_with(""), 5000));
  }
  CHECK(eventually([&] { return closes == 1; }));
  CHECK(eventually([&] { return server.counters().connections_open == 0; }));
}

TEST_CASE("Transport: idle connections are closed", "[transport]") {
  auto options = Pair::options();
  options.idle_ms_max = 20;
  Pair pair(Pair::echo, options);
  int fd = raw_connect(pair.server.port());
  char nothing;
  CHECK(::recv(fd, &nothing, 1, 0) == 0);
  ::close(fd);
}

TEST_CASE("Transport: a taken port stops the start and is named", "[transport]") {
  Pair pair;
  Logger logger;
  auto options = Pair::options();
  options.ports = {pair.server.port()};
  RemotingServer second(options, logger);
  second.set_handler(Pair::echo);
  auto started = second.start();
  REQUIRE(!started);
  CHECK(started.error().code == Errc::kAlreadyExists);
  CHECK(started.error().message.find(std::to_string(pair.server.port())) != std::string::npos);
}

TEST_CASE("Transport: stop lets answers go out that other threads still give", "[transport]") {
  std::promise<std::pair<Command, Responder>> arrived;
  Pair pair([&](const Caller&, Command request, Responder respond) {
    arrived.set_value({std::move(request), std::move(respond)});
  });
  std::promise<Result<Command>> answer;
  pair.client.call(pair.address, request_with("last"), 5000,
                   [&](Result<Command> reply) { answer.set_value(std::move(reply)); });
  auto [request, respond] = arrived.get_future().get();
  std::thread stopper([&] { pair.server.stop(5000); });
  respond(Command::response_to(request, 0, "made it"));
  respond = Responder();
  stopper.join();
  auto reply = answer.get_future().get();
  REQUIRE(reply);
  CHECK(reply->remark == "made it");
}

TEST_CASE("EventLoop: tasks run in the order of posting, timers in the order of time", "[loop]") {
  loop::LoopThread thread("order");
  std::vector<int> ran;
  std::promise<void> done;
  for (int i = 0; i < 1000; ++i) thread.loop().post([&, i] { ran.push_back(i); });
  thread.loop().post([&] {
    thread.loop().run_after(30ms, [&] { done.set_value(); });
    thread.loop().run_after(10ms, [&] { ran.push_back(1000); });
    auto cancelled = thread.loop().run_after(5ms, [&] { ran.push_back(-1); });
    thread.loop().cancel(cancelled);
    thread.loop().cancel(cancelled);
  });
  done.get_future().get();
  thread.stop_and_join();
  REQUIRE(ran.size() == 1001);
  for (int i = 0; i <= 1000; ++i) CHECK(ran[static_cast<size_t>(i)] == i);
  CHECK(!thread.loop().post([] {}));
}

TEST_CASE("EventLoop: a repeating timer may cancel itself", "[loop]") {
  loop::LoopThread thread("repeat");
  std::promise<int> done;
  thread.loop().post([&] {
    auto id = std::make_shared<loop::EventLoop::TimerId>(0);
    auto count = std::make_shared<int>(0);
    *id = thread.loop().run_every(1ms, [&, id, count] {
      if (++*count < 3) return;
      thread.loop().cancel(*id);
      done.set_value(*count);
    });
  });
  CHECK(done.get_future().get() == 3);
}

}  // namespace apogee::remoting
