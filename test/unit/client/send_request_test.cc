#include "client/src/send_request.h"

#include <algorithm>

#include "client/src/client_instance.h"
#include "client/src/latency_faults.h"
#include "client/src/send_batches.h"
#include "common/message/batch.h"
#include "common/message/compression.h"
#include "common/message/properties.h"
#include "test/support/catch.h"

namespace {

using apogee::Errc;
using apogee::LatencyFaults;
using apogee::Message;
using apogee::MessageQueue;
using apogee::ProducerConfig;

apogee::message::UniqueIdGenerator& ids() {
  static apogee::message::UniqueIdGenerator generator(std::string("\x7f\0\0\x01", 4), 1234, 99);
  return generator;
}

apogee::remoting::TopicRouteData route_data() {
  apogee::remoting::TopicRouteData data;
  data.queue_datas = {{"b-b", 2, 2, 6, 0}, {"b-a", 3, 1, 6, 0}, {"b-c", 1, 1, 4, 0}, {"b-d", 1, 1, 6, 0}};
  data.broker_datas = {{"C", "b-a", {{0, "127.0.0.1:1"}}},
                       {"C", "b-b", {{0, "127.0.0.1:2"}}},
                       {"C", "b-c", {{0, "127.0.0.1:3"}}},
                       {"C", "b-d", {{1, "127.0.0.1:4"}}}};  // a slave alone
  return data;
}

}  // namespace

TEST_CASE("bad messages are refused before anything is sent", "[client][send]") {
  ProducerConfig config;
  config.message_bytes_max = 1'000;
  auto code = [&](const Message& message) {
    auto prepared = apogee::prepare_send(config, ids(), message, "");
    return prepared ? std::string("ok") : std::string(apogee::to_string(prepared.error().code));
  };
  CHECK(code(Message("T", "x")) == "ok");
  CHECK(code(Message("", "x")) == "invalid argument");
  CHECK(code(Message("bad topic!", "x")) == "invalid argument");
  CHECK(code(Message(std::string(128, 't'), "x")) == "invalid argument");
  CHECK(code(Message("T", "")) == "invalid argument");
  CHECK(code(Message("T", std::string(1'000, 'x'))) == "ok");
  CHECK(code(Message("T", std::string(1'001, 'x'))) == "too large");
  CHECK(code(Message("T", "x").set_property("UNIQ_KEY", "mine")) == "invalid argument");
  CHECK(code(Message("T", "x").set_property("DELAY", "3")) == "invalid argument");
  CHECK(code(Message("T", "x").set_property("a\x01", "v")) == "invalid argument");
  CHECK(code(Message("T", "x").set_property("a", "v\x02")) == "invalid argument");
  CHECK(code(Message("T", "x").set_property("a", std::string(40'000, 'v'))) == "too large");
  CHECK(code(Message("T", "x").set_tags("a\x02")) == "invalid argument");
  CHECK(code(Message("T", "x").set_delay_level(INT32_MAX)) == "ok");
  CHECK(code(Message("T", "x").set_delay_level(-1)) == "invalid argument");
  auto delayed = apogee::prepare_send(config, ids(), Message("T", "x").set_delay_level(3), "");
  REQUIRE(delayed);
  CHECK(apogee::message::find_property(delayed->properties, "DELAY") == "3");
  auto batch = apogee::prepare_batches(config, ids(), {Message("T", "x"), Message("T", "y").set_delay_level(1)}, "");
  REQUIRE_FALSE(batch);
  CHECK(batch.error().code == Errc::kInvalidArgument);

  using std::chrono::milliseconds;
  CHECK(code(Message("T", "x").set_deliver_at(-1)) == "invalid argument");
  CHECK(code(Message("T", "x").set_deliver_after(milliseconds(-1))) == "invalid argument");
  CHECK(code(Message("T", "x").set_deliver_at(5).set_delay_level(1)) == "invalid argument");
  CHECK(code(Message("T", "x").set_deliver_after(milliseconds(5)).set_deliver_at(-1).set_deliver_at(5)) == "ok");
  auto timed = apogee::prepare_send(config, ids(), Message("T", "x").set_deliver_at(1'700'000'000'123), "");
  REQUIRE(timed);
  CHECK(timed->deliver_at_ms == 1'700'000'000'123);
  CHECK(apogee::message::find_property(timed->properties, "TIMER_DELIVER_MS") == "1700000000123");
  CHECK_FALSE(apogee::may_be_gathered(*timed));
  auto far = apogee::prepare_send(config, ids(), Message("T", "x").set_deliver_after(milliseconds::max()), "");
  REQUIRE(far);
  CHECK(far->deliver_at_ms == INT64_MAX);
  CHECK_FALSE(apogee::prepare_batches(config, ids(), {Message("T", "x").set_deliver_at(5)}, ""));
}

TEST_CASE("a message is prepared once for all attempts", "[client][send]") {
  ProducerConfig config;
  auto message = Message("T", std::string(5'000, 'x')).set_tags("TagA").set_key_list({"k1", "k2"});
  message.set_property("mine", "value").set_flag(7).set_wait_store_ok(false);
  auto prepared = apogee::prepare_send(config, ids(), message, "order-1");
  REQUIRE(prepared);
  using apogee::message::find_property;
  CHECK(find_property(prepared->properties, "TAGS") == "TagA");
  CHECK(find_property(prepared->properties, "KEYS") == "k1 k2");
  CHECK(find_property(prepared->properties, "mine") == "value");
  CHECK(find_property(prepared->properties, "WAIT") == "false");
  CHECK(find_property(prepared->properties, "__SHARDINGKEY") == "order-1");
  CHECK(find_property(prepared->properties, "UNIQ_KEY") == prepared->unique_id);
  CHECK(prepared->unique_id.size() == 32);
  CHECK(prepared->sys_flag == 0x301);
  CHECK(prepared->body.size() < 100);
  auto plain = apogee::message::decompress(apogee::message::Compression::kZlib, prepared->body.bytes, 10'000);
  REQUIRE(plain);
  CHECK(*plain == message.body());

  const auto request = apogee::make_send_request(*prepared, "P", {"T", "b-a", 2}, 4);
  CHECK(request.request_code() == apogee::remoting::RequestCode::kSendMessageV2);
  CHECK(request.ext.get("a") == "P");
  CHECK(request.ext.get("b") == "T");
  CHECK(request.ext.get("c") == "TBW102");
  CHECK(request.ext.get("e") == "2");
  CHECK(request.ext.get("f") == "769");
  CHECK(request.ext.get("h") == "7");
  CHECK(request.ext.get("m") == "false");
  CHECK(request.ext.get("n") == "b-a");

  config.name_space = "ns";
  prepared = apogee::prepare_send(config, ids(), Message("T", "x"), "");
  REQUIRE(prepared);
  CHECK(prepared->topic == "ns%T");
  CHECK(prepared->sys_flag == 0);
}

TEST_CASE("a batch is one body", "[client][send]") {
  ProducerConfig config;
  auto parts = apogee::prepare_batches(config, ids(), {Message("T", "one").set_tags("A"), Message("T", "two")}, "");
  REQUIRE(parts);
  REQUIRE(parts->size() == 1);
  const auto* prepared = &parts->front();
  auto messages = apogee::message::decode_batch(prepared->body.bytes);
  REQUIRE(messages);
  REQUIRE(messages->size() == 2);
  CHECK((*messages)[0].body == "one");
  CHECK(apogee::message::find_property((*messages)[0].properties, "TAGS") == "A");
  CHECK((*messages)[1].body == "two");
  CHECK(prepared->unique_id.find(',') == 32);
  const auto request = apogee::make_send_request(*prepared, "P", {"T", "b-a", 2}, 4);
  CHECK(request.request_code() == apogee::remoting::RequestCode::kSendBatchMessage);
  CHECK(request.ext.get("m") == "true");

  CHECK_FALSE(apogee::prepare_batches(config, ids(), {}, ""));
  CHECK_FALSE(apogee::prepare_batches(config, ids(), {Message("T", "x"), Message("U", "x")}, ""));
  CHECK_FALSE(
      apogee::prepare_batches(config, ids(), {Message("T", "x"), Message("T", "x").set_wait_store_ok(false)}, ""));
}

TEST_CASE("a batch that is too large becomes several, in order", "[client][send]") {
  ProducerConfig config;
  config.message_bytes_max = 150;
  auto parts = apogee::prepare_batches(config, ids(), {Message("T", "1"), Message("T", "2"), Message("T", "3")}, "");
  REQUIRE(parts);
  REQUIRE(parts->size() == 2);
  CHECK(parts->front().messages == 2);
  CHECK(parts->back().messages == 1);
  CHECK(parts->back().unique_id.size() == 32);
  std::string bodies;
  for (const auto& part : *parts) {
    CHECK(part.body.size() <= 150);
    auto messages = apogee::message::decode_batch(part.body.bytes);
    REQUIRE(messages);
    for (const auto& message : *messages) bodies += message.body;
  }
  CHECK(bodies == "123");
  // A message that does not fit by itself: nothing is prepared.
  auto large = apogee::prepare_batches(config, ids(), {Message("T", "1"), Message("T", std::string(120, 'x'))}, "");
  REQUIRE_FALSE(large);
  CHECK(large.error().code == Errc::kTooLarge);
}

TEST_CASE("a sharding key leads to the queue that Java's hash selector takes", "[client][send]") {
  CHECK(apogee::queue_index_of_key("a", 4) == 97 % 4);
  CHECK(apogee::queue_index_of_key("order-1", 8) == apogee::queue_index_of_key("order-1", 8));
  // "polygenelubricants".hashCode() is Integer.MIN_VALUE
  CHECK(apogee::queue_index_of_key("polygenelubricants", 3) == 2);
  CHECK(apogee::queue_index_of_key("x", 1) == 0);
  CHECK(apogee::queue_index_of_key("x", 0) == 0);
}

TEST_CASE("codes after which another broker is tried", "[client][send]") {
  for (int code : {1, 2, 14, 16, 17, 204, 205, 1500}) CHECK(apogee::is_retryable(code));
  for (int code : {-1, 0, 3, 10, 13, 26, 29}) CHECK_FALSE(apogee::is_retryable(code));
}

TEST_CASE("slow and failing brokers are avoided for a time", "[client][faults]") {
  const std::pair<int64_t, int64_t> table[] = {{0, 0},           {99, 0},          {549, 0},         {550, 2'000},
                                               {1'799, 2'000},   {1'800, 5'000},   {3'000, 6'000},   {5'000, 10'000},
                                               {14'999, 10'000}, {15'000, 30'000}, {100'000, 30'000}};
  for (const auto& [latency, avoid] : table) CHECK(LatencyFaults::avoid_ms_of(latency) == avoid);

  LatencyFaults faults;
  CHECK(faults.is_available("b-a", 0));
  faults.update("b-a", 600, false, 1'000);
  CHECK_FALSE(faults.is_available("b-a", 2'999));
  CHECK(faults.is_available("b-a", 3'000));
  faults.update("b-b", 1, true, 1'000);
  CHECK_FALSE(faults.is_available("b-b", 10'999));
  CHECK(faults.least_bad({"b-a", "b-b"}) == "b-a");
  CHECK(faults.least_bad({"b-b"}) == "b-b");
  CHECK(faults.least_bad({"b-x"}).empty());
  faults.update("b-a", 10, false, 2'000);
  CHECK(faults.is_available("b-a", 2'000));
}

TEST_CASE("the queues of a topic follow its route", "[client][route]") {
  const auto route = apogee::make_topic_route("T", route_data());
  CHECK(route.write_queues == std::vector<MessageQueue>{{"T", "b-a", 0}, {"T", "b-b", 0}, {"T", "b-b", 1}});
  CHECK(route.read_queues.size() == 7);
  CHECK(std::is_sorted(route.read_queues.begin(), route.read_queues.end()));

  auto ordered = route_data();
  ordered.order_topic_conf = "b-b:3;b-a:1";
  CHECK(apogee::make_topic_route("T", ordered).write_queues ==
        std::vector<MessageQueue>{{"T", "b-a", 0}, {"T", "b-b", 0}, {"T", "b-b", 1}, {"T", "b-b", 2}});
}

TEST_CASE("NameServer lists", "[client][config]") {
  CHECK(apogee::parse_name_servers(" a:1 ; b:65535;").value() == std::vector<std::string>{"a:1", "b:65535"});
  for (const char* bad : {"", ";", "host", "host:", "host:0", "host:65536", ":9876", "host:98x"}) {
    CHECK_FALSE(apogee::parse_name_servers(bad));
  }
}

TEST_CASE("namespaces are prefixes", "[client][config]") {
  CHECK(apogee::with_namespace("ns", "T") == "ns%T");
  CHECK(apogee::with_namespace("ns", "ns%T") == "ns%T");
  CHECK(apogee::with_namespace("ns", "%RETRY%G") == "%RETRY%ns%G");
  CHECK(apogee::with_namespace("ns", "TBW102") == "TBW102");
  CHECK(apogee::with_namespace("", "T") == "T");
  CHECK(apogee::without_namespace("ns", "ns%T") == "T");
  CHECK(apogee::without_namespace("ns", "%RETRY%ns%G") == "%RETRY%G");
  CHECK(apogee::without_namespace("ns", "other%T") == "other%T");
}
