// A shop: orders and payments from the first click to the parcel, and what each kind of message is good for.
//
// - Transactions (ShopOrders, "created" and "paid"): what happens to an order is in the books and told, or neither.
// - Timers (ShopDeadlines): an order that is not paid in time is cancelled; one that is paid has its timer taken back.
// - Order (ShopWarehouse): pick, pack, ship; one sharding key an order, and an orderly listener.
// - Retries and dead letters: labels that cannot be printed are tried again, put aside, and sent once more after the
//   printer's repair.
// - Filters (ShopNotices): tags tell mail from text messages, SQL92 chooses what accounts wants to see.
//
// Kill the broker (kill -9) while it runs and start it again: at the end the books balance all the same. Every service
// is idempotent by the order's id, because what brokers deliver is delivered at least once.
//
//   mqbroker --standalone --enablePropertyFilter true --transactionCheckInterval 2000
//   order_payment -n 127.0.0.1:9876
//
// The program makes its topics and groups. books.h is the shop's database, services.h has the services, post.h is how
// they send.
//
// Exit status: 0 the books balance, 1 they do not, or not in time, 2 bad usage.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "apogee/admin_client.h"
#include "books.h"
#include "post.h"
#include "services.h"

namespace {

using namespace shop;

struct Options {
  std::string namesrv;
  int orders = 40;
  int pay_within_ms = 5'000;
  int pace_ms = 20;
  int timeout_s = 180;
  bool resend = true;
  bool list = false;
};

/// All kinds of orders, mixed.
std::vector<Order> make_orders(int count) {
  const auto run = std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
  std::vector<Order> orders;
  for (int i = 0; i < count; ++i) {
    Order order;
    order.id = fmt::format("{:x}-{}", run, i + 1);
    order.amount = i % 9 == 8 ? kCreditLimit + 500 : 50 + i * 137 % 900;
    order.address = i % 8 == 1 ? "Zürich, Bahnhofstraße 1" : fmt::format("London, Baker Street {}", i + 1);
    order.channel = i % 3 == 0 ? "sms" : "email";
    order.region = i % 4 == 0 ? "north" : "south";
    order.pays = i % 5 == 4 ? Order::Pays::kNever : i % 10 == 7 ? Order::Pays::kLate : Order::Pays::kPromptly;
    order.forgetful = i % 6 == 3;
    orders.push_back(std::move(order));
  }
  return orders;
}

class Progress {
 public:
  void show(const Books::Figures& figures, size_t dead_letters) {
    const auto of = [&](Step step) { return figures.orders.count(step) == 0 ? 0 : figures.orders.at(step); };
    auto line = fmt::format("refused {} created {} paid {} cancelled {} shipped {} notices {}/{} dead letters {}",
                            of(Step::kRefused), of(Step::kCreated), of(Step::kPaid), of(Step::kCancelled),
                            of(Step::kShipped), figures.notices_received, figures.notices_expected, dead_letters);
    if (line != shown_) fmt::print("{}\n", line);
    std::fflush(stdout);
    shown_ = std::move(line);
  }

 private:
  std::string shown_;
};

/// Whether all groups have consumed everything; brokers hear of it a moment after it is so.
bool queues_are_empty(apogee::AdminClient& admin) {
  for (const auto& group :
       {std::string(kCheckoutGroup), std::string(kDeadlineGroup), std::string(kLabelGroup),
        std::string(kWarehouseGroup), notice_group("mail"), notice_group("sms"), notice_group("accounts")}) {
    auto progress = admin.group_progress(group);
    if (!progress) return false;
    for (const auto& [queue, figures] : progress->queues) {
      if (figures.lag() != 0) return false;
    }
  }
  return true;
}

int fail(const std::string& what) {
  fmt::print(stderr, "order_payment: {}\n", what);
  return 1;
}

int run(const Options& options) {
  const Settings settings{options.namesrv, Clock::now() + std::chrono::seconds(options.timeout_s)};
  apogee::AdminClient admin(admin_config(settings));
  if (auto status = create_topics(admin); !status) return fail(status.error().message);

  Books books(make_orders(options.orders));
  Post post(settings);
  OrderDesk desk(settings, books);
  Notices notices(settings, books, post);
  Warehouse warehouse(settings, books, post, notices);
  Checkout checkout(settings, {books, post, desk, notices}, std::chrono::milliseconds(options.pay_within_ms));
  DeadLetters dead_letters(settings, books);
  auto started = [&]() -> apogee::Status {
    APOGEE_TRY(post.start());
    APOGEE_TRY(notices.start());
    APOGEE_TRY(warehouse.start());
    APOGEE_TRY(desk.start());
    return checkout.start();
  }();
  if (!started) return fail(started.error().message);

  fmt::print("{} orders, to be paid within {} ms\n", books.orders().size(), options.pay_within_ms);
  std::thread visitors([&] {
    for (const auto& order : books.orders()) {
      desk.place(order);
      std::this_thread::sleep_for(std::chrono::milliseconds(options.pace_ms));
    }
  });

  // What the operator sees and does.
  Progress progress;
  bool repaired = false;
  while (Clock::now() < settings.until && !(repaired && books.settled())) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const auto figures = books.figures();
    dead_letters.look();
    progress.show(figures, dead_letters.count());
    if (repaired || figures.unknown > 0 || figures.undecided > 0) continue;
    // Whatever can be shipped is; the rest is dead.
    bool all_dead = true;
    for (const auto& order : books.orders()) {
      const bool poisoned = books.has(order, Step::kPaid) && !Warehouse::is_plain(order.address);
      all_dead = all_dead && (!poisoned || dead_letters.has(order));
    }
    if (!all_dead) continue;
    warehouse.repair_printer();
    repaired = true;
    if (options.resend) {
      dead_letters.resend(settings.until);
      fmt::print("the printer is repaired, {} dead letters are sent once more\n", dead_letters.count());
    } else {
      fmt::print("the printer is repaired: mqadmin resendDlq -g {}\n", kLabelGroup);
    }
  }
  progress.show(books.figures(), dead_letters.count());
  visitors.join();
  while (!queues_are_empty(admin)) {
    if (Clock::now() >= settings.until) {
      books.complain("not everything was consumed in time");
      break;
    }
    wait_a_little();
  }
  auto stopped = [&]() -> apogee::Status {
    APOGEE_TRY(checkout.stop());
    APOGEE_TRY(warehouse.stop());
    APOGEE_TRY(notices.stop());
    APOGEE_TRY(desk.stop());
    return post.stop();
  }();
  if (!stopped) books.complain("stop: " + stopped.error().message);

  if (options.list) {
    for (const auto& line : books.list()) fmt::print("{}\n", line);
  }
  const auto figures = books.figures();
  fmt::print("{} messages came again and changed nothing; brokers asked {} times what became of a transaction\n",
             figures.repeated, figures.questions);
  const auto mistakes = books.mistakes();
  for (const auto& mistake : mistakes) fmt::print("WRONG: {}\n", mistake);
  fmt::print("the books {}\n", mistakes.empty() ? "balance" : "DO NOT balance");
  return mistakes.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Orders and payments through transactions, timers, order, retries, dead letters and filters");
  app.option_defaults()->always_capture_default();
  app.add_option("--namesrv,-n", options.namesrv, "NameServers, host:port;host:port")
      ->envname("NAMESRV_ADDR")
      ->required();
  app.add_option("--orders", options.orders, "how many")->check(CLI::Range(1, 1'000'000));
  app.add_option("--pay-within-ms", options.pay_within_ms, "then an unpaid order is cancelled")
      ->check(CLI::Range(100, 86'400'000));
  app.add_option("--pace-ms", options.pace_ms, "between two orders")->check(CLI::Range(0, 60'000));
  app.add_option("--timeout", options.timeout_s, "give up after so many seconds")->check(CLI::Range(1, 86'400));
  app.add_flag("!--leave-dead-letters", options.resend, "wait for somebody else to send dead letters once more");
  app.add_flag("--list", options.list, "print every order with its history, and every notice");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return run(options);
}
