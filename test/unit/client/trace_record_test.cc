#include "client/src/trace_record.h"

#include "test/support/catch.h"

namespace {

using apogee::append_trace_record;
using apogee::decode_trace_records;
using apogee::TraceKind;
using apogee::TraceMessageType;
using apogee::TraceRecord;

}  // namespace

TEST_CASE("trace records are what RocketMQ's clients write", "[client][trace]") {
  TraceRecord record;
  record.time_ms = 1'700'000'000'000;
  record.region = "R";
  record.group = "G";
  record.topic = "T";
  record.msg_id = "ID";
  record.keys = "a b";
  record.store_host = "h:1";
  record.body_bytes = 9;
  record.cost_ms = 3;
  record.type = TraceMessageType::kDelay;
  record.offset_msg_id = "OFF";
  record.success = true;
  std::string body;
  append_trace_record(body, record);
  CHECK(body ==
        "Pub\x01"
        "1700000000000\x01R\x01G\x01T\x01ID\x01null\x01"
        "a b\x01h:1\x01"
        "9\x01"
        "3\x01"
        "3\x01OFF\x01true\x02");
  auto read = decode_trace_records(body);
  REQUIRE(read.size() == 1);
  CHECK(read.front().tags.empty());
  CHECK(read.front().type == TraceMessageType::kDelay);
  CHECK(read.front().success);

  body.clear();
  record.kind = TraceKind::kSubBefore;
  record.request_id = "Q";
  record.retry_times = 2;
  record.keys = "x\x01y\x02z";
  append_trace_record(body, record);
  record.kind = TraceKind::kSubAfter;
  record.keys.clear();
  record.context_code = 4;
  record.success = false;
  append_trace_record(body, record);
  CHECK(body ==
        "SubBefore\x01"
        "1700000000000\x01R\x01G\x01Q\x01ID\x01"
        "2\x01x y z\x02"
        "SubAfter\x01Q\x01ID\x01"
        "3\x01"
        "false\x01null\x01"
        "4\x01"
        "1700000000000\x01G\x02");
  read = decode_trace_records(body);
  REQUIRE(read.size() == 2);
  CHECK(read[0].retry_times == 2);
  CHECK(read[1].context_code == 4);
  CHECK(read[1].group == "G");

  body.clear();
  record.kind = TraceKind::kEndTransaction;
  record.transaction_id = "TX";
  record.transaction_state = "ROLLBACK_MESSAGE";
  record.from_check = true;
  append_trace_record(body, record);
  read = decode_trace_records(body);
  REQUIRE(read.size() == 1);
  CHECK(read.front().transaction_state == "ROLLBACK_MESSAGE");
  CHECK(read.front().from_check);
}

TEST_CASE("trace records of older clients and broken ones are read as far as they go", "[client][trace]") {
  auto read = decode_trace_records(
      "Pub\x01"
      "5\x01R\x01G\x01T\x01ID\x01t\x01k\x01h\x01"
      "1\x01"
      "2\x01"
      "0\x01true\x02");
  REQUIRE(read.size() == 1);
  CHECK(read.front().success);
  CHECK(read.front().offset_msg_id.empty());
  read = decode_trace_records(
      "Pub\x01"
      "5\x01R\x01G\x01T\x01ID\x01t\x01k\x01h\x01"
      "1\x01"
      "2\x01"
      "0\x01O\x01true\x01"
      "1.2.3.4\x02");
  REQUIRE(read.size() == 1);
  CHECK(read.front().client_host == "1.2.3.4");
  read = decode_trace_records(
      "SubBefore\x01"
      "5\x01R\x01G\x01Q\x01ID\x01"
      "0\x01k\x02SubAfter\x01Q\x01ID\x01"
      "7\x01true\x02");
  REQUIRE(read.size() == 2);
  CHECK(read[1].group == "G");
  CHECK(read[1].time_ms == 12);
  CHECK(decode_trace_records("").empty());
  CHECK(decode_trace_records("\x02\x01\x02Recall\x01x\x02").empty());
  CHECK(decode_trace_records("Pub\x02").size() == 1);
  CHECK(decode_trace_records(std::string("Pub\x01") + std::string(100, '9') + "\x01").front().time_ms == 0);
}
