#include "common/loop/tcp_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "common/loop/run_on.h"
#include "test/support/catch.h"
#include "test/support/wait.h"

using namespace apogee;

TEST_CASE("what is written when the kernel has taken more leaves, and so does what comes after it") {
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
  loop::LoopThread thread("tcp-test");
  std::unique_ptr<loop::TcpConnection> connection;
  char inbox[64];
  bool adopted = false, answered = false;
  auto write = [&connection](const char* text) { connection->write({SharedBytes::from(text)}); };
  loop::run_on(thread.loop(), [&] {
    auto made = loop::TcpConnection::adopt(thread.loop(), pair[0]);
    if (!made) return;
    adopted = true;
    connection = std::move(*made);
    connection->start({.read_buffer = [&inbox] { return std::pair(inbox, sizeof inbox); },
                       .on_read = [](size_t) {},
                       .on_close = [](const Error&) {},
                       .on_written =
                           [&answered, &write] {
                             if (!std::exchange(answered, true)) write("2");
                           }});
    write("1");
  });
  REQUIRE(adopted);
  std::string received;
  auto reads = [&](const std::string& wanted) {
    return test::eventually([&] {
      char bytes[16];
      auto count = ::read(pair[1], bytes, sizeof bytes);
      if (count > 0) received.append(bytes, static_cast<size_t>(count));
      return received == wanted;
    });
  };
  CHECK(reads("12"));
  // In a turn of its own.
  loop::run_on(thread.loop(), [&] { write("3"); });
  CHECK(reads("123"));
  loop::run_on(thread.loop(), [&] { connection.reset(); });
  ::close(pair[1]);
}
