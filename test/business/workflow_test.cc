// The shop of client/examples/order_payment as users run it, against a real broker: its own books must balance, and so
// must what the topics, the dead letters and other subscribers say.
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/message/property_names.h"
#include "test/integration/sdk_bench.h"
#include "test/support/mqadmin.h"
#include "test/support/random.h"
#include "test/support/sanitizers.h"

namespace apogee::test {

using namespace std::chrono_literals;
using Texts = std::vector<std::string>;
using Names = std::set<std::string>;

namespace {

#ifdef APOGEE_UNDER_SANITIZER
constexpr int kPayWithinMs = 10'000;
#else
constexpr int kPayWithinMs = 5'000;
#endif

Texts words_of(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

std::vector<std::string> broker_options(Texts more) {
  more.insert(more.end(),
              {"--enablePropertyFilter", "true", "--transactionTimeOut", "1000", "--transactionCheckInterval", "500"});
  return more;
}

/// The example as a process, and a broker that may be killed under it.
struct Shop {
  int orders;
  Cluster cluster;
  Process process;
  Admin mqadmin{cluster.namesrv()};

  explicit Shop(int count, Texts more_options = {})
      : orders(count),
        cluster(broker_options(std::move(more_options))),
        process("client/order_payment",
                {"-n", cluster.namesrv(), "--orders", std::to_string(count), "--pay-within-ms",
                 std::to_string(kPayWithinMs), "--pace-ms", "40", "--timeout", std::to_string(150 + count),
                 "--leave-dead-letters", "--list"},
                (cluster.directory() / "shop.out").string()) {}

  /// The last figure of this name that the shop has shown.
  [[nodiscard]] int figure(const std::string& name) const {
    const auto text = process.output();
    const auto at = text.rfind(name + " ");
    return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + name.size() + 1);
  }
  void wait_for(const std::string& name, int at_least) {
    INFO(name << " " << at_least);
    const bool reached = eventually([&] { return figure(name) >= at_least || !process.running(); }, 120s);
    INFO(process.output());
    REQUIRE(reached);
    REQUIRE(process.running());
  }
  void restart_broker() {
    cluster.kill_broker();
    cluster.start_broker();
  }
  /// Waits until the printer is repaired, and does what the shop asks for.
  void resend_dead_letters(bool kill_before = false) {
    REQUIRE(process.wait_for_output("the printer is repaired: mqadmin resendDlq -g shop_labels", 120s));
    if (kill_before) restart_broker();
    Names dead;
    for (const auto& row : mqadmin.parsed({"queryDlq", "-g", "shop_labels", "-m", "1000000"})) {
      dead.insert(row["keys"].get<std::string>());
      CHECK(row["originTopic"] == "ShopOrders");
    }
    CHECK_FALSE(dead.empty());
    Names resent;
    for (const auto& row : mqadmin.parsed({"resendDlq", "-g", "shop_labels"})) {
      resent.insert(row["keys"].get<std::string>());
      CHECK(row["sendResult"] == "SEND_OK");
    }
    CHECK(resent == dead);
    dead_letters = dead;
  }
  Names dead_letters;
};

/// What the shop printed at its end.
struct Printed {
  std::map<std::string, Texts> histories;  ///< by order
  std::map<std::string, Names> notices;    ///< "order status" by subscriber
  Names never_pay;

  explicit Printed(const std::string& output) {
    std::istringstream in(output);
    for (std::string line; std::getline(in, line);) {
      const auto words = words_of(line);
      const auto colon = std::find(words.begin(), words.end(), ":");
      if (colon == words.end()) continue;
      if (words[0] == "order") {
        histories[words[1]] = {colon + 1, words.end()};
        if (contains(line, " pays never ")) never_pay.insert(words[1]);
      } else if (words[0] == "notice") {
        notices[words[2]].insert(colon[1] + " " + colon[2]);
      }
    }
  }
  [[nodiscard]] Names with(const std::string& step) const {
    Names names;
    for (const auto& [order, history] : histories) {
      if (std::find(history.begin(), history.end(), step) != history.end()) names.insert(order);
    }
    return names;
  }
};

/// All messages of a topic, each queue from its beginning, in the order of the queues.
std::vector<ReceivedMessage> all_of(AdminClient& admin, const std::string& topic) {
  std::vector<ReceivedMessage> all;
  auto queues = admin.queues_of_topic(topic);
  REQUIRE(queues);
  for (const auto& queue : *queues) {
    auto end = admin.max_offset(queue);
    REQUIRE(end);
    for (int64_t at = 0; at < *end;) {
      admin::PullRequest request;
      request.queue = queue;
      request.offset = at;
      auto pulled = admin.pull(request);
      REQUIRE(pulled);
      REQUIRE(pulled->next_offset > at);
      all.insert(all.end(), pulled->messages.begin(), pulled->messages.end());
      at = pulled->next_offset;
    }
  }
  return all;
}

std::string keys_of(const ReceivedMessage& message) { return std::string(message.keys()); }
std::string notice_of(const ReceivedMessage& message) {
  return keys_of(message) + " " + std::string(message.property("status").value_or(""));
}

/// What another group with this subscription gets of the notices; waits for as many as are expected.
Names subscribed(const Cluster& cluster, const std::string& group, const MessageSelector& selector, size_t expected) {
  std::mutex mutex;
  Names got;
  PushConsumer consumer(consumer_config<PushConsumerConfig>(cluster, group, group));
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    std::lock_guard lock(mutex);
    for (const auto& each : messages) got.insert(notice_of(each));
    return ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("ShopNotices", selector));
  REQUIRE(consumer.start());
  CHECK(eventually(
      [&] {
        std::lock_guard lock(mutex);
        return got.size() >= expected;
      },
      60s));
  REQUIRE(consumer.shutdown());
  return got;
}

/// Each order went one of the ways that there are, each step once.
void check_histories(const Printed& printed) {
  for (const auto& [order, history] : printed.histories) {
    INFO(order);
    const bool one_way = history == Texts{"refused"} || history == Texts{"created", "cancelled"} ||
                         history == Texts{"created", "paid", "picked", "packed", "shipped"};
    CHECK(one_way);
  }
  for (const auto& order : printed.never_pay) CHECK(printed.histories.at(order).back() != "shipped");
  CHECK_FALSE(printed.with("shipped").empty());
  CHECK_FALSE(printed.with("cancelled").empty());
  CHECK_FALSE(printed.with("refused").empty());
}

/// Transactions: in the topic if, and only if, it is in the books; once.
void check_events(AdminClient& admin, const Printed& printed, const Names& dead_letters) {
  std::map<std::string, std::multiset<std::string>> events;
  Names poisoned;
  for (const auto& message : all_of(admin, "ShopOrders")) {
    events[std::string(message.tags())].insert(keys_of(message));
    const auto body = message.body();
    const bool plain =
        std::all_of(body.begin(), body.end(), [](char c) { return static_cast<unsigned char>(c) < 128; });
    if (message.tags() == "paid" && !plain) poisoned.insert(keys_of(message));
  }
  CHECK(events.size() == 2);
  for (const char* event : {"created", "paid"}) {
    INFO(event);
    const auto in_books = printed.with(event);
    CHECK(events[event] == std::multiset<std::string>(in_books.begin(), in_books.end()));
  }
  CHECK(dead_letters == poisoned);
}

/// One queue an order, and in it, leaving out what was sent twice, pick before pack before ship.
void check_order(AdminClient& admin, const Printed& printed) {
  std::map<std::string, Texts> steps;
  std::map<std::string, std::set<int32_t>> queues;
  for (const auto& message : all_of(admin, "ShopWarehouse")) {
    auto& seen = steps[keys_of(message)];
    const std::string step(message.tags());
    if (std::find(seen.begin(), seen.end(), step) == seen.end()) seen.push_back(step);
    queues[keys_of(message)].insert(message.queue().queue_id);
  }
  const auto shipped = printed.with("shipped");
  CHECK(steps.size() == shipped.size());
  for (const auto& [order, seen] : steps) {
    INFO(order);
    CHECK(shipped.count(order) == 1);
    CHECK(seen == Texts{"pick", "pack", "ship"});
    CHECK(queues[order].size() == 1);
  }
}

/// Who was cancelled was cancelled by a timer, and not before its time.
void check_timers(AdminClient& admin, const Printed& printed) {
  Names fired;
  for (const auto& message : all_of(admin, "ShopDeadlines")) {
    fired.insert(keys_of(message));
    const auto due = message.property(message::property::kTimerOutMs);
    REQUIRE(due);
    CHECK(message.store_time_ms() >= std::stoll(std::string(*due)));
  }
  const auto cancelled = printed.with("cancelled");
  CHECK(std::includes(fired.begin(), fired.end(), cancelled.begin(), cancelled.end()));
  for (const auto& order : fired) CHECK(printed.with("created").count(order) == 1);
}

/// What was told is what happened; each subscriber got its part, in the shop and in another group.
void check_notices(AdminClient& admin, const Cluster& cluster, const Printed& printed) {
  Names all, mail, sms, accounts, happened;
  for (const auto& message : all_of(admin, "ShopNotices")) {
    const auto notice = notice_of(message);
    const int amount = std::stoi(std::string(message.property("amount").value_or("0")));
    all.insert(notice);
    (message.tags() == "email" ? mail : sms).insert(notice);
    if (message.property("status") == "shipped" &&
        ((amount >= 300 && amount <= 700) || message.property("region") == "north")) {
      accounts.insert(notice);
    }
  }
  for (const char* step : {"paid", "cancelled", "shipped"})
    for (const auto& order : printed.with(step)) happened.insert(order + " " + step);
  CHECK(all == happened);
  auto told = printed.notices;
  CHECK(told["mail"] == mail);
  CHECK(told["sms"] == sms);
  CHECK(told["accounts"] == accounts);
  CHECK_FALSE(accounts.empty());
  CHECK(accounts.size() < printed.with("shipped").size());
  CHECK(subscribed(cluster, "other_mail", MessageSelector::by_tags("email"), mail.size()) == mail);
  CHECK(subscribed(cluster, "other_accounts",
                   MessageSelector::by_sql("status = 'shipped' AND (amount BETWEEN 300 AND 700 OR region = 'north')"),
                   accounts.size()) == accounts);
}

void check_all(Shop& shop) {
  const int exit_code = shop.process.wait(150s);
  const auto output = shop.process.output();
  INFO(output);
  REQUIRE(exit_code == 0);
  CHECK(contains(output, "the books balance"));
  const Printed printed(output);
  CHECK(printed.histories.size() == static_cast<size_t>(shop.orders));
  AdminClient admin(admin_config(shop.cluster));
  check_histories(printed);
  check_events(admin, printed, shop.dead_letters);
  check_order(admin, printed);
  check_timers(admin, printed);
  check_notices(admin, shop.cluster, printed);
}

}  // namespace

TEST_CASE("orders and payments: the books balance", "[business][workflow]") {
  Shop shop(40);
  shop.resend_dead_letters();
  check_all(shop);
  // Nobody is left waiting.
  const Printed printed(shop.process.output());
  CHECK(printed.never_pay.size() > 4);
  for (const char* group : {"shop_checkout", "shop_deadlines", "shop_labels", "shop_warehouse", "shop_mail"}) {
    INFO(group);
    const auto progress = shop.mqadmin.parsed({"consumerProgress", "-g", group});
    for (const auto& row : progress.at("queues")) CHECK(row["diff"] == 0);
  }
}

TEST_CASE("orders and payments: the broker is killed again and again, and the books balance",
          "[business][workflow][crash]") {
  // The long form also kills it every few seconds as long as orders come in.
  Random random(run_seed("orders and payments"));
  // Where a broker dies oftener than it saves how far retries are, each death delivers them all once more.
  Shop shop(is_soak() ? 500 : 40, is_soak() ? Texts{"--flushDelayOffsetInterval", "500"} : Texts{});
  shop.wait_for("created", 4);
  shop.restart_broker();  // orders are placed and paid
  shop.wait_for("created", 20);
  shop.restart_broker();  // transactions are open, timers run
  shop.wait_for("shipped", 5);
  shop.restart_broker();
  shop.wait_for("cancelled", 1);
  shop.restart_broker();  // timers fire
  shop.wait_for("dead letters", 1);
  shop.restart_broker();
  while (is_soak() && shop.figure("refused") + shop.figure("created") < shop.orders) {
    pause(std::chrono::milliseconds(500 + random.below(3'000)));
    shop.restart_broker();
  }
  shop.resend_dead_letters(true);  // they wait, and are resent
  shop.restart_broker();
  check_all(shop);
}

}  // namespace apogee::test
