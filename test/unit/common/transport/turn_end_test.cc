#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "common/loop/event_loop.h"
#include "common/loop/loop_buffers.h"
#include "common/loop/run_on.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::loop;

namespace {
struct Counted final : TurnWork {
  std::atomic<int> ends{0};
  void turn_ends() override { ++ends; }
};
}  // namespace

TEST_CASE("work of a turn is done once at its end", "[loop]") {
  LoopThread thread("turns");
  auto work = std::make_shared<Counted>();
  int within = -1;
  bool current = false;
  run_on(thread.loop(), [&] {
    for (int i = 0; i < 5; ++i) thread.loop().at_turn_end(work);
    within = work->ends;
    current = EventLoop::current() == &thread.loop();
  });
  CHECK(current);
  CHECK(within == 0);
  run_on(thread.loop(), [] {});
  run_on(thread.loop(), [] {});
  CHECK(work->ends == 1);
  CHECK(EventLoop::current() == nullptr);
}

TEST_CASE("work asked for in a loop's last turn is done too", "[loop]") {
  auto work = std::make_shared<Counted>();
  {
    LoopThread thread("turns");
    thread.loop().post([&] { thread.loop().at_turn_end(work); });
    thread.stop_and_join();
  }
  CHECK(work->ends == 1);
}

TEST_CASE("a mailbox outlives its loop", "[loop]") {
  std::shared_ptr<EventLoop::Mailbox> mailbox;
  {
    LoopThread thread("mail");
    mailbox = thread.loop().mailbox();
    CHECK(mailbox->post([] {}));
  }
  CHECK_FALSE(mailbox->post([] {}));
}

TEST_CASE("room of a loop is used again when nobody keeps it", "[loop]") {
  LoopBuffers buffers;
  auto* first = buffers.read_room().chunk.get();
  buffers.read_up_to(1'000);
  CHECK(buffers.read_room().chunk.get() == first);
  CHECK(buffers.read_room().begin == 0);

  auto kept = buffers.read_room();
  buffers.read_up_to(1'000);
  CHECK(buffers.read_room().begin == 1'000);  // behind what is kept
  buffers.read_up_to(LoopBuffers::kReadBytes - 1);
  auto next = buffers.read_room();
  CHECK(next.chunk.get() != kept.chunk.get());
  CHECK(next.size >= LoopBuffers::kReadBytesMin);

  buffers.read_up_to(1'000);
  const size_t begin = buffers.read_room().begin;
  CHECK(begin == 1'000);
  next = {};  // as another thread may do while the kernel fills the room
  CHECK(buffers.room_given().begin == begin);
  CHECK(buffers.room_given().size == LoopBuffers::kReadBytes - begin);

  auto one = buffers.keep("one"), two = buffers.keep("two");
  CHECK(one.bytes == "one");
  CHECK(one.bytes.end() == two.bytes.begin());
  const std::string large(LoopBuffers::kKeptBytesMax + 1, 'x');
  auto alone = buffers.keep(large);
  CHECK(alone.bytes == large);
  CHECK(alone.owner != one.owner);
  const std::string half(LoopBuffers::kKeptBytesMax, 'y');
  for (int i = 0; i < 20; ++i) CHECK(buffers.keep(half).bytes == half);
  CHECK(one.bytes == "one");
}
