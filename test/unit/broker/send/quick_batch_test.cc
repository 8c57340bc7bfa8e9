#include <filesystem>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "common/message/batch.h"
#include "common/message/message_id.h"
#include "test/support/raw_requests.h"
#include "test/unit/broker/send/quick_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

namespace {

std::string batch_of(const std::vector<message::BatchMessage>& messages) {
  std::string body;
  for (const auto& message : messages) message::append_batch_message(body, message);
  return body;
}

std::string plain_batch() {
  return batch_of({{1, "first",
                    "UNIQ_KEY\x01"
                    "A1\x02TAGS\x01x\x02"},
                   {0, "", ""},
                   {-3, "third", "KEYS\x01k"}});
}

Wish batch_wish() {
  Wish wish;
  wish.code = 320;
  wish.batch = "true";
  wish.properties = "WAIT\\u0001true";
  return wish;
}

remoting::Command answer_of(apogee::test::RawClient& client, const Wish& wish, const std::string& body, bool unusual) {
  client.send_bytes(frame_of(wish, body, 40, unusual));
  auto answer = client.receive();
  REQUIRE(answer);
  return std::move(*answer);
}

std::vector<std::string> ids_of(const remoting::Command& answer) {
  std::vector<std::string> ids;
  for (auto part : split(*answer.ext.get("msgId"), ",")) ids.emplace_back(part);
  return ids;
}

/// What the broker says of all that was put, as it says it.
std::vector<std::string> figures_of(apogee::test::RawClient& client) {
  auto answer = client.call(remoting::Command::request(remoting::RequestCode::kGetBrokerRuntimeInfo));
  REQUIRE(answer);
  const std::string text(answer->body.bytes);
  std::vector<std::string> kept;
  for (const char* name : {"\"putMessageTimesTotal\"", "\"putMessageSizeTotal\"", "\"msgPutTotalTodayNow\""}) {
    const size_t at = text.find(name);
    REQUIRE(at != std::string::npos);
    kept.push_back(text.substr(at, text.find_first_of(",}", at) - at));
  }
  return kept;
}

struct Variant {
  const char* what;
  Wish wish = batch_wish();
  std::string body = plain_batch();
};

std::vector<Variant> stored_variants() {
  std::vector<Variant> all(12);
  all[0].what = "320 with m";
  all[1].what = "320 without m";
  all[1].wish.batch = "";
  all[2].what = "310 with m";
  all[2].wish.code = 310;
  all[2].wish.batch = "True";
  all[3].what = "320 with m=false: one message, though it looks like many";
  all[3].wish.batch = "false";
  all[3].wish.properties = properties_of(1);
  all[4].what = "no properties of the batch";
  all[4].wish.properties = "";
  all[5].what = "a key of the batch, and it need not wait";
  all[5].wish.properties = properties_of(5) + "WAIT\\u0001false";
  all[6].what = "properties that the broker sets itself";
  all[6].wish.properties = "MSG_REGION\\u0001elsewhere\\u0002TRACE_ON\\u0001x\\u0002";
  all[7].what = "one message";
  all[7].body = batch_of({{7, "alone",
                           "DELAY\x01"
                           "3\x02"}});  // what each says for itself is kept as it is
  all[8].what = "compressed";
  all[8].wish.sys_flag = "1";
  all[9].what = "many";
  std::vector<message::BatchMessage> many(1'000, {0, "body",
                                                  "a\x01"
                                                  "b\x02"});
  all[9].body = batch_of(many);
  all[10].what = "more than the short way takes";
  many.resize(5'000, many[0]);
  all[10].body = batch_of(many);
  all[11].what = "parts of properties that are none";
  all[11].body =
      batch_of({{0, "body", "no separator"}, {0, "b", "\x02\x02"}, {0, std::string_view("\0\xff", 2), "x\x01"}});
  return all;
}

}  // namespace

TEST_CASE("the short way of a batch stores and answers as the long one", "[quick_send][quick_batch]") {
  TempDir dir;
  const auto flush = GENERATE(store::FlushDiskType::kAsync, store::FlushDiskType::kSync);
  RunningBroker running(dir.file("store"), flush);
  apogee::test::RawClient client(running.broker->port());
  REQUIRE(answer_of(client, {}, "the topic comes into being", true).code == 0);
  for (const auto& variant : stored_variants()) {
    INFO(variant.what);
    std::vector<remoting::Command> answers;
    for (bool unusual : {false, true}) answers.push_back(answer_of(client, variant.wish, variant.body, unusual));
    INFO(answers[0].remark.value_or(""));
    REQUIRE(answers[0].code == 0);
    REQUIRE(answers[1].code == 0);
    check_same_head(answers[0], answers[1]);
    CHECK(fields_of(answers[0]) == fields_of(answers[1]));
    const auto first_ids = ids_of(answers[0]), second_ids = ids_of(answers[1]);
    REQUIRE(first_ids.size() == second_ids.size());
    const auto count = static_cast<int64_t>(first_ids.size());
    const auto begin = answers[0].ext.get_int<int64_t>("queueOffset").value();
    CHECK(answers[1].ext.get_int<int64_t>("queueOffset") == begin + count);
    int64_t first_store_time = 0;
    for (int64_t i = 0; i < std::min<int64_t>(count, 20); ++i) {
      remoting::Command held[2];
      const auto first = pulled(client, variant.wish, begin + i, held[0]);
      const auto second = pulled(client, variant.wish, begin + count + i, held[1]);
      CHECK(first.physical_offset ==
            message::decode_offset_message_id(first_ids[static_cast<size_t>(i)])->physical_offset);
      CHECK(first.queue_offset == begin + i);
      check_same_message(first, second);
      if (i == 0) first_store_time = first.store_timestamp_ms;
      CHECK(first.store_timestamp_ms == first_store_time);  // one placement
    }
  }
}

TEST_CASE("batches count the same, whichever way they come", "[quick_send][quick_batch]") {
  std::vector<std::string> figures[2];
  for (bool unusual : {false, true}) {
    TempDir dir;
    RunningBroker running(dir.file("store"));
    apogee::test::RawClient client(running.broker->port());
    REQUIRE(answer_of(client, {}, "the topic comes into being", true).code == 0);
    for (int i = 0; i < 5; ++i) REQUIRE(answer_of(client, batch_wish(), plain_batch(), unusual).code == 0);
    figures[unusual ? 1 : 0] = figures_of(client);
  }
  CHECK(figures[0] == figures[1]);
}

TEST_CASE("what is wrong with a batch is told the same, whichever way it comes", "[quick_send][quick_batch]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  auto patched = [](size_t at, int32_t number) {
    std::string body = plain_batch();
    store_be<int32_t>(body.data() + at, number);
    return body;
  };
  auto patched_short = [](size_t at, int16_t number) {
    std::string body = plain_batch();
    store_be<int16_t>(body.data() + at, number);
    return body;
  };
  const size_t properties_at = 20 + 5;  // of the first message
  std::vector<Variant> variants;
  auto add = [&](const char* what, const std::string& body) -> Wish& {
    variants.push_back({what, batch_wish(), body});
    return variants.back().wish;
  };
  add("empty", "");
  add("shorter than a message", plain_batch().substr(0, 10));
  for (size_t cut : {1, 2, 5, 20, 23, 30}) add("cut", plain_batch().substr(0, plain_batch().size() - cut));
  add("a byte too much", plain_batch() + "x");
  for (int32_t wild : {-1, 0, 21, 23, 1'000'000, INT32_MAX, INT32_MIN}) {
    add("total length", patched(0, wild));
    add("body length", patched(16, wild));
  }
  for (int16_t wild : std::vector<int16_t>{-1, 0, 1, INT16_MAX, INT16_MIN})
    add("properties length", patched_short(properties_at, wild));
  add("properties too long", batch_of({{0, "b", std::string(32'760, 'p')}}));
  add("too large", batch_of({{0, std::string(5 << 20, 'b'), ""}}));
  add("queue", plain_batch()).queue = "99";
  add("no topic", plain_batch()).topic = "bad topic!";
  add("unknown topic", plain_batch()).topic = "%RETRY%nobody";
  add("closed topic", plain_batch()).topic = "SCHEDULE_TOPIC_XXXX";
  add("sys flag", plain_batch()).sys_flag = "x";
  add("committed", plain_batch()).sys_flag = "8";
  add("inner batch", plain_batch()).sys_flag = "128";
  add("delayed", plain_batch()).properties = "DELAY\\u00013";
  add("a timer", plain_batch()).properties = "TIMER_DELAY_SEC\\u00013";
  add("half", plain_batch()).properties = "TRAN_MSG\\u0001true\\u0002PGROUP\\u0001g\\u0002";
  add("no properties", plain_batch()).properties = "no separator";
  add("no number", plain_batch()).queue = "";
  add("zeros of the batch", plain_batch()).properties = zeros_property();
  add("zeros of a message", batch_of({{0, "b", "a\x01" + std::string(512, '\0') + "\x02"}}));
  for (const auto& variant : variants) {
    INFO(variant.what << ", " << variant.body.size() << " bytes");
    std::vector<remoting::Command> answers;
    for (bool unusual : {false, true}) answers.push_back(answer_of(client, variant.wish, variant.body, unusual));
    CHECK(answers[0].code != 0);
    CHECK(answers[0].code == answers[1].code);
    CHECK(answers[0].remark == answers[1].remark);
    CHECK(fields_of(answers[0]) == fields_of(answers[1]));
  }
  // Nothing of them was stored.
  CHECK(answer_of(client, batch_wish(), plain_batch(), false).ext.get_int<int64_t>("queueOffset") == 1);
}

TEST_CASE("what settings refuse is told the same, whichever way it comes", "[quick_send][quick_batch]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  auto read_only = apogee::test::create_topic_request("ReadOnly", 4);
  read_only.ext.set("perm", "4");
  REQUIRE(client.call(std::move(read_only))->code == 0);
  auto both = [&](Wish wish) {
    std::vector<int32_t> codes;
    for (bool batch : {false, true}) {
      wish.code = batch ? 320 : 310;
      wish.batch = batch ? "true" : "false";
      std::vector<remoting::Command> answers;
      for (bool unusual : {false, true})
        answers.push_back(answer_of(client, wish, batch ? plain_batch() : "body", unusual));
      CHECK(answers[0].code == answers[1].code);
      CHECK(answers[0].remark == answers[1].remark);
      CHECK(fields_of(answers[0]) == fields_of(answers[1]));
      codes.push_back(answers[0].code);
    }
    return codes;
  };
  Wish wish;
  wish.topic = "ReadOnly";
  CHECK(both(wish) == std::vector<int32_t>{16, 16});
  wish.topic = "Quick";
  CHECK(both(wish) == std::vector<int32_t>{0, 0});
  running.config.region_id.set("elsewhere");
  running.config.trace_on = !running.config.trace_on;
  CHECK(both(wish) == std::vector<int32_t>{0, 0});
  running.config.permission = 4;
  CHECK(both(wish) == std::vector<int32_t>{0, 0});  // it forbids topics with an order alone
  running.config.permission = 6;
  running.config.message_bytes_max = 20;
  CHECK(both(wish)[1] == 13);
}

TEST_CASE("a store that refuses is told the same, whichever way batches come", "[quick_send][quick_batch]") {
  TempDir dir;
  const auto space = std::filesystem::space(std::filesystem::temp_directory_path());
  if (space.available > space.capacity / 100 * 97) {
    WARN("the disk is nearly empty: skipped");
    return;
  }
  RunningBroker running(dir.file("store"), store::FlushDiskType::kAsync, 1);
  apogee::test::RawClient client(running.broker->port());
  REQUIRE(apogee::test::eventually([&] { return answer_of(client, {}, "body", true).code != 0; }));
  for (const Wish& wish : {Wish{}, batch_wish()}) {
    std::vector<remoting::Command> answers;
    for (bool unusual : {false, true}) answers.push_back(answer_of(client, wish, plain_batch(), unusual));
    CHECK(answers[0].code == remoting::response_code::kServiceNotAvailable);
    CHECK(answers[0].code == answers[1].code);
    CHECK(fields_of(answers[0]) == fields_of(answers[1]));
  }
}

TEST_CASE("batches and messages of one connection keep their order, whichever way they come",
          "[quick_send][quick_batch]") {
  TempDir dir;
  RunningBroker running(dir.file("store"));
  apogee::test::RawClient client(running.broker->port());
  warm(client, 1);
  std::string frames;
  for (int i = 0; i < 120; ++i) {
    Wish wish = i % 4 == 0 ? Wish{} : batch_wish();
    if (i % 7 == 0) wish.flag = remoting::kOnewayFlag;
    frames += frame_of(wish, i % 4 == 0 ? "one" : plain_batch(), i, i % 3 == 0);
  }
  client.send_bytes(frames);
  int64_t next = 1;
  for (int i = 0; i < 120; ++i) {
    const int64_t begin = next;
    next += i % 4 == 0 ? 1 : 3;
    if (i % 7 == 0) continue;
    auto answer = client.receive();
    REQUIRE(answer);
    CHECK(answer->opaque == i);
    CHECK(answer->ext.get_int<int64_t>("queueOffset") == begin);
  }
}

#ifndef APOGEE_UNDER_SANITIZER
TEST_CASE("batches in steady state take no memory on the IO loops", "[quick_send][quick_batch][allocations]") {
  TempDir dir;
  const auto flush = GENERATE(store::FlushDiskType::kAsync, store::FlushDiskType::kSync);
  RunningBroker running(dir.file("store"), flush);
  apogee::test::RawClient client(running.broker->port());
  warm(client, 10);
  const std::string body = batch_of(std::vector<message::BatchMessage>(32, {0, "0123456789",
                                                                            "KEYS\x01"
                                                                            "a\x02"}));
  constexpr int kBatches = 500;
  int64_t before = 0;
  for (int i = -100; i < kBatches; ++i) {
    if (i == 0) before = io_allocations_so_far();
    REQUIRE(answer_of(client, batch_wish(), body, false).code == 0);
  }
  const int64_t taken = io_allocations_so_far() - before;
  INFO(taken << " allocations for " << kBatches << " batches");
  CHECK(taken <= kBatches / 25);
}
#endif

TEST_CASE("what does not fit into a file of the log begins the next one, whichever way it comes",
          "[quick_send][quick_batch]") {
  constexpr int64_t kFileBytes = 64 << 10, kBlankBytes = 8;
  TempDir dir;
  RunningBroker running(dir.file("store"), store::FlushDiskType::kAsync, 100, [](BrokerConfig& config) {
    config.commit_log_file_bytes = kFileBytes;
    config.page_cache_busy_ms = 60'000;  // each file is waited for
  });
  apogee::test::RawClient client(running.broker->port());
  int64_t messages = 0;
  auto place_of = [&](const Wish& wish, const std::string& body, bool unusual) {
    const auto answer = answer_of(client, wish, body, unusual);
    REQUIRE(answer.code == 0);
    const auto ids = ids_of(answer);
    CHECK(answer.ext.get_int<int64_t>("queueOffset") == messages);
    messages += static_cast<int64_t>(ids.size());
    return message::decode_offset_message_id(ids.front())->physical_offset;
  };
  const Wish single, batch = batch_wish();
  place_of(single, "", true);
  const int64_t empty_at = place_of(single, "", false), batch_at = place_of(batch, plain_batch(), false);
  const int64_t empty_bytes = batch_at - empty_at, batch_bytes = place_of(single, "", false) - batch_at;
  std::vector<std::pair<int64_t, std::string>> bodies;  // by their places
  for (const bool is_batch : {false, true}) {
    const int64_t bytes = is_batch ? batch_bytes : empty_bytes;
    for (const int64_t room : {bytes - 1, bytes, bytes + kBlankBytes - 1, bytes + kBlankBytes, bytes + kBlankBytes + 1,
                               2 * bytes + kBlankBytes}) {
      for (const bool unusual : {false, true}) {
        INFO((is_batch ? "batch" : "single") << (unusual ? ", long way, " : ", short way, ") << room - bytes);
        int64_t filler_at = 0;
        do filler_at = place_of(single, "", false) + empty_bytes;
        while (kFileBytes - filler_at % kFileBytes < room + 2 * empty_bytes);
        const int64_t file_end = (filler_at / kFileBytes + 1) * kFileBytes;
        const std::string filler(static_cast<size_t>(file_end - filler_at - room - empty_bytes), 'f');
        REQUIRE(place_of(single, filler, unusual) == filler_at);
        bodies.emplace_back(messages - 1, filler);
        const int64_t at = place_of(is_batch ? batch : single, is_batch ? plain_batch() : "", unusual);
        CHECK(at == (room >= bytes + kBlankBytes ? file_end - room : file_end));
      }
    }
  }
  for (int64_t i = 0; i < messages; ++i) {
    remoting::Command held;
    const auto record = pulled(client, single, i, held);
    CHECK(record.queue_offset == i);
    CHECK(message::body_crc_matches(record));
  }
  for (const auto& [queue_offset, body] : bodies) {
    remoting::Command held;
    CHECK(pulled(client, single, queue_offset, held).body == body);
  }
}
