// The commands of mqbench that need servers: each for a moment, and whether it counts and checks what happened.
#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/support/catch.h"
#include "test/support/cluster.h"
#include "test/support/run_program.h"
#include "test/support/wait.h"

namespace apogee::test {
namespace {

struct Bench {
  int exit_code = -1;
  nlohmann::json report;
  std::string err;
  [[nodiscard]] double figure(const std::string& name) const { return report.at("figures").value(name, -1.0); }
};

Bench bench(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--json", "-"});
  const auto ran = run_program("tools/mqbench", arguments, {});
  INFO(ran.out << ran.err);
  Bench result;
  result.exit_code = ran.exit_code;
  result.err = ran.err;
  result.report = nlohmann::json::parse(ran.out, nullptr, false);
  REQUIRE(result.report.is_object());
  return result;
}

std::vector<std::string> with(std::vector<std::string> some, const std::vector<std::string>& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

const std::vector<std::string> kMoment = {"--seconds", "0.3", "--warmup", "0.05"};

/// The beginning of a file: the log has a gigabyte.
std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(1 << 20, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(0, in.gcount())));
  return text;
}

/// The first file of the broker's log.
std::filesystem::path log_file(const Cluster& cluster) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cluster.directory()))
    if (entry.path().filename() == "00000000000000000000" && entry.path().parent_path().filename() == "commitlog")
      return entry.path();
  return {};
}

}  // namespace

TEST_CASE("mqbench produce and consume: what was sent is counted, stored and read", "[integration][mqbench]") {
  Cluster cluster;
  const std::vector<std::string> where{"--broker", cluster.broker(), "--topic", "bench", "--queues", "4"};
  double sent = 0;
  const std::vector<std::vector<std::string>> kinds{
      {"--connections", "4"},
      {"--mode", "async", "--connections", "2", "--window", "16", "--threads", "2"},
      {"--mode", "async", "--connections", "2", "--batch", "8", "--keys", "--unique-key", "--tags", "A,B"},
      {"--binary", "--connections", "2", "--properties", "2", "--body", "4K"},
      {"--rate", "500", "--connections", "4"},
      {"--mode", "one-way", "--connections", "1", "--rate", "2000"}};
  for (const auto& kind : kinds) {
    auto ran = bench(with(with(with({"produce"}, where), with(kMoment, kind)),
                          {"--pid", std::to_string(cluster.broker_process().pid())}));
    INFO(ran.report.dump(2));
    CHECK(ran.exit_code == 0);
    CHECK(ran.report["ok"] == true);
    CHECK(ran.figure("produce.messages") > 0);
    CHECK(ran.figure("produce.failed") == 0);
    CHECK(ran.figure("server.resident") > 1);
    if (ran.report["loads"][0]["openLoop"] == true)
      CHECK(ran.figure("produce.messages") ==
            Approx(ran.report["loads"][0]["intendedRate"].get<double>() * 0.3).margin(1));
    if (kind[1] != "one-way") CHECK(ran.figure("produce.sent") == ran.figure("produce.answered"));
    sent += ran.figure("produce.sent");
  }
  auto consumed =
      bench(with(with({"consume"}, where), {"--expect", fmt::format("{:.0f}", sent), "--pull-connections", "2"}));
  INFO(consumed.report.dump(2));
  CHECK(consumed.exit_code == 0);
  CHECK(consumed.figure("consume.received") == sent);
  for (const char* wrong : {"damaged", "foreign", "twice", "misplaced"})
    CHECK(consumed.figure(std::string("consume.") + wrong) == 0);
  // Through the NameServer, in the other encoding, with a wrong expectation.
  consumed = bench({"consume", "--namesrv", cluster.namesrv(), "--topic", "bench", "--queues", "4", "--binary",
                    "--expect", fmt::format("{:.0f}", sent + 1)});
  CHECK(consumed.exit_code == 1);
  CHECK(consumed.figure("consume.received") == sent);
  CHECK(consumed.report["ok"] == false);
}

TEST_CASE("mqbench produce: ends after as many messages as were asked for, in whole batches",
          "[integration][mqbench]") {
  Cluster cluster;
  const std::vector<std::string> where{"--broker", cluster.broker(), "--topic", "bench", "--queues", "4"};
  auto ran = bench(with(with({"produce"}, where), {"--messages", "301", "--connections", "8", "--threads", "2"}));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("produce.messages") == 301);
  ran = bench(with(with({"produce"}, where), {"--messages", "3", "--batch", "8", "--threads", "2", "--mode", "async"}));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("produce.messages") == 8);
  ran = bench(with(with({"consume"}, where), {"--expect", "309"}));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
}

TEST_CASE("mqbench consume: with a filter it counts what the broker examined", "[integration][mqbench]") {
  Cluster cluster({"--enablePropertyFilter", "true"});
  const std::vector<std::string> where{"--broker", cluster.broker(), "--topic", "bench", "--queues", "2"};
  auto sent = bench(with(with({"produce"}, where), {"--messages", "1000", "--tags", "A,B", "--properties", "1"}));
  REQUIRE(sent.exit_code == 0);
  double received = 0;
  const std::vector<std::vector<std::string>> halves{{"--subscription", "A"}, {"--sql", "TAGS = 'B'"}};
  for (const auto& filter : halves) {
    auto consumed = bench(with(with({"consume"}, where), filter));
    INFO(consumed.report.dump(2));
    CHECK(consumed.exit_code == 0);
    CHECK(consumed.figure("consume.messages") == 1000);
    CHECK(consumed.figure("consume.received") > 0);
    received += consumed.figure("consume.received");
  }
  CHECK(received == 1000);
  auto again = bench(with(with({"consume"}, where), {"--again", "--seconds", "0.3", "--sql", "no_such > 1"}));
  CHECK(again.exit_code == 0);
  CHECK(again.figure("consume.messages") > 1000);
  CHECK(again.figure("consume.received") == 0);
  auto wrong = bench(with(with({"consume"}, where), {"--sql", "price >"}));
  CHECK(wrong.exit_code == 1);
  CHECK(wrong.err.find("the expression ends") != std::string::npos);
}

TEST_CASE("mqbench consume: a damaged body is found", "[integration][mqbench]") {
  Cluster cluster;
  const std::vector<std::string> where{"--broker", cluster.broker(), "--topic", "bench", "--queues", "1"};
  auto sent = bench(with(with({"produce"}, where), with(kMoment, {"--connections", "1", "--body", "200"})));
  REQUIRE(sent.exit_code == 0);
  // Behind the stamp of the first body: the broker does not read there when it answers pulls.
  const auto path = log_file(cluster);
  const auto log = text_of(path);
  const auto stamp = log.find(std::string("1BQM"));
  REQUIRE(stamp != std::string::npos);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(stamp + 150));
    file.put(static_cast<char>(log[stamp + 150] ^ 1));
  }
  auto consumed = bench(with({"consume"}, where));
  INFO(consumed.report.dump(2));
  CHECK(consumed.exit_code == 1);
  CHECK(consumed.figure("consume.damaged") == 1);
  CHECK(consumed.figure("consume.received") == sent.figure("produce.sent"));
  CHECK(consumed.err.find("a damaged body") != std::string::npos);
}

TEST_CASE("mqbench e2e and mixed: everything acknowledged comes, once", "[integration][mqbench]") {
  Cluster cluster;
  const std::vector<std::string> where{"--broker", cluster.broker(), "--topic", "bench", "--queues", "4"};
  const std::vector<std::string> kind = GENERATE(std::vector<std::string>{"--rate", "500", "--threads", "2"},
                                                 std::vector<std::string>{"--rate", "0", "--mode", "async", "--window",
                                                                          "8", "--batch", "4", "--connections", "2"});
  auto ran = bench(with(with({"e2e"}, where), with(kMoment, kind)));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("e2e.messages") > 0);
  CHECK(ran.figure("e2e.messages") == ran.figure("send.messages"));
  CHECK(ran.figure("receive.received") == ran.figure("send.sent"));
  CHECK(ran.figure("receive.twice") == 0);
  ran = bench(with(with({"mixed"}, where), with(kMoment, kind)));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("e2e.messages") == ran.figure("send.messages"));
  CHECK(ran.figure("catch_up.messages") > 0);
  CHECK(ran.figure("catch_up.damaged") == 0);
}

TEST_CASE("mqbench connections: all are opened and none is lost", "[integration][mqbench]") {
  Cluster cluster;
  auto ran = bench(with({"connections", "--broker", cluster.broker(), "--connections", "200", "--heartbeat", "0.5",
                         "--pid", std::to_string(cluster.broker_process().pid())},
                        kMoment));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("connect.messages") == 200);
  CHECK(ran.figure("connect.lost") == 0);
  CHECK(ran.figure("heartbeat.messages") > 0);
  ran = bench(with({"connections", "--broker", cluster.broker(), "--connections", "100", "--sending", "0.1"}, kMoment));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("connect.open") == 90);
  CHECK(ran.figure("produce.connections") == 10);
  CHECK(ran.figure("produce.messages") > 0);
}

TEST_CASE("mqbench route: many topics are registered, asked for and gone again", "[integration][mqbench]") {
  Cluster cluster;
  auto ran = bench(with({"route", "--namesrv", cluster.namesrv(), "--topics", "300", "--registrations", "3",
                         "--connections", "2", "--window", "4"},
                        kMoment));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("register.messages") == 3);
  CHECK(ran.figure("route.messages") > 0);
  ran = bench(with({"route", "--namesrv", cluster.namesrv(), "--topics", "300", "--no-register"}, kMoment));
  CHECK(ran.exit_code == 1);
  CHECK(ran.figure("route.messages") == 0);
}

TEST_CASE("mqbench fsync: each size has its figures, and nothing is left", "[integration][mqbench]") {
  TemporaryDirectory directory, page;
  auto ran = bench(with({"fsync", "--dir", directory.path().string(), "--file-size", "1M", "--seconds", "1.1", "--html",
                         (page.path() / "fsync.html").string()},
                        {}));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("fsync_1k.rate") > 0);
  CHECK(ran.figure("fsync_64k.rate") > 0);
  CHECK(std::filesystem::is_empty(directory.path()));
  CHECK(text_of(page.path() / "fsync.html").find("Throughput over time") != std::string::npos);
}

TEST_CASE("mqbench mapping: cold and warm, over the end of the file, and nothing is left", "[integration][mqbench]") {
  TemporaryDirectory directory;
  std::vector<std::string> arguments = {
      "mapping", "--dir", directory.path().string(), "--file-size", "1M", "--seconds", "0.3", "--sizes", "1K,1000"};
  if (GENERATE(false, true)) arguments.emplace_back("--warm");
  auto ran = bench(with(arguments, {}));
  INFO(ran.report.dump(2));
  CHECK(ran.exit_code == 0);
  CHECK(ran.figure("mapping_1k.messages") > 1'024);
  CHECK(ran.figure("mapping_1000.messages") > 1'024);
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("mqbench: SIGINT ends a run early with its report; the page has the plots", "[integration][mqbench]") {
  Cluster cluster;
  const auto json = cluster.directory() / "report.json", html = cluster.directory() / "report.html";
  Process process("tools/mqbench",
                  {"produce", "--broker", cluster.broker(), "--topic", "bench", "--connections", "2", "--seconds",
                   "600", "--warmup", "0", "--json", json.string(), "--html", html.string()},
                  (cluster.directory() / "mqbench.out").string());
  // It sends: the log holds bodies of mqbench.
  REQUIRE(eventually([&] { return text_of(log_file(cluster)).find("1BQM") != std::string::npos; },
                     std::chrono::seconds(60)));
  process.signal(SIGINT);
  INFO(process.output());
  CHECK(process.wait(std::chrono::seconds(60)) == 0);
  const auto report = nlohmann::json::parse(text_of(json));
  CHECK(report["interrupted"] == true);
  CHECK(report["seconds"].get<double>() < 300);
  CHECK(process.output().find("Interrupted") != std::string::npos);
  const auto page = text_of(html);
  for (const char* text : {"<svg", "Latency by percentile", "latency over time", "p99.999", "</html>"})
    CHECK(page.find(text) != std::string::npos);
  for (const char* outside : {"http://", "https://", "<script", "url("}) CHECK(page.find(outside) == std::string::npos);
}

TEST_CASE("mqbench: what cannot be measured is told", "[integration][mqbench]") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> calls{
      {{"produce", "--broker", "127.0.0.1:1"}, "cannot connect to 127.0.0.1:1"},
      {{"consume"}, "say where"},
      {{"e2e", "--broker", "127.0.0.1:1", "--mode", "one-way"}, "one-way"},
      {{"echo", "--pid", "999999999"}, "there is no process 999999999"},
      {{"echo", "--cpus", "x"}, "not a list"}};
  for (const auto& [arguments, text] : calls) {
    auto ran = run_program("tools/mqbench", arguments, {});
    INFO(text << ": " << ran.out << ran.err);
    CHECK(ran.exit_code == 1);
    CHECK(ran.err.find(text) != std::string::npos);
  }
  for (const char* command : {"produce", "consume", "e2e", "mixed", "connections", "route", "echo", "fsync"}) {
    auto help = run_program("tools/mqbench", {command, "--help"}, {});
    CHECK(help.exit_code == 0);
    CHECK(help.out.find("Examples") != std::string::npos);
  }
}

}  // namespace apogee::test
