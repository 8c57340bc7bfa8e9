// Orders whose messages are seen only when their payment went through.
// usage: transaction [TOPIC]   (NAMESRV_ADDR=host:port)
#include <atomic>
#include <chrono>
#include <iostream>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "apogee/push_consumer.h"
#include "apogee/transaction_producer.h"

namespace {

/// Stands for a database: payments by the transaction that they belong to.
class Payments {
 public:
  bool pay(const std::string& transaction, int amount) {
    std::lock_guard lock(mutex_);
    return paid_[transaction] = amount <= 100;
  }
  apogee::TransactionState state_of(const std::string& transaction) {
    std::lock_guard lock(mutex_);
    auto known = paid_.find(transaction);
    const bool paid = known != paid_.end() && known->second;
    return paid ? apogee::TransactionState::kCommit : apogee::TransactionState::kRollback;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, bool> paid_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string topic = argc > 1 ? argv[1] : "PaidOrders";
  Payments payments;
  apogee::TransactionListener listener;
  listener.execute = [&](const apogee::Message& message, const apogee::SendReceipt& receipt) {
    const int amount = std::stoi(message.body());
    const bool paid = payments.pay(receipt.transaction_id, amount);
    std::cout << "order of " << amount << (paid ? ": paid\n" : ": too much\n");
    if (amount == 42) return apogee::TransactionState::kUnknown;  // as if the answer got lost: the broker will ask
    return paid ? apogee::TransactionState::kCommit : apogee::TransactionState::kRollback;
  };
  listener.check = [&](const apogee::ReceivedMessage& message) {
    std::cout << "the broker asks about the order of " + std::string(message.body()) + "\n";
    return payments.state_of(message.msg_id());
  };
  apogee::TransactionProducerConfig producer_config;
  producer_config.group = "order_service";
  apogee::TransactionProducer producer(producer_config, listener);

  std::atomic<int> received{0};
  apogee::PushConsumerConfig consumer_config;
  consumer_config.group = "warehouse";
  apogee::PushConsumer consumer(consumer_config);
  consumer.set_concurrent_listener(
      [&](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
        for (const auto& message : messages) std::cout << "to be shipped: " + std::string(message.body()) + "\n";
        received += static_cast<int>(messages.size());
        return apogee::ConsumeResult::kSuccess;
      });
  if (auto status = producer.start(); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.subscribe(topic); !status) return std::cerr << status.error().message << "\n", 1;
  if (auto status = consumer.start(); !status) return std::cerr << status.error().message << "\n", 1;

  for (const char* amount : {"10", "1000", "42"}) {
    auto receipt = producer.send_in_transaction(apogee::Message(topic, amount));
    if (!receipt) return std::cerr << receipt.error().message << "\n", 1;
  }
  // The third one comes after transactionTimeOut and, at most, transactionCheckInterval of the broker.
  for (int i = 0; i < 600 && received < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  return received == 2 ? 0 : 1;
}
