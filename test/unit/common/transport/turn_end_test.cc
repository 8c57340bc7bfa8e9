#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/loop/event_loop.h"
#include "common/loop/loop_buffers.h"
#include "common/loop/run_on.h"
#include "test/support/catch.h"
#include "test/support/wait.h"

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

TEST_CASE("what a turn posts to its own loop runs at its end, what that posts in the next turn", "[loop]") {
  LoopThread thread("turns");
  auto& loop = thread.loop();
  auto work = std::make_shared<Counted>();
  std::string order;
  int ends_before = -1, ends_then = -1;
  std::atomic<bool> done{false};
  loop.post([&] {
    loop.at_turn_end(work);
    loop.post([&] {
      order += "b";
      ends_before = work->ends;
      loop.at_turn_end(work);
      loop.post([&] {
        order += "d";
        ends_then = work->ends;
        done = true;
      });
      order += "c";
    });
    order += "a";
  });
  CHECK(test::eventually([&] { return done.load(); }));
  run_on(loop, [] {});
  CHECK(order == "abcd");
  CHECK(ends_before == 1);  // the turn's work comes first: what it posts runs in the same turn
  CHECK(ends_then == 2);
}

TEST_CASE("tasks of a loop and of other threads each keep their order", "[loop]") {
  constexpr int kTasks = 2'000;
  LoopThread thread("turns");
  auto& loop = thread.loop();
  std::vector<int> own, others;
  std::function<void(int)> next = [&](int i) {
    own.push_back(i);
    if (i + 1 == kTasks) return;
    if (i % 3 == 0)
      loop.run_after(Milliseconds(0), [&, i] { loop.post([&, i] { next(i + 1); }); });
    else
      loop.post([&, i] { next(i + 1); });
  };
  loop.post([&] { next(0); });
  for (int i = 0; i < kTasks; ++i) loop.post([&, i] { others.push_back(i); });
  CHECK(test::eventually([&] {
    size_t done = 0;
    run_on(loop, [&] { done = own.size() + others.size(); });
    return done == 2 * kTasks;
  }));
  run_on(loop, [] {});
  CHECK(std::is_sorted(own.begin(), own.end()));
  CHECK(std::is_sorted(others.begin(), others.end()));
}

TEST_CASE("each task that a loop has taken from another thread is run, and wakes it", "[loop]") {
  constexpr int kPosters = 3, kRounds = 20, kTasks = 320;
  struct Poster {
    std::atomic<int> taken{0}, ran{0};
    std::atomic<bool> ended{false}, forgotten{false};
    std::thread thread;
  };
  for (int round = 0; round < kRounds; ++round) {
    const int count = round % 4 < 2 ? 1 : kPosters;  // one alone has nobody else to wake the loop
    const bool ends_early = round % 2 == 1;
    std::vector<Poster> posters(static_cast<size_t>(count));
    {
      LoopThread thread("woken");
      for (auto& poster : posters)
        poster.thread = std::thread([&poster, mailbox = thread.loop().mailbox()] {
          for (int i = 0; i < kTasks && mailbox->post([&poster] { ++poster.ran; }); ++i) {
            ++poster.taken;
            // Now and then the loop has nothing to do and sleeps: only its wake-up runs what comes next.
            if (i % 16 == 0 && !apogee::test::eventually([&] { return poster.ran == poster.taken; })) {
              poster.forgotten = true;
              break;
            }
          }
          poster.ended = true;
        });
      for (auto& poster : posters)
        CHECK(apogee::test::eventually([&] { return ends_early ? poster.taken > 0 : poster.ended.load(); }));
      thread.stop_and_join();
    }
    for (auto& poster : posters) {
      poster.thread.join();
      CHECK_FALSE(poster.forgotten);
      CHECK(poster.ran == poster.taken);
      if (!ends_early) CHECK(poster.ran == kTasks);
    }
  }
}
