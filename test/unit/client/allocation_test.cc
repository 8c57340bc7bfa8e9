#include "apogee/allocation.h"

#include "test/support/catch.h"

namespace {

using apogee::AllocationStrategy;
using apogee::MessageQueue;
using Ids = std::vector<int>;

std::vector<MessageQueue> queues_of(int count, const std::string& broker = "b-a") {
  std::vector<MessageQueue> queues;
  for (int i = 0; i < count; ++i) queues.push_back({"T", broker, i});
  return queues;
}

std::vector<std::string> clients_of(int count) {
  std::vector<std::string> clients;
  for (int i = 0; i < count; ++i) clients.push_back("127.0.0.1@c" + std::to_string(i));
  return clients;
}

Ids share(const AllocationStrategy& strategy, int queues, int clients, int member) {
  Ids ids;
  const auto members = clients_of(clients);
  for (const auto& queue : strategy.allocate("G", "127.0.0.1@c" + std::to_string(member), queues_of(queues), members)) {
    ids.push_back(queue.queue_id);
  }
  return ids;
}

/// Every queue goes to exactly one member.
void check_partition(const AllocationStrategy& strategy, int queues, int clients) {
  std::vector<int> owners(static_cast<size_t>(queues), 0);
  for (int member = 0; member < clients; ++member) {
    for (int id : share(strategy, queues, clients, member)) ++owners[static_cast<size_t>(id)];
  }
  CHECK(owners == std::vector<int>(static_cast<size_t>(queues), 1));
}

}  // namespace

TEST_CASE("AVG gives contiguous shares", "[client][allocation]") {
  const auto strategy = apogee::allocate_averagely();
  CHECK(strategy.name == "AVG");
  CHECK(share(strategy, 8, 3, 0) == Ids{0, 1, 2});
  CHECK(share(strategy, 8, 3, 1) == Ids{3, 4, 5});
  CHECK(share(strategy, 8, 3, 2) == Ids{6, 7});
  CHECK(share(strategy, 4, 2, 1) == Ids{2, 3});
  CHECK(share(strategy, 2, 3, 1) == Ids{1});
  CHECK(share(strategy, 2, 3, 2).empty());
  CHECK(share(strategy, 4, 2, 7).empty());  // not a member
}

TEST_CASE("AVG_BY_CIRCLE deals queues out one by one", "[client][allocation]") {
  const auto strategy = apogee::allocate_averagely_by_circle();
  CHECK(strategy.name == "AVG_BY_CIRCLE");
  CHECK(share(strategy, 8, 3, 0) == Ids{0, 3, 6});
  CHECK(share(strategy, 8, 3, 2) == Ids{2, 5});
  CHECK(share(strategy, 2, 3, 2).empty());
}

TEST_CASE("CONFIG gives what it was told, of the topic that is asked for", "[client][allocation]") {
  const auto strategy = apogee::allocate_by_config({{"T", "b-a", 1}, {"T", "b-a", 3}, {"U", "b-a", 0}});
  CHECK(strategy.name == "CONFIG");
  CHECK(share(strategy, 4, 2, 0) == Ids{1, 3});
  CHECK(share(strategy, 4, 2, 1) == Ids{1, 3});
}

TEST_CASE("MACHINE_ROOM takes the queues of its rooms", "[client][allocation]") {
  const auto strategy = apogee::allocate_by_machine_room({"r1"});
  auto queues = queues_of(5, "r1@b-a");
  for (const auto& other : queues_of(2, "r2@b-b")) queues.push_back(other);
  const auto members = clients_of(2);
  Ids first;
  Ids second;
  for (const auto& queue : strategy.allocate("G", members[0], queues, members)) first.push_back(queue.queue_id);
  for (const auto& queue : strategy.allocate("G", members[1], queues, members)) second.push_back(queue.queue_id);
  CHECK(first == Ids{0, 1, 4});
  CHECK(second == Ids{2, 3});
}

TEST_CASE("MACHINE_ROOM_NEARBY shares each room among its members, others among all", "[client][allocation]") {
  const auto strategy = apogee::allocate_nearby_machine_room(
      apogee::allocate_averagely(),
      [](const MessageQueue& queue) { return queue.broker_name.substr(0, queue.broker_name.find('-')); },
      [](const std::string& client) { return client.substr(0, client.find('@')); });
  CHECK(strategy.name == "MACHINE_ROOM_NEARBY-AVG");
  std::vector<MessageQueue> queues;
  for (const char* broker : {"r1-b", "r2-b", "r3-b"}) {
    for (const auto& queue : queues_of(2, broker)) queues.push_back(queue);
  }
  const std::vector<std::string> members{"r1@a", "r1@b", "r2@a"};
  auto of = [&](const std::string& member) { return strategy.allocate("G", member, queues, members); };
  CHECK(of("r1@a") == std::vector<MessageQueue>{{"T", "r1-b", 0}, {"T", "r3-b", 0}});
  CHECK(of("r1@b") == std::vector<MessageQueue>{{"T", "r1-b", 1}, {"T", "r3-b", 1}});
  CHECK(of("r2@a") == std::vector<MessageQueue>{{"T", "r2-b", 0}, {"T", "r2-b", 1}});
}

TEST_CASE("CONSISTENT_HASH puts queues on the ring of Java clients", "[client][allocation]") {
  const auto strategy = apogee::allocate_by_consistent_hash();
  CHECK(strategy.name == "CONSISTENT_HASH");
  // Computed with another MD5 from the rule: first four bytes, ten points "client-i" a member.
  CHECK(share(strategy, 8, 3, 0) == Ids{4, 5});
  CHECK(share(strategy, 8, 3, 1) == Ids{0, 1, 7});
  CHECK(share(strategy, 8, 3, 2) == Ids{2, 3, 6});
}

TEST_CASE("each queue has one owner", "[client][allocation]") {
  for (int queues : {1, 2, 7, 16}) {
    for (int clients : {1, 2, 3, 5, 20}) {
      check_partition(apogee::allocate_averagely(), queues, clients);
      check_partition(apogee::allocate_averagely_by_circle(), queues, clients);
      check_partition(apogee::allocate_by_consistent_hash(), queues, clients);
    }
  }
}

TEST_CASE("queues are ordered by topic, broker name and queue id", "[client][allocation]") {
  CHECK(MessageQueue{"A", "b", 9} < MessageQueue{"B", "a", 0});
  CHECK(MessageQueue{"A", "b-10", 9} < MessageQueue{"A", "b-2", 0});
  CHECK(MessageQueue{"A", "b", 2} < MessageQueue{"A", "b", 10});
}
