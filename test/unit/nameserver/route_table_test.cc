#include "nameserver/route_table.h"

#include <atomic>
#include <thread>

#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::nameserver;
using remoting::TopicConfig;

namespace {

TopicConfig topic(const std::string& name, int queues, int perm = 6, int sys_flag = 0) {
  TopicConfig config;
  config.topic_name = name;
  config.read_queue_nums = config.write_queue_nums = queues;
  config.perm = perm;
  config.topic_sys_flag = sys_flag;
  return config;
}

Registration registration(const std::string& name, int64_t id, const std::string& address,
                          std::vector<TopicConfig> topics, int64_t counter = 1) {
  Registration r;
  r.cluster = "C1";
  r.broker_name = name;
  r.broker_address = address;
  r.ha_server_address = address + "0";
  r.broker_id = id;
  r.connection = static_cast<remoting::ConnectionId>(std::hash<std::string>{}(address));
  r.topics.data_version.counter = counter;
  r.topics.data_version.timestamp = 1000;
  for (auto& each : topics) r.topics.topic_config_table[each.topic_name] = each;
  return r;
}

}  // namespace

TEST_CASE("RouteTable: a route has the queues and brokers of a topic", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1.1.1.1:1", {topic("T", 4), topic("A", 1)}), 0));
  REQUIRE(routes.register_broker(registration("b", 0, "2.2.2.2:1", {topic("T", 8), topic("B", 1)}), 0));
  auto route = routes.route("T");
  REQUIRE(route);
  REQUIRE(route->queue_datas.size() == 2);
  REQUIRE(route->broker_datas.size() == 2);
  REQUIRE(route->queue_datas[1].read_queue_nums == 8);
  REQUIRE(route->broker_datas[0].broker_addrs.at(0) == "1.1.1.1:1");
  REQUIRE_FALSE(routes.route("none"));
  REQUIRE(routes.topics() == std::vector<std::string>{"A", "B", "T"});
  auto info = routes.cluster_info();
  REQUIRE(info.cluster_addr_table.at("C1") == std::vector<std::string>{"a", "b"});
  REQUIRE(info.broker_addr_table.at("b").cluster == "C1");
}

TEST_CASE("RouteTable: a registration adds and changes topics, and drops none", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)}), 0));
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("V", 2)}, 2), 0));
  REQUIRE(routes.topics().size() == 3);
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 9), topic("U", 4)}, 3), 0));
  REQUIRE(routes.route("T")->queue_datas[0].read_queue_nums == 9);
  REQUIRE(routes.route("V"));

  auto whole = registration("a", 0, "1:1", {topic("T", 9), topic("U", 4)}, 4);
  whole.delete_missing_topics = true;
  REQUIRE(routes.register_broker(whole, 0));
  REQUIRE_FALSE(routes.route("V"));
  auto one = registration("a", 0, "1:1", {topic("W", 9)}, 5);
  one.delete_missing_topics = true;
  REQUIRE(routes.register_broker(one, 0));
  REQUIRE(routes.topics() == std::vector<std::string>{"T", "U", "W"});
}

TEST_CASE("RouteTable: an unchanged data version leaves changed permissions alone", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4, 4)}), 0));
  REQUIRE(routes.wipe_write_permission("a") == 2);
  REQUIRE(routes.route("T")->queue_datas[0].perm == 4);
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4, 4)}), 0));
  REQUIRE(routes.route("T")->queue_datas[0].perm == 4);
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4, 4)}, 2), 0));
  REQUIRE(routes.route("T")->queue_datas[0].perm == 6);
  REQUIRE(routes.add_write_permission("a") == 2);
  REQUIRE(routes.route("U")->queue_datas[0].perm == 6);
  REQUIRE(routes.wipe_write_permission("unknown") == 0);
}

TEST_CASE("RouteTable: an unknown broker must not begin with one topic", "[routes]") {
  RouteTable routes;
  auto result = routes.register_broker(registration("a", 0, "1:1", {topic("T", 4)}), 0);
  REQUIRE(result.error().code == Errc::kInvalidArgument);
  REQUIRE(routes.cluster_info().broker_addr_table.empty());
}

TEST_CASE("RouteTable: slaves learn their master, and bring no topics", "[routes]") {
  RouteTable routes;
  auto slave_topics = registration("a", 1, "2:1", {topic("S", 4), topic("S2", 4)});
  auto alone = routes.register_broker(slave_topics, 0);
  REQUIRE(alone);
  REQUIRE(alone->master_address.empty());
  REQUIRE(routes.topics().empty());
  REQUIRE(
      routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)}), 0)->master_address.empty());
  auto again = routes.register_broker(slave_topics, 0);
  REQUIRE(again->master_address == "1:1");
  REQUIRE(again->ha_server_address == "1:10");
  REQUIRE(routes.route("T")->broker_datas[0].broker_addrs.size() == 2);
  REQUIRE(routes.members("C1", "a").broker_addrs.size() == 2);
  REQUIRE(routes.members("C2", "a").broker_addrs.empty());
  REQUIRE(routes.unregister_broker("C1", "a", "1:1"));
  REQUIRE(routes.route("T"));  // readable from the slave
}

TEST_CASE("RouteTable: an address that comes with another id leaves the old id", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)}), 0));
  REQUIRE(routes.register_broker(registration("a", 1, "2:1", {}), 0));
  REQUIRE(routes.register_broker(registration("a", 0, "2:1", {topic("T", 4), topic("U", 4)}, 2), 0));
  auto addresses = routes.members("C1", "a").broker_addrs;
  REQUIRE(addresses == std::map<int64_t, std::string>{{0, "2:1"}});
}

TEST_CASE("RouteTable: another broker with an older state version is refused", "[routes]") {
  RouteTable routes;
  auto newer = registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)});
  newer.topics.data_version.state_version = 5;
  REQUIRE(routes.register_broker(newer, 0));
  auto older = registration("a", 0, "9:1", {topic("T", 1), topic("U", 1)});
  older.topics.data_version.state_version = 4;
  REQUIRE_FALSE(routes.register_broker(older, 0).has_value());
  REQUIRE(routes.members("C1", "a").broker_addrs.at(0) == "1:1");
  older.topics.data_version.state_version = 6;
  REQUIRE(routes.register_broker(older, 0).has_value());
  REQUIRE(routes.members("C1", "a").broker_addrs.at(0) == "9:1");
}

TEST_CASE("RouteTable: silent brokers go after 120 s or the time they announced", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)}), 1000));
  auto brief = registration("b", 0, "2:1", {topic("T", 4), topic("V", 4)});
  brief.silence_ms_max = 10'000;
  REQUIRE(routes.register_broker(brief, 1000));
  REQUIRE(routes.remove_silent(11'000).empty());
  auto removed = routes.remove_silent(11'001);
  REQUIRE(removed.size() == 1);
  REQUIRE(removed[0].address == "2:1");
  REQUIRE(removed[0].connection == brief.connection);
  REQUIRE(routes.route("T")->queue_datas.size() == 1);
  REQUIRE_FALSE(routes.route("V"));
  REQUIRE(routes.heard({"C1", "1:1"}, 100'000, std::nullopt));
  REQUIRE(routes.remove_silent(220'000).empty());
  REQUIRE(routes.remove_silent(220'001).size() == 1);
  REQUIRE(routes.cluster_info().cluster_addr_table.empty());
  REQUIRE(routes.topics().empty());
  REQUIRE_FALSE(routes.heard({"C1", "1:1"}, 0, std::nullopt));
}

TEST_CASE("RouteTable: a lost connection drops its brokers, unless they came back by another", "[routes]") {
  RouteTable routes;
  auto first = registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)});
  first.connection = 7;
  REQUIRE(routes.register_broker(first, 0));
  auto second = first;
  second.connection = 8;
  REQUIRE(routes.register_broker(second, 0));
  REQUIRE(routes.remove_by_connection(7).empty());
  REQUIRE(routes.remove_by_connection(0).empty());
  REQUIRE(routes.route("T"));
  REQUIRE(routes.remove_by_connection(8) == std::vector<std::string>{"1:1"});
  REQUIRE_FALSE(routes.route("T"));
}

TEST_CASE("RouteTable: data versions are compared, equal ones are a sign of life", "[routes]") {
  RouteTable routes;
  auto r = registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)});
  REQUIRE(routes.compare_version({"C1", "1:1"}, r.topics.data_version, 0).changed);
  REQUIRE(routes.register_broker(r, 0));
  auto same = routes.compare_version({"C1", "1:1"}, r.topics.data_version, 100'000);
  REQUIRE_FALSE(same.changed);
  REQUIRE(same.known == r.topics.data_version);
  REQUIRE(routes.remove_silent(200'000).empty());
  auto other = r.topics.data_version;
  other.timestamp++;
  REQUIRE(routes.compare_version({"C1", "1:1"}, other, 300'000).changed);
  REQUIRE(routes.remove_silent(300'000).size() == 1);
}

TEST_CASE("RouteTable: topics are deleted in one cluster or everywhere, and registered alone", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)}), 0));
  auto other = registration("b", 0, "2:1", {topic("T", 4), topic("V", 4)});
  other.cluster = "C2";
  REQUIRE(routes.register_broker(other, 0));
  REQUIRE(routes.topics_of_cluster("C2") == std::vector<std::string>{"T", "V"});
  routes.delete_topic("T", "C2");
  REQUIRE(routes.route("T")->queue_datas.size() == 1);
  routes.delete_topic("T", "");
  REQUIRE_FALSE(routes.route("T"));
  routes.delete_topic("T", "C1");

  remoting::QueueData queues;
  queues.broker_name = "a";
  queues.read_queue_nums = queues.write_queue_nums = 3;
  queues.perm = 6;
  REQUIRE(routes.register_topic("N", {queues}));
  REQUIRE(routes.route("N")->queue_datas[0].write_queue_nums == 3);
  queues.broker_name = "nobody";
  REQUIRE(routes.register_topic("N2", {queues}).error().code == Errc::kNotFound);
  REQUIRE_FALSE(routes.route("N2"));
}

TEST_CASE("RouteTable: unit topics are told by their flags", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(
      registration("a", 0, "1:1",
                   {topic("none", 1), topic("unit", 1, 6, 1), topic("sub", 1, 6, 2), topic("both", 1, 6, 3)}),
      0));
  using Names = std::vector<std::string>;
  REQUIRE(routes.unit_topics(RouteTable::UnitKind::kUnit) == Names{"both", "unit"});
  REQUIRE(routes.unit_topics(RouteTable::UnitKind::kUnitSubscription) == Names{"both", "sub"});
  REQUIRE(routes.unit_topics(RouteTable::UnitKind::kUnitSubscriptionOnly) == Names{"sub"});
  auto system = routes.system_topics();
  REQUIRE(system.topics == Names{"C1", "a"});
  REQUIRE(system.broker_address == "1:1");
}

TEST_CASE("RouteTable: reads and registrations may run at once", "[routes]") {
  RouteTable routes;
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 1), topic("U", 1)}), 0));
  std::atomic<bool> end{false};
  std::thread reader([&] {
    while (!end) {
      auto route = routes.route("T");
      if (!route || route->broker_datas.empty()) std::abort();
      if (routes.cluster_info().cluster_addr_table.empty()) std::abort();
    }
  });
  for (int i = 2; i < 300; ++i) {
    auto result = routes.register_broker(registration("a", 0, "1:1", {topic("T", i), topic("U", i)}, i), i);
    REQUIRE(result.has_value());
    REQUIRE(routes.register_broker(registration("b", 0, "2:1", {topic("T", i), topic("W", i)}, i), i).has_value());
    routes.unregister_broker("C1", "b", "2:1");
  }
  end = true;
  reader.join();
}

TEST_CASE("RouteTable: the encoded route is that of the moment, whatever changes", "[routes]") {
  using Form = RouteTable::RouteForm;
  RouteTable routes;
  auto check = [&](const std::string& name) {
    for (bool acting : {false, true}) {
      const auto route = routes.route(name, acting);
      for (Form form : {Form::kStandard, Form::kForOldClients}) {
        for (int again = 0; again < 2; ++again) {
          const auto encoded = routes.encoded_route(name, acting, form);
          REQUIRE(encoded.has_value() == route.has_value());
          if (!route) continue;
          CHECK(encoded->bytes ==
                (form == Form::kStandard ? remoting::encode(*route) : remoting::encode_for_old_clients(*route)));
        }
      }
    }
  };
  auto check_all = [&] {
    for (const char* name : {"T", "U", "V", "none"}) check(name);
  };
  check_all();
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 4), topic("U", 4)}), 0));
  check_all();
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", {topic("T", 8), topic("U", 4)}, 2), 0));
  check_all();
  auto slave = registration("a", 1, "1:2", {topic("T", 8), topic("U", 4)}, 2);
  slave.acting_master = true;
  REQUIRE(routes.register_broker(slave, 0));
  check_all();
  auto master = registration("a", 0, "1:1", {topic("T", 8), topic("U", 4)}, 2);
  master.acting_master = true;
  REQUIRE(routes.register_broker(master, 0));
  check_all();
  CHECK(routes.unregister_broker("C1", "a", "1:1"));
  check_all();
  REQUIRE(routes.register_broker(registration("b", 0, "2:1", {topic("T", 2), topic("V", 1)}), 0));
  check_all();
  CHECK(routes.wipe_write_permission("b") == 2);
  check_all();
  CHECK(routes.add_write_permission("b") == 2);
  check_all();
  remoting::QueueData queues;
  queues.broker_name = "b";
  queues.read_queue_nums = 3;
  REQUIRE(routes.register_topic("U", {queues}));
  check_all();
  routes.delete_topic("T", "C1");
  check_all();
  REQUIRE(routes.register_broker(registration("b", 0, "2:1", {topic("T", 2), topic("V", 1)}, 2), 0));
  check_all();
  routes.delete_topic("V", "");
  check_all();
  CHECK(routes.remove_silent(INT64_MAX).size() == 2);
  check_all();
}

TEST_CASE("RouteTable: a table of many topics goes in between those that are there", "[routes]") {
  RouteTable routes;
  std::vector<TopicConfig> even, all;
  for (int i = 0; i < 1'000; ++i) {
    all.push_back(topic("topic" + std::to_string(i), i % 7 + 1));
    if (i % 2 == 0) even.push_back(all.back());
  }
  REQUIRE(routes.register_broker(registration("a", 0, "1:1", even), 0));
  REQUIRE(routes.topics().size() == even.size());
  REQUIRE(routes.register_broker(registration("b", 0, "2:1", all), 0));
  REQUIRE(routes.topics().size() == all.size());
  for (int i = 0; i < 1'000; ++i) {
    const auto route = routes.route("topic" + std::to_string(i));
    REQUIRE(route);
    CHECK(route->queue_datas.size() == (i % 2 == 0 ? 2 : 1));
    CHECK(route->queue_datas.back().read_queue_nums == i % 7 + 1);
  }
}
