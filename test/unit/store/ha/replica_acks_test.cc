// What counts as replicated, who is in sync, and who is told when.
#include "store/ha/replica_acks.h"

#include <optional>
#include <thread>

#include "test/support/catch.h"
#include "test/support/wait.h"

namespace apogee::store {

namespace {

struct Bench {
  std::atomic<LogOffset> end{1'000};
  std::atomic<int> grown{0};
  Logger logger{[](LogLevel, std::string_view) {}};
  ReplicaAcks acks;

  explicit Bench(ReplicationRules rules)
      : acks(
            rules, [this] { return end.load(); }, nullptr, logger) {
    acks.set_confirm_listener([this] { ++grown; });
  }
  struct Answer {
    std::optional<Replicated> told;
    int times = 0;
  };
  std::shared_ptr<Answer> wait_for(LogOffset up_to) {
    auto answer = std::make_shared<Answer>();
    acks.wait_for(up_to, [answer](Replicated replicated) {
      answer->told = replicated;
      ++answer->times;
    });
    return answer;
  }
  /// A slave that has everything.
  ReplicaAcks::SlaveId slave(int64_t broker_id, LogOffset proven = 1'000) {
    return acks.connected("10.0.0." + std::to_string(broker_id) + ":4000", broker_id, false, proven);
  }
  void grow_to(LogOffset to) { end = to; }
  bool acknowledge(ReplicaAcks::SlaveId id, LogOffset to) {
    acks.sent(id, to);
    return acks.acknowledged(id, to).has_value();
  }
  template <typename Condition>
  bool expires_until(Condition condition) {
    return test::eventually([&] {
      acks.expire();
      return condition();
    });
  }
};

ReplicationRules sync_rules() {
  ReplicationRules rules;
  rules.waits = true;
  rules.timeout_ms = 60'000;
  return rules;
}

}  // namespace

TEST_CASE("Acks: without waiting nothing is waited for, and the end is confirmed", "[store][ha][acks]") {
  Bench bench{ReplicationRules()};
  CHECK(bench.acks.confirmed() == 1'000);
  CHECK(bench.acks.follows_end());
  CHECK(bench.wait_for(2'000)->told == Replicated::kYes);
  auto id = bench.slave(1, 500);
  CHECK(bench.acks.confirmed() == 1'000);
  bench.grow_to(2'000);
  CHECK(bench.acks.confirmed() == 2'000);
  CHECK(bench.acknowledge(id, 1'500));
  CHECK(bench.acks.in_sync() == 1);
  CHECK(bench.acks.admits(nullptr));
}

TEST_CASE("Acks: a sync master alone tells that there is no slave", "[store][ha][acks]") {
  Bench bench(sync_rules());
  CHECK(bench.wait_for(1'000)->told == Replicated::kNoSlave);
  CHECK(bench.acks.confirmed() == 1'000);
  bench.grow_to(1'100);
  CHECK(bench.acks.confirmed() == 1'100);
}

TEST_CASE("Acks: one slave's word is enough for one message, and covers those in front", "[store][ha][acks]") {
  Bench bench(sync_rules());
  auto id = bench.slave(1);
  CHECK(bench.acks.in_sync() == 2);
  CHECK(bench.grown == 1);  // of what was appended before, nobody may have been told yet
  bench.grow_to(1'300);
  auto first = bench.wait_for(1'100), second = bench.wait_for(1'200), third = bench.wait_for(1'300);
  CHECK_FALSE(first->told);
  CHECK(bench.acks.confirmed() == 1'000);
  CHECK_FALSE(bench.acks.follows_end());
  CHECK(bench.acknowledge(id, 1'200));
  CHECK(first->told == Replicated::kYes);
  CHECK(second->told == Replicated::kYes);
  CHECK_FALSE(third->told);
  CHECK(bench.acks.confirmed() == 1'200);
  CHECK(bench.grown == 2);
  CHECK(bench.acknowledge(id, 1'300));
  CHECK(third->told == Replicated::kYes);
  CHECK(bench.acks.confirmed() == 1'300);
  CHECK(bench.wait_for(1'250)->told == Replicated::kYes);
  for (const auto& each : {first, second, third}) CHECK(each->times == 1);
}

TEST_CASE("Acks: k machines means k - 1 slaves, whichever they are", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.in_sync_replicas = 3;
  Bench bench(rules);
  auto one = bench.slave(1), two = bench.slave(2);
  bench.grow_to(1'500);
  auto answer = bench.wait_for(1'500);
  auto three = bench.slave(3);
  CHECK(bench.acknowledge(one, 1'500));
  CHECK_FALSE(answer->told);
  CHECK(bench.acknowledge(three, 1'500));
  CHECK(answer->told == Replicated::kYes);
  // The second one is in sync and has not confirmed it: readers wait.
  CHECK(bench.acks.confirmed() == 1'000);
  CHECK(bench.acknowledge(two, 1'400));
  CHECK(bench.acks.confirmed() == 1'400);
  bench.acks.disconnected(one);
  bench.acks.disconnected(two);
  bench.grow_to(1'600);
  CHECK(bench.wait_for(1'600)->told == Replicated::kNoSlave);
}

TEST_CASE("Acks: all of the in-sync set", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.all_in_sync = true;
  rules.min_in_sync_replicas = 2;
  rules.catch_up_ms_max = 30;
  Bench bench(rules);
  std::string why;
  CHECK_FALSE(bench.acks.admits(&why));
  CHECK(why == "1 brokers are in sync, minInSyncReplicas is 2");
  CHECK(bench.wait_for(1'000)->told == Replicated::kNoSlave);
  auto one = bench.slave(1), two = bench.slave(2), far = bench.slave(3, 10);
  CHECK(bench.acks.in_sync() == 3);
  CHECK(bench.acks.admits(&why));
  bench.grow_to(1'100);
  auto answer = bench.wait_for(1'100);
  CHECK(bench.acknowledge(one, 1'100));
  CHECK(bench.acknowledge(far, 500));
  CHECK_FALSE(answer->told);
  SECTION("the last member has it") {
    CHECK(bench.acknowledge(two, 1'100));
    CHECK(answer->told == Replicated::kYes);
  }
  SECTION("the last member leaves") {
    REQUIRE(bench.expires_until([&] { return bench.acks.in_sync() == 2; }));
    CHECK(answer->told == Replicated::kYes);
    CHECK(bench.acks.confirmed() == 1'100);
    // And comes back with everything.
    CHECK(bench.acknowledge(two, 1'100));
    CHECK(bench.acks.in_sync() == 3);
  }
}

TEST_CASE("Acks: who is too far behind is not waited for", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.fall_behind_bytes_max = 100;
  Bench bench(rules);
  auto id = bench.slave(1, 899);
  CHECK(bench.wait_for(1'000)->told == Replicated::kNoSlave);
  CHECK(bench.acknowledge(id, 900));
  auto answer = bench.wait_for(1'000);
  CHECK_FALSE(answer->told);
  CHECK(bench.acknowledge(id, 1'000));
  CHECK(answer->told == Replicated::kYes);
}

TEST_CASE("Acks: an answer does not wait beyond its time", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.timeout_ms = 20;
  Bench bench(rules);
  auto id = bench.slave(1);
  bench.grow_to(2'000);
  auto answer = bench.wait_for(2'000);
  REQUIRE(bench.expires_until([&] { return answer->told.has_value(); }));
  CHECK(answer->told == Replicated::kTimeout);
  CHECK(bench.acknowledge(id, 2'000));
  CHECK(answer->times == 1);
}

TEST_CASE("Acks: garbage does not count", "[store][ha][acks]") {
  Bench bench(sync_rules());
  auto id = bench.slave(1);
  bench.grow_to(5'000);
  auto answer = bench.wait_for(2'000);
  bench.acks.sent(id, 1'500);
  auto beyond = bench.acks.acknowledged(id, 2'000);  // in the log, but not sent
  REQUIRE_FALSE(beyond);
  CHECK(beyond.error().code == Errc::kInvalidArgument);
  CHECK(beyond.error().message == "slave 10.0.0.1:4000 (broker id 1) acknowledges 2000, but was sent up to 1500");
  CHECK_FALSE(bench.acks.acknowledged(id, INT64_MAX));
  CHECK_FALSE(bench.acks.acknowledged(id, -1));
  CHECK_FALSE(bench.acks.acknowledged(id, 999));
  CHECK(bench.acks.acknowledged(id, 1'000));  // a heartbeat
  auto stranger = bench.acks.acknowledged(id + 77, 1'000);
  REQUIRE_FALSE(stranger);
  CHECK(stranger.error().code == Errc::kNotFound);
  CHECK_FALSE(answer->told);
  CHECK(bench.acks.confirmed() == 1'000);
  CHECK(bench.acks.slaves().at(0).acknowledged == 1'000);
}

TEST_CASE("Acks: a member that has gone is waited for for a while", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.timeout_ms = 20;
  Bench bench(rules);
  auto id = bench.slave(1);
  bench.acks.disconnected(id);
  bench.acks.disconnected(id);
  CHECK(bench.acks.in_sync() == 2);
  CHECK(bench.acks.slaves().empty());
  bench.grow_to(2'000);
  CHECK(bench.acks.confirmed() == 1'000);
  CHECK(bench.wait_for(2'000)->told == Replicated::kNoSlave);
  REQUIRE(bench.expires_until([&] { return bench.acks.in_sync() == 1; }));
  CHECK(bench.acks.confirmed() == 2'000);
  CHECK(bench.grown == 2);
}

TEST_CASE("Acks: a broker counts once, with what it has now", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.in_sync_replicas = 3;
  Bench bench(rules);
  auto old = bench.slave(1);
  auto now = bench.slave(1, 600);  // lost its tail with the power, and the old connection hangs
  CHECK(bench.acks.in_sync() == 1);
  CHECK(bench.acks.slaves().size() == 1);
  CHECK_FALSE(bench.acknowledge(old, 1'000));
  bench.grow_to(1'100);
  CHECK(bench.wait_for(1'100)->told == Replicated::kNoSlave);
  CHECK(bench.acknowledge(now, 1'100));
  CHECK(bench.acks.in_sync() == 2);
  auto classic = bench.acks.connected("10.0.0.9:1", 0, true, 1'100);
  auto again = bench.acks.connected("10.0.0.9:2", 0, true, 1'100);
  CHECK_FALSE(bench.acknowledge(classic, 1'100));
  CHECK(bench.acknowledge(again, 1'100));
  CHECK(bench.acks.slaves().size() == 2);
  CHECK(bench.wait_for(1'100)->told == Replicated::kYes);
}

TEST_CASE("Acks: what is confirmed never goes back, and everybody in sync has it", "[store][ha][acks]") {
  Bench bench(sync_rules());
  std::atomic<bool> stop{false};
  std::atomic<LogOffset> seen{0};
  // While the log grows by itself, as with messages that do not wait.
  std::thread writer([&] {
    while (!stop) {
      bench.end.fetch_add(10);
      std::this_thread::yield();
    }
  });
  std::thread reader([&] {
    LogOffset last = 0;
    while (!stop) {
      const LogOffset now = bench.acks.confirmed();
      if (now < last) stop = true;
      seen = last = now;
    }
  });
  LogOffset member_had = 0;
  for (int round = 0; round < 3 && !stop; ++round) {
    auto id = bench.slave(1, 0);
    REQUIRE(test::eventually([&] {
      const LogOffset to = bench.end;
      REQUIRE(bench.acknowledge(id, to));
      member_had = to;
      return bench.acks.in_sync() == 2;
    }));
    for (int i = 0; i < 50; ++i) CHECK(bench.acks.confirmed() <= member_had);
    auto rules = sync_rules();
    rules.timeout_ms = 0;
    bench.acks.set_rules(rules);
    bench.acks.disconnected(id);
    REQUIRE(bench.expires_until([&] { return bench.acks.in_sync() == 1; }));
  }
  CHECK_FALSE(stop);
  stop = true;
  writer.join();
  reader.join();
}

TEST_CASE("Acks: a stop releases everything", "[store][ha][acks]") {
  Bench bench(sync_rules());
  auto id = bench.slave(1);
  bench.grow_to(2'000);
  auto answer = bench.wait_for(2'000);
  bench.acks.stop();
  CHECK(answer->told == Replicated::kTimeout);
  CHECK(bench.wait_for(2'000)->told == Replicated::kTimeout);
  CHECK(bench.acks.confirmed() == 2'000);
  CHECK(bench.acknowledge(id, 2'000));
  CHECK(answer->times == 1);
}

TEST_CASE("Acks: rules change while answers wait", "[store][ha][acks]") {
  auto rules = sync_rules();
  rules.in_sync_replicas = 3;
  Bench bench(rules);
  auto one = bench.slave(1);
  auto two = bench.slave(2);
  bench.grow_to(2'000);
  auto answer = bench.wait_for(2'000);
  CHECK(bench.acknowledge(one, 2'000));
  CHECK_FALSE(answer->told);
  SECTION("fewer brokers") {
    rules.in_sync_replicas = 2;
    bench.acks.set_rules(rules);
    CHECK(answer->told == Replicated::kYes);
  }
  SECTION("no waiting at all, and again") {
    rules.waits = false;
    bench.acks.set_rules(rules);
    CHECK(answer->told == Replicated::kYes);
    CHECK(bench.acks.confirmed() == 2'000);
    rules.waits = true;
    bench.acks.set_rules(rules);
    CHECK(bench.acks.confirmed() == 2'000);
    CHECK(bench.acks.in_sync() == 2);  // the second one lacks what readers have seen
    CHECK(bench.acknowledge(two, 2'000));
    CHECK(bench.acks.in_sync() == 3);
  }
}

TEST_CASE("Acks: waiting is switched on while slaves are there and the log grows", "[store][ha][acks]") {
  LogOffset end = 1'000;
  int looks = -1'000;
  Logger logger{[](LogLevel, std::string_view) {}};
  ReplicaAcks acks(
      ReplicationRules(),
      [&] {
        if (++looks == 3) end = 1'300;  // a message comes after the first slave has joined
        return end;
      },
      [&](LogOffset from, LogOffset to) {
        CHECK(from <= to);
        return to == end ? to : to - to % 100;  // records of 100 bytes
      },
      logger);
  const auto one = acks.connected("10.0.0.1:4", 1, false, 1'000);
  const auto two = acks.connected("10.0.0.2:4", 2, true, 1'000);
  looks = 0;
  acks.set_rules(sync_rules());
  end = 1'300;
  CHECK(acks.confirmed() == 1'000);
  for (const auto slave : {one, two}) {
    acks.sent(slave, 1'250);
    REQUIRE(acks.acknowledged(slave, 1'250));
  }
  CHECK(acks.confirmed() == 1'200);
}

}  // namespace apogee::store
