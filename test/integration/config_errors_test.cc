// What the programs say about settings that they cannot take, and about what they take but do not need.
#include <fstream>

#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/run_program.h"

namespace apogee::test {
namespace {

constexpr const char* kBroker = "broker/mqbroker";
constexpr const char* kNameServer = "nameserver/mqnamesrv";

/// A place for the files of a program that runs only until it knows its settings, or as long as the test.
struct Place {
  TemporaryDirectory directory;

  [[nodiscard]] std::string path(const std::string& name) const { return (directory.path() / name).string(); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(path(name)) << text;
    return path(name);
  }
  [[nodiscard]] Ran run(const std::string& program, const std::vector<std::string>& arguments) const {
    return run_program(program, arguments, {"HOME=" + directory.path().string()});
  }
  /// Options that start a broker on free ports, with its store and its log here.
  [[nodiscard]] std::vector<std::string> broker(std::vector<std::string> more) const {
    std::vector<std::string> all{"--listenPort",
                                 "0",
                                 "--bindAddress",
                                 "127.0.0.1",
                                 "--storePathRootDir",
                                 path("store"),
                                 "--brokerIP1",
                                 "127.0.0.1",
                                 "--logDir",
                                 path("logs"),
                                 "--brokerName",
                                 "broker-a",
                                 "--mappedFileSizeCommitLog",
                                 "1048576"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  [[nodiscard]] std::string log(const std::string& name) const {
    std::ifstream in(path("logs/" + name));
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A bad line in a file, or a bad option, and what is said about it.
struct Bad {
  const char* key;
  const char* value;
  const char* said;
};

const std::vector<Bad> kBadOfBroker = {
    {"flushDiskTyp", "SYNC_FLUSH", "did you mean \"flushDiskType\"?"},
    {"ListenPorts", "10911", "did you mean \"listenPort\"?"},
    {"defaultTopicQueueNum", "8", "did you mean \"defaultTopicQueueNums\"?"},
    {"zzzzzzzzzzzz", "1", "unknown key \"zzzzzzzzzzzz\""},
    {"listenPort", "1091l", "listenPort: \"1091l\" is not a whole number"},
    {"listenPort", "70000", "listenPort: 70000 is out of range (0..65534)"},
    {"fileReservedTime", "", "fileReservedTime: \"\" is not a whole number"},
    {"autoCreateTopicEnable", "yes", "autoCreateTopicEnable: \"yes\" is neither true nor false"},
    {"flushDiskType", "SYNC", "flushDiskType: \"SYNC\" is not one of ASYNC_FLUSH, SYNC_FLUSH"},
    {"brokerRole", "MASTER", "brokerRole: \"MASTER\" is not one of ASYNC_MASTER, SYNC_MASTER, SLAVE"},
    {"deleteWhen", "25", "deleteWhen: \"25\": hours from 00 to 23 are wanted"},
};

const std::vector<Bad> kBadOfNameServer = {
    {"listnPort", "9876", "did you mean \"listenPort\"?"},
    {"kvConfigPth", "/tmp/kv", "did you mean \"kvConfigPath\"?"},
    {"listenPort", "port", "listenPort: \"port\" is not a whole number"},
    {"listenPort", "-1", "listenPort: -1 is out of range (0..65535)"},
    {"orderMessageEnable", "1", "orderMessageEnable: \"1\" is neither true nor false"},
    {"logLevel", "LOUD", "logLevel: \"LOUD\" is not one of DEBUG, INFO, WARN, ERROR, OFF"},
};

void check_bad(const std::string& program, const std::vector<Bad>& table) {
  Place place;
  for (const auto& bad : table) {
    const auto file =
        place.file("bad.conf", std::string("# settings\n\nlogLevel = INFO\n") + bad.key + "=" + bad.value + "\n");
    auto in_file = place.run(program, {"-c", file});
    INFO(bad.key << "=" << bad.value << ": " << in_file.err);
    CHECK(in_file.exit_code == 1);
    CHECK(has(in_file.err, file + ":4: "));
    CHECK(has(in_file.err, bad.key));
    CHECK(has(in_file.err, bad.said));
    auto option = place.run(program, {std::string("--") + bad.key, bad.value});
    INFO("as option: " << option.err);
    CHECK(option.exit_code == 1);
    CHECK(has(option.err, std::string("--") + bad.key));
    std::string said = bad.said;
    if (auto mean = said.find("mean \""); mean != std::string::npos) said = "did you mean --" + said.substr(mean + 6);
    if (said.back() == '?') said = said.substr(0, said.size() - 2) + "?";
    if (!has(said, "unknown key")) CHECK(has(option.err, said));
    CHECK_FALSE(std::filesystem::exists(place.path("store")));
  }
}

}  // namespace

TEST_CASE("Settings: a bad line or option stops mqbroker, and is named", "[integration][config]") {
  check_bad(kBroker, kBadOfBroker);
}

TEST_CASE("Settings: a bad line or option stops mqnamesrv, and is named", "[integration][config]") {
  check_bad(kNameServer, kBadOfNameServer);
}

TEST_CASE("Settings: a file that is not there, or no properties file", "[integration][config]") {
  Place place;
  for (const char* program : {kBroker, kNameServer}) {
    auto missing = place.run(program, {"-c", place.path("nowhere.conf")});
    INFO(missing.err);
    CHECK(missing.exit_code == 1);
    CHECK(has(missing.err, place.path("nowhere.conf")));
    CHECK(has(missing.err, "No such file or directory"));
    auto nothing = place.run(program, {"-c"});
    CHECK(nothing.exit_code == 1);
    CHECK(has(nothing.err, "--configFile needs a value"));
    auto stray = place.run(program, {"start"});
    CHECK(stray.exit_code == 1);
    CHECK(has(stray.err, "unexpected argument \"start\""));
    auto escaped = place.run(program, {"-c", place.file("escape.conf", "logLevel=INFO\nlogDir=\\u12zz\n")});
    INFO(escaped.err);
    CHECK(escaped.exit_code == 1);
    CHECK(has(escaped.err, "escape.conf:2: "));
  }
}

TEST_CASE("Settings: -p, -m and --help print, and start nothing", "[integration][config]") {
  Place place;
  const auto broker_file = place.file("b.conf", "brokerName=from-file\nfileReservedTime=48\nlistenPort=11911\n");
  for (const char* option : {"-p", "-m"}) {
    auto ran = place.run(kBroker, {option, "-c", broker_file, "--listenPort", "12911", "-n", "10.0.0.1:9876"});
    INFO(ran.out << ran.err);
    CHECK(ran.exit_code == 0);
    CHECK(has(ran.out, "brokerName=from-file\n"));
    CHECK(has(ran.out, "fileReservedTime=48\n"));
    CHECK(has(ran.out, "listenPort=12911\n"));  // the command line wins
    CHECK(has(ran.out, "namesrvAddr=10.0.0.1:9876\n"));
    CHECK(has(ran.out, "flushDiskType=ASYNC_FLUSH\n"));
    CHECK(has(ran.out, "rebalanceLockMaxLiveTime=60000\n") == (option == std::string("-p")));
  }
  auto names = place.run(kNameServer, {"-p", "-c", place.file("n.conf", "listenPort=19876\n"), "--logLevel", "warn"});
  CHECK(names.exit_code == 0);
  CHECK(has(names.out, "listenPort=19876\n"));
  CHECK(has(names.out, "logLevel=WARN\n"));
  CHECK(has(names.out, "logDir=" + place.path("logs/apogeemq") + "\n"));
  CHECK(has(place.run(kBroker, {"-p"}).out, "logDir=" + place.path("logs/apogeemq") + "\n"));
  auto important = place.run(kNameServer, {"-m"});
  CHECK(important.exit_code == 0);
  CHECK(has(important.out, "listenPort=9876\n"));
  CHECK_FALSE(has(important.out, "frameBytesMax"));
  for (const char* program : {kBroker, kNameServer}) {
    for (const char* option : {"--help", "-h"}) {
      auto help = place.run(program, {option});
      CHECK(help.exit_code == 0);
      CHECK(help.err.empty());
      for (const char* part : {"Usage: ", "-c, --configFile FILE", "--listenPort", "Default", "Examples:"})
        CHECK(has(help.out, part));
    }
  }
  CHECK_FALSE(std::filesystem::exists(place.path("store")));
  CHECK_FALSE(std::filesystem::exists(place.path("logs")));
}

TEST_CASE("Settings: files of Apache RocketMQ 4.9 are taken as they are", "[integration][config]") {
  Place place;
  const auto names_file =
      place.file("namesrv.conf", "rocketmqHome=/opt/rocketmq-4.9.8\nkvConfigPath=" + place.path("kv.json") +
                                     "\nconfigStorePath=" + place.path("namesrv.properties") +
                                     "\nproductEnvName=center\nclusterTest=false\norderMessageEnable=true\n"
                                     "listenPort=9876\nserverWorkerThreads=8\nserverCallbackExecutorThreads=0\n"
                                     "serverSelectorThreads=3\nserverOnewaySemaphoreValue=256\n"
                                     "serverAsyncSemaphoreValue=64\nserverChannelMaxIdleTimeSeconds=120\n"
                                     "serverSocketSndBufSize=65535\nserverSocketRcvBufSize=65535\n"
                                     "serverPooledByteBufAllocatorEnable=true\nuseEpollNativeSelector=false\n");
  Process names(kNameServer,
                {"-c", names_file, "--listenPort", "0", "--bindAddress", "127.0.0.1", "--logDir", place.path("logs")},
                place.path("names.out"));
  const bool names_up = names.wait_for_output("boot success");
  INFO(names.output());
  REQUIRE(names_up);
  REQUIRE(names.terminate() == 0);
  for (const char* key : {"productEnvName", "clusterTest", "serverSelectorThreads", "useEpollNativeSelector"})
    CHECK(has(place.log("namesrv.log"), std::string("the setting ") + key + " is accepted but has no effect here"));
  CHECK_FALSE(has(place.log("namesrv.log"), "orderMessageEnable is accepted"));

  const auto broker_file = place.file(
      "broker.conf",
      "# Licensed to the Apache Software Foundation (ASF)\nbrokerClusterName = DefaultCluster\nbrokerName = broker-a\n"
      "brokerId = 0\ndeleteWhen = 04\nfileReservedTime = 48\nbrokerRole = ASYNC_MASTER\nflushDiskType = ASYNC_FLUSH\n"
      "namesrvAddr=127.0.0.1:9876\nautoCreateTopicEnable=false\nsendMessageThreadPoolNums=16\n"
      "pullMessageThreadPoolNums=24\nuseReentrantLockWhenPutMessage=true\nwaitTimeMillsInSendQueue=500\n"
      "storePathConsumeQueue=/opt/store/consumequeue\nstorePathIndex=/opt/store/index\nmaxMessageSize=65536\n"
      "slaveReadEnable=true\nmessageDelayLevel=1s 5s 10s\ntransferMsgByHeap=true\nfastFailIfNoBufferInStorePool=true\n"
      "mapedFileSizeCommitLog=1073741824\nstoreCheckpoint=/opt/store/checkpoint\nabortFile=/opt/store/abort\n"
      "haSendHeartbeatInterval=5000\nmaxIndexNum=20000000\nmaxHashSlotNum=5000000\n");
  Process broker(kBroker, place.broker({"-c", broker_file, "--namesrvAddr", ""}), place.path("broker.out"));
  const bool up = broker.wait_for_output("boot success");
  INFO(broker.output());
  REQUIRE(up);
  REQUIRE(broker.terminate() == 0);
  const auto log = place.log("broker.log");
  for (const char* key : {"sendMessageThreadPoolNums", "useReentrantLockWhenPutMessage", "waitTimeMillsInSendQueue",
                          "maxHashSlotNum", "transferMsgByHeap", "storePathIndex"})
    CHECK(has(log, std::string("the setting ") + key + " is accepted but has no effect here"));
  CHECK_FALSE(has(log, "fileReservedTime is accepted"));
  auto typo = place.run(kBroker, {"-p", "-c", place.file("typo.conf", "sendMessageThreadPoolNum=16\n")});
  CHECK(typo.exit_code == 1);
  CHECK(has(typo.err,
            "typo.conf:1: unknown key \"sendMessageThreadPoolNum\"; did you mean "
            "\"sendMessageThreadPoolNums\"?"));
}

TEST_CASE("Settings: a taken port and a store in use are named", "[integration][config]") {
  Cluster cluster;
  Place place;
  const auto port = std::to_string(cluster.broker_port());
  auto taken = place.run(kBroker, place.broker({"--listenPort", port}));
  INFO(taken.err);
  CHECK(taken.exit_code == 1);
  CHECK(has(taken.err, ":" + port));
  CHECK(has(taken.err, "in use"));
  const auto names_port = std::to_string(cluster.namesrv_port());
  auto names = place.run(kNameServer, {"--bindAddress", "127.0.0.1", "--listenPort", names_port, "--logDir", ""});
  INFO(names.err);
  CHECK(names.exit_code == 1);
  CHECK(has(names.err, ":" + names_port));
  CHECK(has(names.err, "in use"));

  const auto store = (cluster.directory() / "store").string();
  auto second = place.run(kBroker, place.broker({"--storePathRootDir", store}));
  INFO(second.err);
  CHECK(second.exit_code == 1);
  CHECK(has(second.err, store));
  CHECK(has(second.err, "process " + std::to_string(cluster.broker_process().pid())));
  CHECK(RawClient(cluster.broker_port()).call(remoting::Command::request(remoting::RequestCode::kGetBrokerConfig)));
}

TEST_CASE("Settings: what would lose messages or clients is refused, with what to do", "[integration][config]") {
  Place place;
  auto refused = [&](std::vector<std::string> options) {
    auto ran = place.run(kBroker, place.broker(std::move(options)));
    CHECK(ran.exit_code == 1);
    return ran.err;
  };
  auto slave = refused({"--brokerRole", "SLAVE"});
  INFO(slave);
  CHECK(has(slave, "brokerRole=SLAVE"));
  CHECK(has(slave, "from 1 on"));
  auto loopback = refused({"-n", "10.0.0.1:9876", "--brokerIP1", "127.0.0.1"});
  INFO(loopback);
  CHECK(has(loopback, "brokerIP1"));
  CHECK(has(loopback, "10.0.0.1:9876"));
  CHECK(has(loopback, "set brokerIP1 to an address of this machine"));
  CHECK(has(refused({"--brokerIP1", "somewhere"}), "brokerIP1: somewhere is no IP address"));
  CHECK(has(refused({"--enableDLegerCommitLog", "true"}), "enableDLegerCommitLog=true"));
  CHECK(has(refused({"--aclEnable", "true"}), "no access control"));
  CHECK(has(refused({"--brokerName", "no spaces"}), "brokerName: "));
  CHECK(has(refused({"--listenPort", "2"}), "listenPort: at least 3"));
}

}  // namespace apogee::test
