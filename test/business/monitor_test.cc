// What brokers tell monitors, and mqadmin startMonitoring.
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/message/message_record.h"
#include "common/remoting/bodies/event_bodies.h"
#include "test/business/transaction_bench.h"
#include "test/support/raw_requests.h"
#include "test/support/run_program.h"

namespace apogee::test {

using namespace std::chrono_literals;

TEST_CASE("Monitoring: pulls at offsets that do not exist are told, and startMonitoring shows them",
          "[business][monitor]") {
  Cluster cluster;
  cluster.create_topic("Watched", 2);
  RawClient client(cluster.broker_port());
  for (int i = 0; i < 3; ++i) REQUIRE(client.call(send_request({"Watched", 1, "m"}), 60s)->code == 0);
  REQUIRE(eventually([&] { return figure(cluster.broker_port(), "dispatchBehindBytes") == 0; }, 60s));
  auto pulled = [&](int64_t offset) {
    return client.call(pull_request("lost_group", "Watched", 1, offset), 60s)->code;
  };
  CHECK(pulled(3) == 19);   // the end
  CHECK(pulled(77) == 21);  // corrected
  const auto bodies = bodies_of(cluster.broker_port(), "OFFSET_MOVED_EVENT");
  REQUIRE(bodies.size() == 1);
  CHECK(bodies[0] == R"({"consumerGroup":"lost_group","messageQueue":{"brokerName":")" + Cluster::broker_name(0) +
                         R"(","queueId":1,"topic":"Watched"},"offsetNew":3,"offsetRequest":77})");
  const auto event = remoting::decode_offset_moved_event(bodies[0]);
  REQUIRE(event);
  CHECK(event->offset_request == 77);

  nlohmann::json move;
  auto look = [&] {
    auto out =
        run_program("tools/mqadmin", {"startMonitoring", "--json", "-i", "1", "-r", "4", "-n", cluster.namesrv()}, {});
    if (out.exit_code != 0) FAIL(out.err);
    for (auto line : split(out.out, "\n")) {
      auto round = nlohmann::json::parse(line, nullptr, false);
      if (round.is_object() && !round["offsetMoves"].empty()) move = round["offsetMoves"][0];
    }
    return !move.is_null();
  };
  for (int tries = 0; tries < 10 && !look(); ++tries) CHECK(pulled(5'000) == 21);
  REQUIRE(move.is_object());
  CHECK(move["group"] == "lost_group");
  CHECK(move["topic"] == "Watched");
  CHECK(move["queueId"] == 1);
  CHECK(move["offsetNew"] == 3);
  CHECK(move["offsetRequest"].get<int64_t>() >= 77);
  auto text = run_program("tools/mqadmin", {"startMonitoring", "-r", "1", "-n", cluster.namesrv()}, {});
  CHECK(text.exit_code == 0);
}

}  // namespace apogee::test
