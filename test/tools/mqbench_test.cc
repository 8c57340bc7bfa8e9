// The parts of mqbench, and that its open loop is honest.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "common/message/batch.h"
#include "common/remoting/command_codec.h"
#include "test/support/catch.h"
#include "test/support/run_program.h"
#include "tools/mqbench/loads/load.h"
#include "tools/mqbench/measure/schedule.h"
#include "tools/mqbench/wire/frame_builder.h"
#include "tools/mqbench/wire/record_walk.h"
#include "tools/mqbench/wire/stamp.h"

namespace mqbench {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

}  // namespace

TEST_CASE("Histogram: quantiles are right within 0.1 %, from nanoseconds to minutes", "[mqbench]") {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> exponent(0, 11.5);
  std::vector<int64_t> values;
  Histogram histogram;
  for (int i = 0; i < 50'000; ++i) {
    values.push_back(static_cast<int64_t>(std::pow(10, exponent(random))));
    histogram.record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (double share : {0.0001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0}) {
    const auto exact = static_cast<double>(values[static_cast<size_t>(std::ceil(share * 50'000)) - 1]);
    const auto got = static_cast<double>(histogram.quantile(share));
    INFO(share << ": " << exact << " " << got);
    CHECK(std::abs(got - exact) <= exact * 0.001);
  }
  CHECK(histogram.max() == values.back());
  CHECK(histogram.min() == values.front());
  CHECK(histogram.count() == 50'000);
}

TEST_CASE("Histogram: merging is as recording, also of a kept second", "[mqbench]") {
  Histogram one, other, all, from_seconds;
  for (int64_t i = 1; i < 3'000; ++i) {
    (i % 3 == 0 ? one : other).record(i * i * 100);
    all.record(i * i * 100);
  }
  from_seconds.merge(one.sparse());
  from_seconds.merge(other.sparse());
  one.merge(other);
  for (double share : {0.01, 0.5, 0.99, 1.0}) {
    CHECK(one.quantile(share) == all.quantile(share));
    CHECK(std::abs(static_cast<double>(from_seconds.quantile(share) - all.quantile(share))) <=
          0.001 * static_cast<double>(all.quantile(share)));
  }
  CHECK(one.count() == all.count());
  one.clear();
  CHECK(one.count() == 0);
  CHECK(one.sparse().empty());
  CHECK(one.quantile(0.5) == 0);
  one.record(Histogram::kValueMax * 2);
  CHECK(one.max() == Histogram::kValueMax);
}

TEST_CASE("Schedule: who comes late is told the moments that were meant", "[mqbench]") {
  Schedule schedule(1'000, 5 * kSecond);
  int64_t intended = 0;
  CHECK(schedule.open_loop());
  CHECK_FALSE(schedule.take(5 * kSecond - 1, intended));
  // It stood still for 100 ms: a hundred sends are due, each with its own moment.
  int due = 0;
  while (schedule.take(5 * kSecond + 100'000'000 - 1, intended)) {
    CHECK(intended == 5 * kSecond + due * 1'000'000);
    ++due;
  }
  CHECK(due == 100);
  // Shares make up the whole.
  std::vector<int64_t> moments;
  for (uint32_t share = 0; share < 3; ++share) {
    Schedule part(3'000, 0, share, 3);
    while (part.take(9'900'000, intended)) moments.push_back(intended);
  }
  std::sort(moments.begin(), moments.end());
  REQUIRE(moments.size() == 30);
  for (size_t i = 0; i < moments.size(); ++i)
    CHECK(std::abs(moments[i] - static_cast<int64_t>(i) * 1'000'000 / 3) <= 1);
  Schedule closed;
  CHECK(closed.take(77, intended));
  CHECK(intended == 77);
}

TEST_CASE("Recorder: what was meant for the window counts, whenever it was answered", "[mqbench]") {
  Recorder recorder;
  recorder.open({0, 10 * kSecond, 12 * kSecond});
  recorder.record(9 * kSecond, 11 * kSecond, 1, 10);       // warm-up
  recorder.record(10 * kSecond, 10 * kSecond + 5, 2, 20);  // first second
  recorder.record(11 * kSecond, 11 * kSecond + 7, 1, 10);  // second one
  recorder.record(12 * kSecond - 1, 15 * kSecond, 1, 10);  // answered after the end
  recorder.record(12 * kSecond, 12 * kSecond + 1, 1, 10);  // begun after it
  recorder.fail(11 * kSecond, 2, 3);
  recorder.fail(9 * kSecond, 2, 1);
  CHECK(recorder.done() == 6);
  const auto all = recorder.take();
  CHECK(all.messages == 4);
  CHECK(all.frames == 3);
  CHECK(all.bytes == 40);
  CHECK(all.failed.at(2) == 3);
  CHECK(all.latency.max() == 3 * kSecond + 1);
  REQUIRE(all.seconds.size() == 2);
  CHECK(all.seconds[0].messages == 2);
  CHECK(all.seconds[1].messages == 2);
}

TEST_CASE("Stamp: any byte that differs is found", "[mqbench]") {
  const MessageShape shape{.body_bytes = 100};
  auto bodies = build_bodies(shape, 5, "");
  Stamp stamp;
  stamp.run = 5;
  stamp.producer = 3;
  stamp.body_bytes = 100;
  stamp.sequence = 42;
  write_stamp(stamp, bodies.filler_hash, bodies.bytes.data());
  Stamp read;
  CHECK(check_body(bodies.bytes, read) == BodyCheck::kGood);
  CHECK(read.sequence == 42);
  CHECK(read.producer == 3);
  for (size_t at = 4; at < bodies.bytes.size(); ++at) {
    auto damaged = bodies.bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    CHECK(check_body(damaged, read) == BodyCheck::kDamaged);
  }
  CHECK(check_body(bodies.bytes.substr(0, 99), read) == BodyCheck::kDamaged);
  CHECK(check_body("something else that is long enough to be one of ours", read) == BodyCheck::kForeign);
}

TEST_CASE("Frames: what is built and patched is a send that the codec reads", "[mqbench]") {
  MessageShape shape;
  shape.body_bytes = 64;
  shape.keys = shape.unique_key = true;
  shape.properties = 2;
  shape.header = GENERATE(HeaderType::kJson, HeaderType::kBinary);
  shape.batch = GENERATE(size_t{1}, size_t{3});
  const auto bodies = build_bodies(shape, 0xABCDEF01, "A");
  auto head = build_send_head(shape, 0xABCDEF01, "A", "group", "topic", 7, "broker-a", bodies.bytes.size());
  REQUIRE(head.keys_at.size() == (shape.batch == 1 ? 2 : 0));
  REQUIRE(bodies.parts.size() == shape.batch);
  auto& bytes = head.request.bytes;
  patch_opaque(bytes.data(), head.request.opaque_at, shape.header, kOpaqueFirst + 12'345);
  write_digits(bytes.data() + head.born_at, 1'700'000'000'123, 13);
  for (size_t at : head.keys_at) write_hex(bytes.data() + at, 0x1234, kKeyDigits);
  const auto frame = bytes + bodies.bytes;
  CHECK(apogee::load_be<uint32_t>(frame.data()) == frame.size() - 4);
  auto decoded = apogee::remoting::decode_frame(apogee::SharedBytes::from(frame.substr(4)));
  REQUIRE(decoded);
  CHECK(decoded->code == (shape.batch == 1 ? 310 : 320));
  CHECK(decoded->opaque == static_cast<int32_t>(kOpaqueFirst + 12'345));
  const auto field = [&](std::string_view name) { return std::string(decoded->ext.get(name).value_or("none")); };
  CHECK(field("b") == "topic");
  CHECK(field("e") == "7");
  CHECK(field("g") == "1700000000123");
  if (shape.batch == 1) {
    CHECK(field("i") ==
          "p0\x01"
          "0000000000000000\x02p1\x01"
          "0000000000007919\x02KEYS\x01k00000000000000000000"
          "1234\x02"
          "UNIQ_KEY\x01"
          "ABCDEF01000000000000000000001234\x02WAIT\x01true\x02TAGS\x01"
          "A");
  } else {
    CHECK(field("m") == "true");
    for (const auto& part : bodies.parts) CHECK(part.keys_at.size() == 2);
    auto messages = apogee::message::decode_batch(decoded->body.bytes);
    REQUIRE(messages);
    REQUIRE(messages->size() == 3);
    CHECK((*messages)[2].body.size() == 64);
  }
}

TEST_CASE("Answers: code, opaque and offset are found in both encodings", "[mqbench]") {
  Frame frame;
  frame.header =
      R"({"code":0,"extFields":{"suggestWhichBrokerId":"0","nextBeginOffset":"60","maxOffset":"61","minOffset":"49"},)"
      R"("flag":1,"language":"JAVA","opaque":1000001913,"remark":"FOUND","serializeTypeCurrentRPC":"JSON","version":409})";
  Answer answer;
  REQUIRE(scan_answer(frame, true, answer));
  CHECK(answer.code == 0);
  CHECK(answer.opaque == 1'000'001'913);
  CHECK(answer.next_offset == 60);
  CHECK_FALSE(answer.request);
  CHECK(remark_of(frame) == "FOUND");
  frame.header = R"({"opaque": 5, "flag":0, "code": 40})";
  REQUIRE(scan_answer(frame, true, answer));
  CHECK(answer.request);
  CHECK(answer.code == 40);
  frame.header = "{}";
  CHECK_FALSE(scan_answer(frame, false, answer));
  auto request = build_request(HeaderType::kBinary, 21, false, {{"nextBeginOffset", "123"}}, 0);
  frame.type = 1;
  frame.header = std::string_view(request.bytes).substr(8);
  REQUIRE(scan_answer(frame, true, answer));
  CHECK(answer.code == 21);
  CHECK(answer.opaque == kOpaqueFirst);
  CHECK(answer.next_offset == 123);
}

TEST_CASE("Records: the walk finds what the encoder wrote", "[mqbench]") {
  const auto ip = apogee::message::ip_bytes_of(GENERATE("127.0.0.1", "::1"));
  const std::string topic(GENERATE(size_t{5}, size_t{200}), 't');
  apogee::message::RecordFields fields;
  fields.topic = topic;
  fields.queue_id = 3;
  fields.born_host = {ip, 1};
  fields.store_host = {ip, 2};
  fields.body = "the body";
  fields.properties = "K\x01V\x02";
  const auto bytes = apogee::message::encode_record(fields, 77, 1'000);
  const auto with_more = bytes + "more";
  Record record;  // views of it
  REQUIRE(first_record(with_more, record));
  CHECK(record.bytes == bytes.size());
  CHECK(record.queue_offset == 77);
  CHECK(record.queue_id == 3);
  CHECK(record.topic == topic);
  CHECK(record.body == "the body");
  CHECK_FALSE(first_record(std::string_view(bytes).substr(0, bytes.size() - 1), record));
}

TEST_CASE("SequenceSet: what is missing and what comes twice", "[mqbench]") {
  SequenceSet acked, received;
  for (uint64_t i = 0; i < 1'000; ++i) CHECK(acked.add(i));
  for (uint64_t i = 0; i < 1'000; ++i)
    if (i != 500 && i != 999) CHECK(received.add(i));
  CHECK_FALSE(received.add(3));
  CHECK_FALSE(received.add(SequenceSet::kMax));
  CHECK(acked.missing_in(received) == 2);
  CHECK(received.missing_in(acked) == 0);
  CHECK(acked.count() == 1'000);
}

TEST_CASE("mqbench is honest: a server that stalls for 100 ms every second shows p99 >= 90 ms open-loop",
          "[mqbench][honesty]") {
  std::vector<std::string> arguments{"echo", "--stall-ms", "100", "--stall-every-ms", "1000", "--connections",
                                     "4",    "--warmup",   "0",   "--seconds",        "2.3",  "--json",
                                     "-"};
  auto closed = apogee::test::run_program("tools/mqbench", arguments, {});
  arguments.insert(arguments.end(), {"--rate", "2000"});
  auto open = apogee::test::run_program("tools/mqbench", arguments, {});
  INFO(open.out << open.err << closed.err);
  REQUIRE(open.exit_code == 0);
  REQUIRE(closed.exit_code == 0);
  const auto open_report = nlohmann::json::parse(open.out), closed_report = nlohmann::json::parse(closed.out);
  CHECK(open_report["loads"][0]["openLoop"] == true);
  CHECK(closed_report["loads"][0]["openLoop"] == false);
  // The one assertion on time: it is what the tool is for, and a slow machine only adds to it.
  CHECK(open_report["figures"]["echo.p99"].get<double>() >= 90'000);
  CHECK(open_report["figures"]["echo.messages"].get<double>() == 4'600);
  // The same server, asked closed-loop: at most four messages meet each stall, which is why that is not reported.
  CHECK(closed_report["figures"]["echo.max"].get<double>() >= 90'000);
  CHECK(open_report["loads"][0]["intendedRate"] == 2'000);
}

}  // namespace mqbench
