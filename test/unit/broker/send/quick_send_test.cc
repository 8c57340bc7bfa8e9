#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "common/message/batch.h"
#include "common/message/properties.h"
#include "test/unit/broker/send/quick_bench.h"

// Counts what the threads of the IO loops ask for, in all of this program. The sanitizers have operators of their own.
#ifndef APOGEE_UNDER_SANITIZER
namespace {

std::atomic<int64_t> io_allocations{0};

bool is_io_thread() {
  thread_local int known = -1;
  if (known < 0) {
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    known = std::strncmp(name, "io-", 3) == 0 && std::strcmp(name, "io-accept") != 0 ? 1 : 0;
    if (std::strncmp(name, "io-", 3) != 0 && known == 0) known = -1;  // it may get its name yet
  }
  return known == 1;
}

}  // namespace

int64_t apogee::broker::test::io_allocations_so_far() { return io_allocations.load(); }

void* operator new(size_t bytes) {
  if (is_io_thread()) io_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

TEST_CASE("the short way of a send stores and answers as the long one", "[quick_send]") {
  TempDir dir;
  const auto flush = GENERATE(store::FlushDiskType::kAsync, store::FlushDiskType::kSync);
  RunningBroker running(dir.file("store"), flush);
  apogee::test::RawClient client(running.broker->port());
  client.send_bytes(frame_of({}, "the topic comes into being", 1, true));
  REQUIRE(client.receive());

  std::vector<Wish> wishes(8);
  wishes[1].properties = properties_of(2) + "A\\u0001\\u00e4\\u0002";  // an escape of the long way only
  wishes[2].properties = "TAGS\\u0001x";                               // no key, no separator at the end
  wishes[3].properties = properties_of(3) + "MSG_REGION\\u0001elsewhere\\u0002";
  wishes[4].properties = properties_of(4) + "WAIT\\u0001false\\u0002UNIQ_KEY\\u0001another\\u0002LAST\\u00011";
  wishes[5].sys_flag = "1";
  wishes[6].more = ",\"l\":\"3\",\"unknown\":\"field\"";
  wishes[7].queue = "0";
  for (const auto& wish : wishes) {
    INFO(wish.properties);
    std::vector<remoting::Command> answers;
    for (bool unusual : {false, true}) {
      client.send_bytes(frame_of(wish, "body of it", 40, unusual));
      auto answer = client.receive();
      REQUIRE(answer);
      REQUIRE(answer->code == 0);
      answers.push_back(std::move(*answer));
    }
    CHECK(answers[0].opaque == 40);
    check_same_head(answers[0], answers[1]);
    auto short_fields = fields_of(answers[0]), long_fields = fields_of(answers[1]);
    if (wish.properties.find("UNIQ_KEY") == std::string::npos) {
      // The broker makes a key of its own for each.
      REQUIRE(short_fields.size() == long_fields.size());
      for (auto* fields : {&short_fields, &long_fields})
        std::erase_if(*fields, [](const auto& field) { return field.first == "transactionId"; });
      CHECK(short_fields == long_fields);
      std::string stored[2];
      for (size_t i : {0, 1}) {
        remoting::Command held;
        const auto record = pulled(client, wish, answers[i].ext.get_int<int64_t>("queueOffset").value(), held);
        const auto key = answers[i].ext.get("transactionId").value();
        CHECK(key.size() == 32);
        CHECK(message::find_property(record.properties, "UNIQ_KEY") == key);
        stored[i] = record.properties;
        stored[i].replace(stored[i].find(key), key.size(), "key");
      }
      CHECK(answers[0].ext.get("transactionId") != answers[1].ext.get("transactionId"));
      CHECK(stored[0] == stored[1]);
      continue;
    }
    CHECK(short_fields == long_fields);
    CHECK(answers[0].ext.get("msgId")->size() == answers[1].ext.get("msgId")->size());
    const auto offset = answers[0].ext.get_int<int64_t>("queueOffset").value();
    CHECK(answers[1].ext.get_int<int64_t>("queueOffset") == offset + 1);
    remoting::Command held[2];
    const auto first = pulled(client, wish, offset, held[0]), second = pulled(client, wish, offset + 1, held[1]);
    check_same_message(first, second);
  }
}

TEST_CASE("sends with binary headers are stored and answered the same, whichever way they come", "[quick_send]") {
  TempDir dir;
  const auto flush = GENERATE(store::FlushDiskType::kAsync, store::FlushDiskType::kSync);
  RunningBroker running(dir.file("store"), flush);
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  std::string two;
  for (const char* text : {"first", "second"}) message::append_batch_message(two, {1, text, "TAGS\x01x"});
  struct Variant {
    Wish wish;
    std::string properties, body;
  };
  std::vector<Variant> variants(5, {{},
                                    "UNIQ_KEY\x01"
                                    "A1\x02TAGS\x01"
                                    "back\\slash \"x\"",
                                    "body"});
  variants[1].wish.code = 320;
  variants[1].wish.batch = "";
  variants[1].body = two;
  variants[2] = variants[1];
  variants[2].properties = "";
  variants[3].wish.queue = "99";
  variants[4].wish.sys_flag = "";
  for (const auto& variant : variants) {
    std::vector<remoting::Command> answers;
    for (bool unusual : {false, true}) {
      client.send_bytes(binary_frame_of(variant.wish, variant.properties, variant.body, -5, unusual));
      auto answer = client.receive();
      REQUIRE(answer);
      answers.push_back(std::move(*answer));
    }
    CHECK(answers[0].opaque == -5);
    CHECK(answers[0].serialize == remoting::SerializeType::kRocketMq);
    check_same_head(answers[0], answers[1]);
    CHECK(fields_of(answers[0]) == fields_of(answers[1]));
    if (answers[0].code != 0) continue;
    CHECK(answers[0].ext.get("msgId")->size() == answers[1].ext.get("msgId")->size());
    remoting::Command held[2];
    const auto first = pulled(client, variant.wish, answers[0].ext.get_int<int64_t>("queueOffset").value(), held[0]);
    const auto second = pulled(client, variant.wish, answers[1].ext.get_int<int64_t>("queueOffset").value(), held[1]);
    check_same_message(first, second);
  }
}

TEST_CASE("what is wrong with a send is told the same, whichever way it comes", "[quick_send]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  std::vector<Wish> wishes(7);
  wishes[0].queue = "99";
  wishes[1].properties = "no separator";
  wishes[2].topic = "bad topic!";
  wishes[3].sys_flag = "x";
  wishes[4].sys_flag = "8";  // a committed transaction
  wishes[5].properties = properties_of(1) + "DELAY\\u0001x\\u0002";
  wishes[6].properties = zeros_property();
  for (const auto& wish : wishes) {
    std::vector<remoting::Command> answers;
    for (bool unusual : {false, true}) {
      client.send_bytes(frame_of(wish, "body", 3, unusual));
      auto answer = client.receive();
      REQUIRE(answer);
      answers.push_back(std::move(*answer));
    }
    CHECK(answers[0].code != 0);
    CHECK(answers[0].code == answers[1].code);
    CHECK(answers[0].remark == answers[1].remark);
  }
}

TEST_CASE("sends that are answered one way or another keep their order", "[quick_send]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  std::string frames;
  for (int i = 0; i < 200; ++i) {
    Wish wish;
    if (i % 7 == 0) wish.flag = remoting::kOnewayFlag;
    frames += frame_of(wish, std::string(static_cast<size_t>(i) * 97, 'x'), i, i % 3 == 0);
  }
  client.send_bytes(frames);
  int64_t last = -1;
  for (int i = 0; i < 200; ++i) {
    if (i % 7 == 0) continue;
    auto answer = client.receive();
    REQUIRE(answer);
    CHECK(answer->opaque == i);
    const auto offset = answer->ext.get_int<int64_t>("queueOffset").value();
    CHECK(offset > last);
    last = offset;
  }
  CHECK(last == 200);
}

#ifndef APOGEE_UNDER_SANITIZER
TEST_CASE("sends in steady state take no memory on the IO loops", "[quick_send][allocations]") {
  TempDir dir;
  const auto flush = GENERATE(store::FlushDiskType::kAsync, store::FlushDiskType::kSync);
  RunningBroker running(dir.file("store"), flush);
  apogee::test::RawClient client(running.broker->port());
  warm(client, 300);
  constexpr int kMessages = 1'000;
  std::vector<std::string> frames;
  for (int i = 0; i < kMessages; ++i) {
    Wish wish;
    wish.properties = properties_of(i);
    if (i % 3 == 1) wish.properties = "TAGS\\u0001x";  // without a key
    frames.push_back(i % 3 == 2 ? binary_frame_of(wish, "TAGS\x01x", std::string(1024, 'b'), i, false)
                                : frame_of(wish, std::string(1024, 'b'), i, false));
  }
  const int64_t before = io_allocations_so_far();
  for (const auto& frame : frames) {
    client.send_bytes(frame);
    auto answer = client.receive();
    REQUIRE(answer);
    REQUIRE(answer->code == 0);
  }
  const int64_t taken = io_allocations_so_far() - before;
  INFO(taken << " allocations for " << kMessages << " messages");
  CHECK(taken <= kMessages / 50);
}

TEST_CASE("pulls that wait and are answered take no memory on the IO loops", "[pull][allocations]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 300);
  Wish wish;
  {
    remoting::Command held;
    (void)pulled(client, wish, 299, held);
  }
  auto pull = [&](int64_t offset) {
    auto command = pull_of(wish, offset, "32");
    command.opaque = static_cast<int32_t>(offset);
    return remoting::encode_frame_to_string(command);
  };
  constexpr int kWarm = 50, kMessages = 500;
  int64_t before = 0;
  for (int i = 0; i < kWarm + kMessages; ++i) {
    if (i == kWarm) before = io_allocations_so_far();
    // Of one connection, so that the pull waits before its message comes.
    client.send_bytes(pull(300 + i) + frame_of(wish, std::string(1024, 'b'), 0, false));
    for (int answers = 0; answers < 2; ++answers) {
      auto answer = client.receive();
      REQUIRE(answer);
      REQUIRE(answer->code == 0);
      if (answer->opaque != 0) REQUIRE(answer->ext.get_int<int64_t>("nextBeginOffset") == 301 + i);
    }
  }
  const int64_t taken = io_allocations_so_far() - before;
  INFO(taken << " allocations for " << kMessages << " pulls that waited");
  CHECK(taken <= kMessages / 5);
}
#endif
