#include "broker/stats/broker_stats.h"

#include <thread>
#include <vector>

#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker {
namespace {

TEST_CASE("BrokerStats: rates are those of the last 10, 60 and 600 s", "[broker]") {
  test::FakeClock clock;
  BrokerStats stats("C1", clock.now());
  for (int second = 0; second < 60; ++second) {
    stats.on_put("T", second < 50 ? 1 : 7, 10, 0);
    clock.advance(1000);
    stats.tick();
  }
  auto put = stats.totals().put;
  CHECK(put.ten_s == Approx(7.0));
  CHECK(put.minute == Approx(2.0));
  CHECK(put.ten_min == Approx(2.0));
  CHECK(stats.totals().put_messages == 120);
  CHECK(stats.totals().put_bytes == 600);
}

TEST_CASE("BrokerStats: minute, hour and day of a topic and a group", "[broker]") {
  test::FakeClock clock;
  BrokerStats stats("C1", clock.now());
  for (int step = 0; step < 720; ++step) {  // two hours
    stats.on_put("T", 2, 50, 0);
    stats.on_get("G", "T", 4, 80, 0);
    clock.advance(10'000);
    stats.tick();
  }
  auto put = stats.item("TOPIC_PUT_NUMS", "T");
  REQUIRE(put.has_value());
  CHECK(put->minute.sum == 12);
  CHECK(put->minute.per_second == Approx(0.2));
  CHECK(put->minute.average == Approx(2.0));
  CHECK(put->hour.sum == 720);
  CHECK(put->day.sum == 1440);
  CHECK(stats.item("TOPIC_PUT_SIZE", "T")->minute.sum == 300);
  CHECK(stats.item("GROUP_GET_NUMS", "T@G")->minute.sum == 24);
  CHECK(stats.item("BROKER_PUT_NUMS", "C1")->day.sum == 1440);
  CHECK(stats.consume_tps("G", "T") == Approx(0.4));
  CHECK(stats.consume_tps("G", "U") == 0);
  CHECK_FALSE(stats.item("TOPIC_PUT_NUMS", "U").has_value());
  CHECK_FALSE(stats.item("NO_SUCH", "T").has_value());
  CHECK_FALSE(stats.item("BROKER_PUT_NUMS", "C2").has_value());
  stats.remove_topic("T");
  CHECK_FALSE(stats.item("TOPIC_PUT_NUMS", "T").has_value());
  CHECK_FALSE(stats.item("GROUP_GET_NUMS", "T@G").has_value());
}

TEST_CASE("BrokerStats: yesterday and today change at local midnight", "[broker]") {
  test::FakeClock clock;
  BrokerStats stats("C1", clock.now());
  stats.on_put("T", 5, 1, 0);
  clock.advance(86'400'000);
  stats.tick();
  stats.on_put("T", 7, 1, 0);
  CHECK(stats.totals().put_today_morning == 5);
  clock.advance(86'400'000);
  stats.tick();
  auto totals = stats.totals();
  CHECK(totals.put_yesterday_morning == 5);
  CHECK(totals.put_today_morning == 12);
  CHECK(totals.put_messages == 12);
}

TEST_CASE("BrokerStats: threads count side by side without losing any", "[broker]") {
  test::FakeClock clock;
  BrokerStats stats("C1", clock.now());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&stats, t] {
      for (int i = 0; i < 2000; ++i) {
        stats.on_put("T" + std::to_string(i % 3), 1, 10, t);
        stats.on_get("G", "T", 1, 10, 0);
      }
    });
  for (int i = 0; i < 20; ++i) {
    clock.advance(10'000);
    stats.tick();
    (void)stats.totals();
  }
  for (auto& thread : threads) thread.join();
  CHECK(stats.totals().put_messages == 8000);
  CHECK(stats.totals().get_messages == 8000);
  CHECK(stats.totals().put_time_max_ms == 3);
  CHECK(stats.item("GROUP_GET_SIZE", "T@G").has_value());
}

}  // namespace
}  // namespace apogee::broker
