#include <functional>

#include "apogee/admin_client.h"
#include "common/remoting/command_codec.h"
#include "test/compat/remoting/fixture.h"
#include "test/support/catch.h"
#include "test/unit/client/fake_server.h"

// AdminClient against what Apache RocketMQ 4.9.8 said: the requests that it sends are compared with the recorded ones
// of the Java tools, and the recorded answers must be understood.

namespace {

using apogee::AdminClient;
using apogee::MessageQueue;
using apogee::SharedBytes;
using apogee::remoting::Command;
using apogee::test::FakeServer;

Command recorded(const std::string& name, const char* kind) {
  auto bytes = fixture::read_file(fixture::frames_dir() + "json/" + name + "." + kind + ".bin");
  REQUIRE(bytes.size() > apogee::remoting::kFrameLengthBytes);
  auto frame = apogee::remoting::decode_frame(SharedBytes::from(bytes.substr(apogee::remoting::kFrameLengthBytes)));
  REQUIRE(frame);
  return *frame;
}

/// The recorded broker and NameServer in one; addresses in answers become the address of the one that plays.
struct Recorded {
  FakeServer server;
  AdminClient client{config()};

  apogee::AdminConfig config() const {
    apogee::AdminConfig config;
    config.name_servers = server.address();
    return config;
  }
  void play(const std::string& name) {
    auto request = recorded(name, "request");
    auto response = recorded(name, "response");
    std::string body(response.body.bytes);
    const std::string theirs = "127.0.0.1:19911";
    for (size_t at = 0; (at = body.find(theirs, at)) != std::string::npos;) {
      body.replace(at, theirs.size(), server.address());
      at += server.address().size();
    }
    server.on(request.request_code(), [response, body](const Command& asked) {
      Command answer = response;
      answer.opaque = asked.opaque;
      answer.body = SharedBytes::from(body);
      return answer;
    });
  }
  /// The call must ask what the Java tools asked.
  void same_request(const std::string& name, const std::function<void()>& call) {
    INFO(name);
    play(name);
    call();
    auto theirs = recorded(name, "request");
    auto seen = server.seen(theirs.request_code());
    REQUIRE_FALSE(seen.empty());
    const Command& ours = seen.back();
    for (size_t i = 0; i < theirs.ext.size(); ++i) {
      if (theirs.ext.name(i) == "bname") continue;  // servers of this generation ignore it
      INFO(theirs.ext.name(i));
      REQUIRE(ours.ext.get(theirs.ext.name(i)));
      CHECK(*ours.ext.get(theirs.ext.name(i)) == theirs.ext.value(i));
    }
    CHECK(ours.body.bytes == theirs.body.bytes);
  }
};

}  // namespace

TEST_CASE("admin: asks a NameServer as the Java tools do, and understands it", "[admin]") {
  Recorded r;
  auto& client = r.client;
  r.same_request("cluster-info", [&] {
    auto cluster = client.cluster();
    REQUIRE(cluster);
    CHECK(cluster->clusters.at("DefaultCluster") == std::vector<std::string>{"broker-a"});
    CHECK(cluster->brokers.at("broker-a").addresses.at(0) == r.server.address());
  });
  r.same_request("route", [&] {
    auto route = client.topic_route("FxTopic");
    REQUIRE(route);
    REQUIRE(route->queues.size() == 1);
    CHECK(route->queues[0].read_queues == 4);
    CHECK(client.queues_of_topic("FxTopic")->size() == 4);
    CHECK(*client.clusters_of_topic("FxTopic") == std::vector<std::string>{"DefaultCluster"});
  });
  r.same_request("topic-list", [&] { CHECK_FALSE(client.topics()->empty()); });
  r.same_request("topics-by-cluster", [&] { CHECK_FALSE(client.topics_of_cluster("DefaultCluster")->empty()); });
  r.same_request("kv-put", [&] { CHECK(client.put_kv("FX_NAMESPACE", "colour", "blue 蓝")); });
  r.same_request("kv-get", [&] { CHECK(*client.kv("FX_NAMESPACE", "colour") == "blue 蓝"); });
  r.same_request("kv-get-missing",
                 [&] { CHECK(client.kv("FX_NAMESPACE", "absent").error().code == apogee::Errc::kNotFound); });
  r.same_request("kv-list", [&] { CHECK(client.kv_list("FX_NAMESPACE")->count("colour") == 1); });
  r.same_request("kv-delete", [&] { CHECK(client.delete_kv("FX_NAMESPACE", "colour")); });
  r.same_request("order-conf", [&] { CHECK(client.update_order_config("FxOrder", {{"broker-a", 2}}, true)); });
  r.same_request("namesrv-config-get",
                 [&] { CHECK(client.namesrv_config(r.server.address())->at("serverWorkerThreads") == "8"); });
  r.same_request("namesrv-config-update", [&] { CHECK(client.update_namesrv_config("clusterTest", "false")); });
  r.same_request("wipe-write-perm", [&] { CHECK(*client.wipe_write_perm(r.server.address(), "broker-a") > 0); });
  r.same_request("add-write-perm", [&] { CHECK(*client.add_write_perm(r.server.address(), "broker-a") > 0); });
  r.same_request("delete-topic-namesrv",
                 [&] { CHECK(client.delete_topic_on_namesrv("FxWriteOnly", "DefaultCluster")); });
}

TEST_CASE("admin: asks a broker as the Java tools do, and understands it", "[admin]") {
  Recorded r;
  auto& client = r.client;
  const auto address = r.server.address();
  r.play("cluster-info");
  r.play("route");
  r.same_request("create-topic-order", [&] {
    apogee::admin::TopicConfig config;
    config.topic = "FxOrder";
    config.read_queues = config.write_queues = 2;
    config.order = true;
    CHECK(client.create_topic(address, config));
  });
  r.same_request("delete-topic-broker", [&] { CHECK(client.delete_topic_on_broker(address, "FxWriteOnly")); });
  r.same_request("all-topic-config", [&] { CHECK(client.topic_configs(address)->count("FxTopic") == 1); });
  r.same_request("create-group", [&] {
    apogee::admin::GroupConfig config;
    config.group = "fx_group";
    config.retry_times_max = 3;
    CHECK(client.create_group(address, config));
  });
  r.same_request("all-subscription-group", [&] { CHECK(client.groups(address)->at("fx_group").retry_times_max == 3); });
  r.same_request("delete-subscription-group", [&] { CHECK(client.delete_group(address, "fx_disabled", true)); });
  r.same_request("broker-runtime-info",
                 [&] { CHECK(client.broker_runtime_info(address)->at("brokerVersionDesc") == "V4_9_8"); });
  r.same_request("broker-config-get", [&] { CHECK(client.broker_config(address)->at("brokerName") == "broker-a"); });
  r.same_request("topic-stats", [&] {
    auto stats = client.topic_stats("FxTopic");
    REQUIRE(stats);
    CHECK(stats->size() == 4);
  });
  r.same_request("topic-stats-not-exist", [&] {
    auto stats = client.topic_stats("NoSuchTopic");
    REQUIRE_FALSE(stats);
  });
  r.same_request("topic-consume-by-who", [&] { CHECK_FALSE(client.groups_of_topic("FxTopic")->empty()); });
  r.same_request("consume-stats", [&] { CHECK_FALSE(client.group_progress("fx_push")->queues.empty()); });
  r.same_request("consumer-connection", [&] {
    auto group = client.group_clients("fx_push");
    REQUIRE(group);
    CHECK_FALSE(group->clients.empty());
    CHECK(group->consume_type == "CONSUME_PASSIVELY");
  });
  r.same_request("consumer-connection-offline", [&] {
    CHECK(client.group_clients("fx_nobody").error().response_code ==
          apogee::remoting::response_code::kConsumerNotOnline);
  });
  r.same_request("producer-connection",
                 [&] { CHECK_FALSE(client.producer_clients("fx_producer", "FxTopic")->empty()); });
  r.same_request("producer-connection-offline", [&] { CHECK_FALSE(client.producer_clients("fx_nobody", "FxTopic")); });
  r.same_request("consumer-running-info", [&] {
    auto state = client.consumer_state("fx_push", "192.0.2.2@push-1", false);
    REQUIRE(state);
    CHECK(state->properties.count("PROP_CONSUME_TYPE") == 1);
    CHECK_FALSE(state->queues.empty());
  });
  r.same_request("clone-group-offset",
                 [&] { CHECK(client.clone_group_offset("fx_push", "fx_clone", "FxTopic", true)); });
  r.same_request("reset-offset", [&] {
    auto offsets = client.reset_offset_by_time({"fx_push", "FxTopic", 0, true});
    REQUIRE(offsets);
    CHECK(offsets->size() == 4);
  });
}

TEST_CASE("admin: asks about a broker's disk as the Java tools do, and understands it", "[admin]") {
  Recorded r;
  auto& client = r.client;
  const auto address = r.server.address();
  r.same_request("clean-expired-consume-queue", [&] { CHECK(client.clean_expired_queues(address)); });
  r.same_request("clean-unused-topic", [&] { CHECK(client.clean_unused_topics(address)); });
  r.same_request("delete-expired-commitlog", [&] { CHECK(client.delete_expired_log_files(address)); });
  r.same_request("query-consume-queue", [&] {
    auto entries = client.queue_entries(address, {"FxOne", 0, 0, 3, "fx_group"});
    REQUIRE(entries);
    CHECK(entries->min_offset == 0);
    CHECK(entries->max_offset == 7);
    CHECK(entries->filter == "fx_group@FxOne is not online!");
    CHECK_FALSE(entries->subscription);
    REQUIRE(entries->entries.size() == 3);
    CHECK(entries->entries[1].physical_offset == 5534);
    CHECK(entries->entries[1].bytes == 157);
    CHECK(entries->entries[1].tags_code == 2598919);
    CHECK_FALSE(entries->entries[1].matches);
  });
}

TEST_CASE("admin: asks for offsets and messages as the Java tools do, and understands them", "[admin]") {
  Recorded r;
  auto& client = r.client;
  r.play("cluster-info");
  const MessageQueue queue{"FxOne", "broker-a", 0};
  r.same_request("max-offset", [&] { CHECK(*client.max_offset(queue) == 7); });
  r.same_request("min-offset", [&] { CHECK(*client.min_offset(queue) == 0); });
  r.same_request("search-offset", [&] { CHECK(client.offset_by_time(queue, 1795231335441)); });
  r.same_request("earliest-store-time", [&] { CHECK(*client.earliest_message_ms(queue) > 0); });

  apogee::admin::PullRequest pull;
  pull.queue = queue;
  pull.group = "fx_group";
  r.same_request("pull-found", [&] {
    auto pulled = client.pull(pull);
    REQUIRE(pulled);
    CHECK(pulled->messages.size() == 6);
    CHECK(pulled->next_offset == 6);
  });
  pull.queue.topic = "FxOrder";
  r.same_request("pull-empty-queue",
                 [&] { CHECK(client.pull(pull)->status == apogee::admin::PullStatus::kNoNewMessage); });
  pull.queue.topic = "FxOne";
  pull.offset = 1000;
  r.same_request("pull-offset-moved-beyond-end",
                 [&] { CHECK(client.pull(pull)->status == apogee::admin::PullStatus::kOffsetIllegal); });
  pull.offset = 0;
  pull.tags = "NoSuchTag";
  r.same_request("pull-no-tag-match",
                 [&] { CHECK(client.pull(pull)->status == apogee::admin::PullStatus::kNoMatchedMessage); });
  pull.tags = "*";
  pull.queue.queue_id = 9;
  r.same_request("pull-queue-out-of-range", [&] { CHECK_FALSE(client.pull(pull)); });
}
