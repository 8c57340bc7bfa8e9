// What many waiting timers cost: figures are printed, not asserted, but for what must not grow with their number.
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <iostream>

#include "test/support/sanitizers.h"
#include "test/unit/broker/timers/timer_bench.h"

namespace apogee::broker::test {
namespace {

/// Memory of this process that no file stands behind, in bytes.
int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (int64_t kilobytes = 0; word == "RssAnon:" && status >> kilobytes) return kilobytes * 1'024;
  return 0;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_CASE("Timers: many that wait cost neither start-up time nor memory", "[broker][timer][cost]") {
  const int count = std::getenv("APOGEE_SOAK") != nullptr ? 1'000'000 : 20'000;
  const int due_count = count / 50;
  TimerBench bench;
  bench.start();
  const double empty_ms = bench.open_time.count() * 1'000;
  const int64_t soon = bench.now() + 1'000, later = bench.now() + 200'000'000;
  auto start = std::chrono::steady_clock::now();
  std::atomic<int> refused{0};
  for (int i = 0; i < count; ++i) {
    store::MessageDraft draft;
    draft.topic = "T";
    draft.body = "x";
    const auto properties = TimerBench::timer_properties(i < due_count ? soon : later + i, std::to_string(i));
    draft.properties = properties;
    bench.put->put(draft, [&refused](const store::PutResult& result) { refused += result.stored() ? 0 : 1; });
    if (i % 100'000 == 99'999) REQUIRE(bench.settled());
  }
  REQUIRE(bench.waiting(count));
  CHECK(refused == 0);
  const double filled_s = seconds_since(start);
  bench.stop();
  const int64_t before = anonymous_bytes();
  bench.open();
  bench.timers->start({});
  CHECK(bench.timers->figures().pending == count);
  REQUIRE(bench.waiting(count));
  const int64_t grown = anonymous_bytes() - before;
  start = std::chrono::steady_clock::now();
  bench.advance(1'000);
  REQUIRE(bench.waiting(count - due_count));
  const double delivered_s = seconds_since(start);
  CHECK(eventually([&] { return bench.store->max_offset("T", 0) == due_count; }));
  std::cout << "timers: " << count << " stored and indexed in " << filled_s << " s; with them waiting, timers open in "
            << bench.open_time.count() * 1'000 << " ms (empty: " << empty_ms << " ms) and take " << grown / 1'024
            << " KiB; " << due_count << " due at one instant are delivered in " << delivered_s * 1'000 << " ms\n";
#ifndef APOGEE_UNDER_SANITIZER
  CHECK(grown < 100LL << 20);
#endif
}

}  // namespace apogee::broker::test
