#include "client/src/publish_rate.h"

#include <atomic>
#include <limits>
#include <mutex>
#include <vector>

#include "test/support/catch.h"
#include "test/support/wait.h"

namespace {

using apogee::Errc;
using apogee::PublishRate;
using apogee::test::eventually;

constexpr int64_t kForever = std::numeric_limits<int64_t>::max() / 4;

}  // namespace

TEST_CASE("publish rate: a burst goes at once, then the bucket fills slowly", "[client][rate]") {
  apogee::loop::LoopThread thread("test");
  PublishRate rate({1'000, 10, 100}, thread.loop());
  // A time far ahead, so that nothing comes due while the test looks.
  const int64_t now = apogee::steady_us() + 3'600'000'000;
  for (int i = 0; i < 10; ++i) CHECK(*rate.admit(1, now, kForever, nullptr));
  CHECK(rate.admit(1, now, now + 500, nullptr).error().code == Errc::kBusy);
  CHECK_FALSE(*rate.admit(1, now, now + 1'000, nullptr));
  // The next one's turn is 2 ms from now, and it may not overtake.
  CHECK(rate.admit(1, now, now + 1'999, nullptr).error().code == Errc::kBusy);
  CHECK_FALSE(*rate.admit(1, now, now + 2'000, nullptr));
  thread.stop_and_join();
}

TEST_CASE("publish rate: a large batch goes when the bucket is full, and is made up for", "[client][rate]") {
  apogee::loop::LoopThread thread("test");
  PublishRate rate({1'000, 10, 100}, thread.loop());
  const int64_t now = apogee::steady_us() + 3'600'000'000;
  CHECK(*rate.admit(30, now, kForever, nullptr));
  CHECK(rate.admit(1, now, now + 20'999, nullptr).error().code == Errc::kBusy);
  CHECK(*rate.admit(1, now + 21'000, now + 21'000, nullptr));
  thread.stop_and_join();
}

TEST_CASE("publish rate: what waits is run in its order; too many are refused", "[client][rate]") {
  apogee::loop::LoopThread thread("test");
  PublishRate rate({2'000, 1, 50}, thread.loop());
  std::mutex mutex;
  std::vector<int> order;
  int refused = 0;
  for (int i = 0; i < 60; ++i) {
    auto admitted = rate.admit(1, apogee::steady_us(), kForever, [&, i] {
      std::lock_guard lock(mutex);
      order.push_back(i);
    });
    if (!admitted) {
      CHECK(admitted.error().code == Errc::kBusy);
      ++refused;
    }
  }
  CHECK(eventually([&] {
    std::lock_guard lock(mutex);
    return order.size() + static_cast<size_t>(refused) >= 59;
  }));
  CHECK(std::is_sorted(order.begin(), order.end()));
  thread.stop_and_join();
  apogee::loop::LoopThread idle("test");
  CHECK_FALSE(PublishRate({0, 1, 0}, idle.loop()).limited());
  idle.stop_and_join();
}
