#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/remoting/command_codec.h"
#include "test/support/catch.h"
#include "test/support/raw_client.h"
#include "test/support/sanitizers.h"
#include "test/unit/broker/support/handler_bench.h"

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
using apogee::broker::test::TempDir;

namespace {

struct RunningBroker {
  Logger quiet;
  BrokerConfig config;
  config::ConfigTable table;
  std::unique_ptr<Broker> broker;

  explicit RunningBroker(const std::string& root, store::FlushDiskType flush = store::FlushDiskType::kAsync) {
    add_rows(table, config);
    config.broker_name = "broker-a";
    config.bind_address = config.broker_ip1 = "127.0.0.1";
    config.listen_port = 0;
    config.namesrv_addr.set("");
    config.store_root = root;
    config.commit_log_file_bytes = 64 << 20;
    config.flush_disk_type = flush;
    broker = std::make_unique<Broker>(config, table, "", quiet);
    REQUIRE(broker->start());
  }
};

std::string properties_of(int number) {
  return "UNIQ_KEY\\u00017F0000010A3C18B4AAC2" + std::to_string(100'000'000 + number) +
         "\\u0002WAIT\\u0001true\\u0002TAGS\\u0001TagA\\u0002KEYS\\u0001a \\\"b\\\"\\u0002";
}

struct Wish {
  std::string topic = "Quick";
  std::string properties = properties_of(1);
  std::string queue = "1", sys_flag = "0", batch = "false", more;
  int flag = 0;
};

/// A frame as a Java client writes it; with `unusual` the header has a space more, which the short way leaves to the
/// long one.
std::string frame_of(const Wish& wish, const std::string& body, int opaque, bool unusual) {
  std::string header = std::string(unusual ? "{ " : "{") + "\"code\":310,\"extFields\":{\"a\":\"p\",\"b\":\"" +
                       wish.topic + "\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"" + wish.queue + "\",\"f\":\"" +
                       wish.sys_flag + "\",\"g\":\"1700000000000\",\"h\":\"7\",\"i\":\"" + wish.properties +
                       "\",\"j\":\"0\"" + wish.more + ",\"k\":\"false\",\"m\":\"" + wish.batch +
                       "\"},\"flag\":" + std::to_string(wish.flag) +
                       ",\"language\":\"JAVA\",\"opaque\":" + std::to_string(opaque) +
                       ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":435}";
  std::string frame;
  append_be<uint32_t>(frame, static_cast<uint32_t>(4 + header.size() + body.size()));
  append_be<uint32_t>(frame, static_cast<uint32_t>(header.size()));
  return frame + header + body;
}

std::vector<std::pair<std::string, std::string>> fields_of(const remoting::Command& command) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (size_t i = 0; i < command.ext.size(); ++i) {
    const std::string name(command.ext.name(i));
    if (name != "msgId" && name != "queueOffset") fields.emplace_back(name, command.ext.value(i));
  }
  return fields;
}

remoting::Command pull_of(const Wish& wish, int64_t offset, const char* count_max) {
  remoting::Command pull = remoting::Command::request(remoting::RequestCode::kPullMessage);
  for (auto [name, value] : std::vector<std::pair<const char*, std::string>>{{"consumerGroup", "g"},
                                                                             {"topic", wish.topic},
                                                                             {"queueId", wish.queue},
                                                                             {"queueOffset", std::to_string(offset)},
                                                                             {"maxMsgNums", count_max},
                                                                             {"sysFlag", "6"},
                                                                             {"commitOffset", "0"},
                                                                             {"suspendTimeoutMillis", "15000"},
                                                                             {"subscription", "*"},
                                                                             {"subVersion", "0"}})
    pull.ext.set(name, value);
  return pull;
}

message::RecordView pulled(apogee::test::RawClient& client, const Wish& wish, int64_t offset, remoting::Command& held) {
  auto answer = client.call(pull_of(wish, offset, "1"));
  REQUIRE(answer);
  held = std::move(*answer);
  REQUIRE(held.code == 0);
  auto record = message::decode_record(held.body.bytes);
  REQUIRE(record);
  return *record;
}

void warm(apogee::test::RawClient& client, int messages) {
  for (int i = 0; i < messages; ++i) {
    client.send_bytes(frame_of({}, "warm", i, false));
    auto answer = client.receive();
    REQUIRE(answer);
    REQUIRE(answer->code == 0);
  }
}

}  // namespace

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
    CHECK(answers[0].flag == answers[1].flag);
    CHECK(answers[0].version == answers[1].version);
    CHECK(answers[0].language == answers[1].language);
    auto short_fields = fields_of(answers[0]), long_fields = fields_of(answers[1]);
    if (wish.properties.find("UNIQ_KEY") == std::string::npos) {
      REQUIRE(short_fields.size() == long_fields.size());  // the broker makes a key of its own for each
      continue;
    }
    CHECK(short_fields == long_fields);
    CHECK(answers[0].ext.get("msgId")->size() == answers[1].ext.get("msgId")->size());
    const auto offset = answers[0].ext.get_int<int64_t>("queueOffset").value();
    CHECK(answers[1].ext.get_int<int64_t>("queueOffset") == offset + 1);
    remoting::Command held[2];
    const auto first = pulled(client, wish, offset, held[0]), second = pulled(client, wish, offset + 1, held[1]);
    CHECK(message::body_crc_matches(first));
    CHECK(first.body == second.body);
    CHECK(first.body_crc == second.body_crc);
    CHECK(first.properties == second.properties);
    CHECK(first.topic == second.topic);
    CHECK(first.queue_id == second.queue_id);
    CHECK(first.flag == second.flag);
    CHECK(first.sys_flag == second.sys_flag);
    CHECK(first.born_timestamp_ms == second.born_timestamp_ms);
    CHECK(message::to_string(first.born_host) == message::to_string(second.born_host));
    CHECK(message::to_string(first.store_host) == message::to_string(second.store_host));
    CHECK(first.reconsume_times == second.reconsume_times);
    CHECK(first.magic == second.magic);
  }
}

TEST_CASE("what is wrong with a send is told the same, whichever way it comes", "[quick_send]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  std::vector<Wish> wishes(6);
  wishes[0].queue = "99";
  wishes[1].properties = "no separator";
  wishes[2].topic = "bad topic!";
  wishes[3].sys_flag = "x";
  wishes[4].sys_flag = "8";  // a committed transaction
  wishes[5].properties = properties_of(1) + "DELAY\\u0001x\\u0002";
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
    frames.push_back(frame_of(wish, std::string(1024, 'b'), i, false));
  }
  const int64_t before = io_allocations.load();
  for (const auto& frame : frames) {
    client.send_bytes(frame);
    auto answer = client.receive();
    REQUIRE(answer);
    REQUIRE(answer->code == 0);
  }
  const int64_t taken = io_allocations.load() - before;
  INFO(taken << " allocations for " << kMessages << " messages");
  CHECK(taken <= kMessages / 50);
}

TEST_CASE("pulls that wait and are answered take little memory on the IO loops", "[pull][allocations]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 300);
  Wish wish;
  auto pull = [&](int64_t offset) {
    auto command = pull_of(wish, offset, "32");
    command.opaque = static_cast<int32_t>(offset);
    return remoting::encode_frame_to_string(command);
  };
  constexpr int kWarm = 50, kMessages = 500;
  int64_t before = 0;
  for (int i = 0; i < kWarm + kMessages; ++i) {
    if (i == kWarm) before = io_allocations.load();
    // Of one connection, so that the pull waits before its message comes.
    client.send_bytes(pull(300 + i) + frame_of(wish, std::string(1024, 'b'), 0, false));
    for (int answers = 0; answers < 2; ++answers) {
      auto answer = client.receive();
      REQUIRE(answer);
      REQUIRE(answer->code == 0);
      if (answer->opaque != 0) REQUIRE(answer->ext.get_int<int64_t>("nextBeginOffset") == 301 + i);
    }
  }
  const int64_t taken = io_allocations.load() - before;
  INFO(taken << " allocations for " << kMessages << " pulls that waited");
  CHECK(taken <= kMessages * 20);
}
#endif
