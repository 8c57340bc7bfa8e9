// The programs in client/examples as users run them. order_payment has a test of its own, order_flow
// tools/quickstart.sh.
#include "test/integration/sdk_bench.h"
#include "test/support/mqadmin.h"
#include "test/support/run_program.h"

namespace apogee::test {

TEST_CASE("examples do what they say", "[business][examples]") {
  Cluster cluster({"--traceTopicEnable", "true", "--transactionTimeOut", "300", "--transactionCheckInterval", "200"});
  struct Example {
    std::string name, topic, prints;
  };
  for (const auto& [name, topic, prints] : std::vector<Example>{{"quick_producer", "Hello", "SEND_OK"},
                                                                {"pull", "Hello", "number 9"},
                                                                {"quick_consumer", "Hello", ""},
                                                                {"ordered", "Steps", "order 5 shipped"},
                                                                {"transaction", "PaidOrders", "to be shipped: 42"},
                                                                {"request_reply", "PriceRequests", "tea costs 30"},
                                                                {"timers", "Reminders", "at an instant: came after"},
                                                                {"trace", "Traced", "SubAfter by traced_consumer"}}) {
    INFO(name);
    cluster.create_topic(topic, 4);
    const auto ran = run_program("client/" + name, {topic}, {"NAMESRV_ADDR=" + cluster.namesrv()});
    INFO(ran.out << ran.err);
    CHECK(ran.exit_code == 0);
    CHECK(contains(ran.out, prints));
  }
}

}  // namespace apogee::test
