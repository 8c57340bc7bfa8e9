// Rates that a broker allows: the SDK waits, clients of another make are told.
#include "common/remoting/response_code.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
namespace response_code = remoting::response_code;

TEST_CASE("rate limits: sends and pulls beyond them are answered 215, and the SDK loses nothing",
          "[business][limits]") {
  Cluster cluster({"--publishRatePerTopic", "20", "--maxConsumeRate", "20"});
  cluster.create_topic("Limited", 1);

  // Another make: what one second gives, then 215.
  RawClient client(cluster.broker_port());
  int stored = 0, refused = 0;
  for (int i = 0; i < 60; ++i) {
    auto request = send_request({"Limited", 0, "raw"});
    request.opaque = 1'000 + i;
    client.send(request);
  }
  for (int i = 0; i < 60; ++i) {
    auto answer = client.receive();
    REQUIRE(answer);
    if (answer->code == 0) {
      ++stored;
      continue;
    }
    ++refused;
    CHECK(answer->code == response_code::kFlowControl);
    CHECK(answer->remark.value_or("").find("topic Limited: publishRatePerTopic allows 20 messages per second") !=
          std::string::npos);
  }
  CHECK(stored >= 20);
  CHECK(refused > 0);

  // This one: every send comes through, later.
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  std::vector<std::future<Result<SendReceipt>>> sends;
  for (int i = 0; i < 40; ++i) sends.push_back(producer.send_future(Message("Limited", "sdk" + std::to_string(i))));
  for (auto& send : sends) {
    auto receipt = send.get();
    if (!receipt) FAIL(receipt.error().message);
  }
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(cluster, "limited", "c"), "Limited", "*", seen);
  CHECK(eventually([&] { return seen.count() >= static_cast<size_t>(stored) + 40; }, 60s));
  CHECK(seen.count() == static_cast<size_t>(stored) + 40);

  // A pull right behind one that took more than a second gives.
  auto pull = pull_request("raw_limited", "Limited", 0, 0);
  auto answer = client.call(pull);
  REQUIRE(answer);
  CHECK(answer->code == 0);
  bool told = false;
  for (int i = 0; i < 20 && !told; ++i) {
    answer = client.call(pull);
    REQUIRE(answer);
    told = answer->code == response_code::kFlowControl &&
           answer->remark.value_or("").find("group raw_limited: maxConsumeRate allows 20") != std::string::npos;
  }
  CHECK(told);
}

}  // namespace apogee::test
