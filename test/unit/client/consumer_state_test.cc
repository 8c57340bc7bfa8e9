#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "client/src/offset_store.h"
#include "client/src/process_queue.h"
#include "client/src/pull_request.h"
#include "client/src/received_message.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "test/support/catch.h"

namespace {

using apogee::MessageQueue;
using apogee::OffsetFile;
using apogee::OffsetStore;
using apogee::ProcessQueue;
using apogee::ReceivedMessage;

const MessageQueue kQueue{"T", "b-a", 0};

ReceivedMessage message_at(int64_t offset, const std::string& tag = "A") {
  std::string properties;
  apogee::message::append_property(properties, "TAGS", tag);
  const std::string ip("\x7f\0\0\x01", 4);
  apogee::message::RecordFields fields;
  fields.topic = "T";
  fields.body = "0123456789";
  fields.properties = properties;
  fields.born_host = fields.store_host = {ip, 10911};
  auto record = apogee::message::encode_record(fields, offset, offset * 100);
  auto message = apogee::decode_received_message(apogee::SharedBytes::from(std::move(record)), "b-a");
  REQUIRE(message);
  return *message;
}

std::vector<ReceivedMessage> messages_at(std::initializer_list<int64_t> offsets) {
  std::vector<ReceivedMessage> messages;
  for (auto offset : offsets) messages.push_back(message_at(offset));
  return messages;
}

struct TemporaryDirectory {
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "apogee-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  std::string path;
};

}  // namespace

TEST_CASE("a process queue commits the first offset that is not done", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  OffsetStore offsets;
  queue.put(messages_at({10, 11, 12}));
  CHECK_FALSE(queue.remove(messages_at({11}), offsets));
  CHECK(offsets.get(kQueue) == 10);
  CHECK_FALSE(queue.remove(messages_at({10}), offsets));
  CHECK(offsets.get(kQueue) == 12);
  CHECK_FALSE(queue.remove(messages_at({12}), offsets));
  CHECK(offsets.get(kQueue) == 13);
  CHECK(queue.cached().count == 0);
  CHECK(queue.cached().bytes == 0);
}

TEST_CASE("a process queue tells what it holds", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  queue.put(messages_at({5, 6, 25}));
  queue.put(messages_at({6}));  // pulled twice
  CHECK(queue.cached().count == 3);
  CHECK(queue.cached().bytes == 30);
  CHECK(queue.cached().span == 20);
}

TEST_CASE("a pull that waits for room is told once, by whoever makes it", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  OffsetStore offsets;
  queue.put(messages_at({5, 6, 25}));  // 10 bytes each
  CHECK(queue.has_room_or_waits({4, 31, 20}));
  CHECK_FALSE(queue.remove(messages_at({7}), offsets));  // nobody waits
  SECTION("for fewer messages") {
    CHECK_FALSE(queue.has_room_or_waits({2, 1'000, -1}));
    CHECK_FALSE(queue.remove(messages_at({5}), offsets));
    CHECK(queue.remove(messages_at({25}), offsets));
    CHECK_FALSE(queue.remove(messages_at({6}), offsets));
  }
  SECTION("for fewer bytes, handed out in order") {
    CHECK_FALSE(queue.has_room_or_waits({100, 30, -1}));
    CHECK(queue.take(1).size() == 1);
    CHECK(queue.commit(offsets));
    CHECK(queue.take(2).size() == 2);
    CHECK_FALSE(queue.commit(offsets));
  }
  SECTION("for a shorter span") {
    CHECK_FALSE(queue.has_room_or_waits({100, 1'000, 19}));
    CHECK_FALSE(queue.remove(messages_at({6}), offsets));
    CHECK(queue.remove(messages_at({5}), offsets));
  }
}

TEST_CASE("a dropped process queue does not move its offset", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  OffsetStore offsets;
  queue.put(messages_at({1, 2}));
  CHECK_FALSE(queue.remove(messages_at({1}), offsets));
  queue.drop(false);
  CHECK_FALSE(queue.remove(messages_at({2}), offsets));
  queue.skip_to(50, offsets);
  CHECK(offsets.get(kQueue) == 2);
}

TEST_CASE("offsets without messages for us count when nothing is cached", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  OffsetStore offsets;
  queue.skip_to(7, offsets);
  CHECK(offsets.get(kQueue) == 7);
  queue.put(messages_at({8}));
  queue.skip_to(20, offsets);
  CHECK(offsets.get(kQueue) == 7);
  CHECK_FALSE(queue.remove(messages_at({8}), offsets));
  CHECK(offsets.get(kQueue) == 20);
}

TEST_CASE("an orderly queue is handed out by one, in order", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  OffsetStore offsets;
  CHECK(queue.put(messages_at({1, 2, 3})));
  CHECK_FALSE(queue.put(messages_at({4})));  // somebody is in charge
  auto first = queue.take(2);
  REQUIRE(first.size() == 2);
  CHECK(first[0].queue_offset() == 1);
  CHECK(queue.cached().count == 4);
  queue.put_back(first);
  first = queue.take(1);
  CHECK(first[0].queue_offset() == 1);
  CHECK_FALSE(queue.commit(offsets));
  CHECK(offsets.get(kQueue) == 2);
  CHECK(queue.take(10).size() == 3);
  CHECK_FALSE(queue.commit(offsets));
  CHECK(offsets.get(kQueue) == 5);
  CHECK(queue.take(1).empty());
  CHECK_FALSE(queue.begin_again());
  CHECK(queue.put(messages_at({5})));
  queue.leave();
  CHECK(queue.begin_again());
}

TEST_CASE("what was done counts when an orderly queue is given away, unless its offset was reset",
          "[client][process_queue]") {
  for (bool reset : {false, true}) {
    ProcessQueue queue(kQueue);
    OffsetStore offsets;
    offsets.update(kQueue, 1, false);
    queue.put(messages_at({1, 2}));
    CHECK(queue.take(1).size() == 1);
    queue.drop(reset);
    CHECK_FALSE(queue.commit(offsets));
    CHECK(offsets.get(kQueue) == (reset ? 1 : 2));
    CHECK(queue.take(1).empty());
  }
}

TEST_CASE("overdue messages are found at the head", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  queue.put(messages_at({1, 2, 3}));
  queue.mark_started(messages_at({1, 2}), 1'000);
  CHECK(queue.started_until(999, 16).empty());
  CHECK(queue.started_until(1'000, 16).size() == 2);
  CHECK(queue.started_until(1'000, 1).size() == 1);
}

TEST_CASE("a queue lock is valid for its time", "[client][process_queue]") {
  ProcessQueue queue(kQueue);
  CHECK_FALSE(queue.lock_is_valid(0, 30'000));
  queue.set_locked(true, 100);
  CHECK(queue.lock_is_valid(30'100, 30'000));
  CHECK_FALSE(queue.lock_is_valid(30'101, 30'000));
  queue.set_locked(false, 200);
  CHECK_FALSE(queue.lock_is_valid(201, 30'000));
}

TEST_CASE("an offset store knows what is not persisted", "[client][offsets]") {
  OffsetStore offsets;
  offsets.update(kQueue, 5, true);
  offsets.update(kQueue, 3, true);
  CHECK(offsets.get(kQueue) == 5);
  CHECK(offsets.unpersisted().size() == 1);
  offsets.mark_persisted(kQueue, 5);
  CHECK(offsets.unpersisted().empty());
  offsets.update(kQueue, 3, false);
  CHECK(offsets.unpersisted().at(kQueue) == 3);
  offsets.remove(kQueue);
  CHECK_FALSE(offsets.get(kQueue));
}

TEST_CASE("offsets survive in their file, and in its copy", "[client][offsets]") {
  TemporaryDirectory directory;
  OffsetFile file(directory.path, "127.0.0.1@a", "G");
  CHECK(file.path() == directory.path + "/127.0.0.1@a/G/offsets.json");
  REQUIRE(file.load());
  CHECK(file.load()->empty());
  REQUIRE(file.save({{kQueue, 7}, {{"T", "b-b", 3}, 9}}));
  CHECK(file.load()->at(kQueue) == 7);
  REQUIRE(file.save({{kQueue, 8}}));
  CHECK(*file.load() == std::map<MessageQueue, int64_t>{{kQueue, 8}});
  std::ofstream(file.path()) << "{\"offsetTable\":";  // half a file
  CHECK(file.load()->at(kQueue) == 7);
  std::filesystem::remove(file.path());
  CHECK(file.load()->size() == 2);
  std::ofstream(file.path() + ".bak") << "nothing";
  CHECK_FALSE(file.load());
}

TEST_CASE("the file of offsets is the one that Java clients write", "[client][offsets]") {
  TemporaryDirectory directory;
  OffsetFile file(directory.path, "c", "G");
  std::filesystem::create_directories(directory.path + "/c/G");
  std::ofstream(file.path()) << "{\n\t\"offsetTable\":{{\n\t\t\t\"brokerName\":\"b-a\",\n\t\t\t\"queueId\":0,\n"
                                "\t\t\t\"topic\":\"T\"\n\t\t}:42\n\t}\n}";
  REQUIRE(file.load());
  CHECK(file.load()->at(kQueue) == 42);
}

TEST_CASE("tags are compared by string", "[client][pull]") {
  auto subscription = apogee::remoting::build_tag_subscription("T", " TagA || TagB ", 1);
  REQUIRE(subscription);
  CHECK(apogee::matches_tags(message_at(0, "TagA"), *subscription));
  CHECK(apogee::matches_tags(message_at(0, "TagB"), *subscription));
  CHECK_FALSE(apogee::matches_tags(message_at(0, "TagAB"), *subscription));
  // The same hash as "TagA" would do on the broker only.
  auto collision = apogee::remoting::build_tag_subscription("T", "Aa", 1);
  REQUIRE(collision);
  CHECK_FALSE(apogee::matches_tags(message_at(0, "BB"), *collision));
  auto all = apogee::remoting::build_tag_subscription("T", "*", 1);
  REQUIRE(all);
  CHECK(apogee::matches_tags(message_at(0, ""), *all));
}
