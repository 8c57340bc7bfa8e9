#include "services.h"

#include <fmt/core.h>

#include <algorithm>

namespace shop {

using apogee::ConsumeResult;
using apogee::MessageSelector;
using apogee::OrderlyResult;
using apogee::ReceivedMessage;
using apogee::TransactionState;

namespace {

/// A listener that gets the orders which messages are about. Those that are not in the books are of an earlier run.
apogee::ConcurrentListener each_order(
    const Books& books,
    std::function<ConsumeResult(const Order&, const ReceivedMessage&, apogee::ConcurrentContext&)> work) {
  return [&books, work = std::move(work)](const std::vector<ReceivedMessage>& messages,
                                          apogee::ConcurrentContext& context) {
    const Order* order = books.find(messages.front().keys());  // one a call: consume_batch_max is 1
    return order == nullptr ? ConsumeResult::kSuccess : work(*order, messages.front(), context);
  };
}

}  // namespace

// ---- Transactions

OrderDesk::OrderDesk(const Settings& settings, Books& books)
    : books_(books), until_(settings.until), producer_(producer_config(settings), [&books] {
        apogee::TransactionListener listener;
        // The broker has the message and shows it to nobody: now do what it says.
        listener.execute = [&books](const apogee::Message& message, const apogee::SendReceipt& receipt) {
          const Order& order = *books.find(message.keys());
          const Step step = message.tags() == "paid"      ? Step::kPaid
                            : order.amount > kCreditLimit ? Step::kRefused
                                                          : Step::kCreated;
          const auto state = books.enter_in_transaction(receipt.transaction_id, order, step);
          // As if this process died here, between its database and the broker.
          return order.forgetful ? TransactionState::kUnknown : state;
        };
        // The broker never heard how a transaction ended; the books know.
        listener.check = [&books](const ReceivedMessage& message) { return books.outcome(message.msg_id()); };
        return listener;
      }()) {}

void OrderDesk::place(const Order& order) {
  while (!books_.has(order, Step::kCreated) && !books_.has(order, Step::kRefused) && Clock::now() < until_) {
    try_once(order, "created");
  }
}

void OrderDesk::pay(const Order& order) {
  while (!books_.has(order, Step::kPaid) && !books_.has(order, Step::kCancelled) && Clock::now() < until_) {
    try_once(order, "paid");
  }
}

void OrderDesk::try_once(const Order& order, const char* event) {
  // What the label will need goes with the message.
  auto message = apogee::Message(kOrders, order.address).set_tags(event).set_keys(order.id);
  // After an error execute() was not called, and nothing is in the books. Should the message have been stored
  // nevertheless, the broker asks about it, and hears of a rollback: trying again is another transaction.
  if (auto receipt = producer_.send_in_transaction(message); !receipt) {
    if (!may_pass(receipt.error())) books_.complain(receipt.error().message);
    wait_a_little();
  }
}

// ---- Timers

Checkout::Checkout(const Settings& settings, Parts parts, std::chrono::milliseconds pay_within)
    : settings_(settings),
      parts_(parts),
      pay_within_(pay_within),
      created_(consumer_config(settings, kCheckoutGroup)),
      deadlines_(consumer_config(settings, kDeadlineGroup)) {}

Checkout::~Checkout() { stop().ignore("what could not be stopped was told before"); }

apogee::Status Checkout::start() {
  created_.set_concurrent_listener(
      each_order(parts_.books, [this](const Order& order, auto&, auto&) { return created(order); }));
  deadlines_.set_concurrent_listener(
      each_order(parts_.books, [this](const Order& order, auto&, auto&) { return deadline(order); }));
  APOGEE_TRY(created_.subscribe(kOrders, "created"));
  APOGEE_TRY(deadlines_.subscribe(kDeadlines));
  APOGEE_TRY(created_.start());
  APOGEE_TRY(deadlines_.start());
  customers_ = std::thread([this] { customers(); });
  return {};
}

apogee::Status Checkout::stop() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  if (customers_.joinable()) customers_.join();
  APOGEE_TRY(created_.shutdown());
  return deadlines_.shutdown();
}

ConsumeResult Checkout::created(const Order& order) {
  if (parts_.books.deadline(order).deliver_at_ms != 0) return ConsumeResult::kSuccess;  // the message came twice
  auto timer = parts_.post.deliver(
      apogee::Message(kDeadlines, "pay until now").set_keys(order.id).set_deliver_after(pay_within_));
  if (!timer) return ConsumeResult::kLater;
  // A crash of this service right here would lead to a second timer, which finds the order cancelled already.
  parts_.books.keep_deadline(order, *timer);
  if (order.pays == Order::Pays::kNever) return ConsumeResult::kSuccess;
  const auto when = Clock::now() + (order.pays == Order::Pays::kLate ? pay_within_ : std::chrono::milliseconds(0));
  {
    std::lock_guard lock(mutex_);
    will_pay_.emplace(when, &order);
  }
  changed_.notify_all();
  return ConsumeResult::kSuccess;
}

ConsumeResult Checkout::deadline(const Order& order) {
  // The books decide who was first: a payment that comes at the same moment finds the order cancelled, or this finds it
  // paid and does nothing.
  if (parts_.books.enter(order, Step::kCancelled) == Books::Entered::kNotAllowed) return ConsumeResult::kSuccess;
  // Also when it was cancelled before: the first time may have ended between the books and the notice.
  return parts_.notices.send(order, Step::kCancelled) ? ConsumeResult::kSuccess : ConsumeResult::kLater;
}

void Checkout::customers() {
  std::unique_lock lock(mutex_);
  while (!closed_ && Clock::now() < settings_.until) {
    const auto next = will_pay_.begin();
    if (next == will_pay_.end() || next->first > Clock::now()) {
      changed_.wait_until(lock, next == will_pay_.end() ? settings_.until : next->first);
      continue;
    }
    const Order& order = *next->second;
    will_pay_.erase(next);
    lock.unlock();
    parts_.desk.pay(order);
    // Most timers never fire: they are taken back. It is no harm when that fails, because the deadline finds the order
    // paid; so it is tried once.
    if (parts_.books.has(order, Step::kPaid)) {
      parts_.post.cancel(parts_.books.deadline(order)).ignore("the deadline of a paid order changes nothing");
    }
    lock.lock();
  }
}

// ---- Order, retries

Warehouse::Warehouse(const Settings& settings, Books& books, Post& post, Notices& notices)
    : books_(books),
      post_(post),
      notices_(notices),
      labels_([&] {
        auto config = consumer_config(settings, kLabelGroup);
        config.max_reconsume_times = kLabelRetries;  // as the group has it at the broker
        return config;
      }()),
      workers_(consumer_config(settings, kWarehouseGroup)) {}

apogee::Status Warehouse::start() {
  labels_.set_concurrent_listener(
      each_order(books_, [this](const Order& order, const ReceivedMessage& message,
                                apogee::ConcurrentContext& context) { return paid(order, message, context); }));
  // One call at a time per queue, and a queue is not given to another member before its call has ended.
  workers_.set_orderly_listener([this](const std::vector<ReceivedMessage>& messages, apogee::OrderlyContext&) {
    const Order* order = books_.find(messages.front().keys());
    return order == nullptr ? OrderlyResult::kSuccess : work(*order, messages.front().tags());
  });
  APOGEE_TRY(labels_.subscribe(kOrders, "paid"));
  APOGEE_TRY(workers_.subscribe(kWarehouse));
  APOGEE_TRY(labels_.start());
  return workers_.start();
}

apogee::Status Warehouse::stop() {
  APOGEE_TRY(labels_.shutdown());
  return workers_.shutdown();
}

bool Warehouse::is_plain(std::string_view address) {
  return std::all_of(address.begin(), address.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

ConsumeResult Warehouse::paid(const Order& order, const ReceivedMessage& message, apogee::ConcurrentContext& context) {
  if (!is_plain(message.body()) && !printer_prints_all_) {
    // Poison: however often it is tried, it fails. After kLabelRetries more times the broker puts it aside.
    context.delay_level_when_later = 1;  // a second; by default the pause grows from 10 s to two hours
    return ConsumeResult::kLater;
  }
  // All messages of an order have one sharding key, so they are in one queue, in the order in which they were sent.
  for (const char* step : {"pick", "pack", "ship"}) {
    auto stored = post_.deliver(apogee::Message(kWarehouse, order.address).set_tags(step).set_keys(order.id),
                                apogee::SendOptions::by_key(order.id));
    if (!stored) return ConsumeResult::kLater;
  }
  return notices_.send(order, Step::kPaid) ? ConsumeResult::kSuccess : ConsumeResult::kLater;
}

OrderlyResult Warehouse::work(const Order& order, std::string_view step) {
  const Step done = step == "pick" ? Step::kPicked : step == "pack" ? Step::kPacked : Step::kShipped;
  // A step may come twice, but never too early: the order of the queue has to hold, whatever crashed.
  if (books_.enter(order, done) == Books::Entered::kNotAllowed) {
    books_.complain(fmt::format("order {} was to be {} out of order", order.id, to_string(done)));
  }
  if (done != Step::kShipped) return OrderlyResult::kSuccess;
  // Suspending keeps the order: the same message comes again, and the queue waits for it.
  return notices_.send(order, Step::kShipped) ? OrderlyResult::kSuccess : OrderlyResult::kSuspend;
}

// ---- Filters

Notices::Notices(const Settings& settings, Books& books, Post& post) : settings_(settings), books_(books), post_(post) {
  add("mail", MessageSelector::by_tags("email"), [](const Order& order, Step) { return order.channel == "email"; });
  add("sms", MessageSelector::by_tags("sms"), [](const Order& order, Step) { return order.channel == "sms"; });
  // Numbers and texts are properties of the messages; the broker compares them, and sends nothing else.
  add("accounts", MessageSelector::by_sql("status = 'shipped' AND (amount BETWEEN 300 AND 700 OR region = 'north')"),
      [](const Order& order, Step step) {
        return step == Step::kShipped && ((order.amount >= 300 && order.amount <= 700) || order.region == "north");
      });
}

void Notices::add(const std::string& name, const MessageSelector& selector,
                  std::function<bool(const Order&, Step)> wanted) {
  books_.expect(name, std::move(wanted));
  auto consumer = std::make_unique<apogee::PushConsumer>(consumer_config(settings_, notice_group(name)));
  consumer->set_concurrent_listener(
      each_order(books_, [this, name](const Order& order, const ReceivedMessage& message, auto&) {
        const auto status = message.property("status").value_or("");
        for (const Step step : {Step::kPaid, Step::kCancelled, Step::kShipped}) {
          if (status == to_string(step)) books_.notice_received(name, order, step);
        }
        return ConsumeResult::kSuccess;
      }));
  subscribers_.push_back({selector, std::move(consumer)});
}

apogee::Status Notices::start() {
  for (auto& [selector, consumer] : subscribers_) {
    APOGEE_TRY(consumer->subscribe(kNotices, selector));
    APOGEE_TRY(consumer->start());  // a broker that does not filter by SQL says so here
  }
  return {};
}

apogee::Status Notices::stop() {
  for (auto& [selector, consumer] : subscribers_) APOGEE_TRY(consumer->shutdown());
  return {};
}

apogee::Status Notices::send(const Order& order, Step step) {
  APOGEE_TRY(post_.deliver(apogee::Message(kNotices, fmt::format("Your order {} was {}.", order.id, to_string(step)))
                               .set_keys(order.id)
                               .set_tags(order.channel)
                               .set_property("status", to_string(step))
                               .set_property("amount", std::to_string(order.amount))
                               .set_property("region", order.region)));
  books_.notice_sent(order, step);
  return {};
}

// ---- Dead letters

void DeadLetters::look() {
  // The topic is made with the first dead letter. What cannot be asked now is asked again next time.
  auto queues = admin_.queues_of_topic(std::string("%DLQ%") + kLabelGroup);
  if (!queues) return;
  for (const auto& queue : *queues) {
    for (;;) {
      apogee::admin::PullRequest request;
      request.queue = queue;
      request.offset = read_[queue];
      auto pulled = admin_.pull(request);
      if (!pulled || pulled->next_offset <= request.offset) break;
      for (const auto& letter : pulled->messages) {
        if (books_.find(letter.keys()) != nullptr) letters_.emplace(letter.keys(), letter);
      }
      read_[queue] = pulled->next_offset;
    }
  }
}

void DeadLetters::resend(Clock::time_point until) {
  for (const auto& [id, letter] : letters_) {
    while (!admin_.resend_dead_letter(kLabelGroup, letter) && Clock::now() < until) wait_a_little();
  }
}

}  // namespace shop
