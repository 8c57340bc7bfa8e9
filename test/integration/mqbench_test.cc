#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "test/support/catch.h"
#include "test/support/run_program.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {
namespace {

Ran run_small(const std::string& directory, std::vector<std::string> more) {
  std::vector<std::string> arguments{
      "store", "--dir",           directory, "--seconds",        "0.05", "--body",       "100", "--append-size",
      "1M",    "--senders",       "1,16",    "--store-size",     "2M",   "--store-body", "1K",  "--recover-size",
      "1M",    "--log-file-size", "1M",      "--index-messages", "500",  "--topics",     "20",  "--queues",
      "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program("tools/mqbench", arguments, {});
}

const std::vector<std::string> kFigures = {
    "memory.store",          "memory.empty",        "memory.per_queue",   "memory.resident",   "memory.descriptors",
    "memory.restarted",      "memory.start",        "append.rate",        "append.messages",   "append.memcpy_memory",
    "append.memcpy_file",    "append.ratio_memory", "append.ratio_file",  "sync.1.rate",       "sync.1.bare",
    "sync.1.ratio",          "sync.16.rate",        "sync.16.bare",       "sync.16.ratio",     "index.inserts",
    "index.inserts_per_cpu", "index.cpu_per_entry", "index.thread_share", "index.whole_share", "start.store",
    "start.clean",           "start.clean_cold",    "recover.store",      "recover.crash",     "recover.queues_lost"};

}  // namespace

TEST_CASE("mqbench store: every figure is printed, as JSON and for people, and nothing is left",
          "[integration][mqbench]") {
  TemporaryDirectory directory;
  const bool json = GENERATE(true, false);
  auto ran =
      run_small(directory.path().string(), json ? std::vector<std::string>{"--json"} : std::vector<std::string>{});
  INFO(ran.out << ran.err);
  REQUIRE(ran.exit_code == 0);
  CHECK(std::filesystem::is_empty(directory.path()));
  if (json) {
    auto figures = nlohmann::json::parse(ran.out);
    CHECK(figures.size() == kFigures.size());
    for (const auto& name : kFigures) {
      INFO(name);
      REQUIRE(figures.contains(name));
      CHECK(figures[name]["value"].is_number());
      CHECK(figures[name]["about"].get<std::string>().size() > 3);
    }
    for (const char* name : {"append.rate", "append.ratio_file", "sync.16.ratio", "index.inserts", "recover.crash"})
      CHECK(figures[name]["value"].get<double>() > 0);
  } else {
    for (const auto& name : kFigures) CHECK(ran.out.find("  " + name + " ") != std::string::npos);
  }
}

TEST_CASE("mqbench: --help teaches, and a wrong call is told", "[integration][mqbench]") {
  auto help = run_program("tools/mqbench", {"store", "--help"}, {});
  CHECK(help.exit_code == 0);
  for (const char* text : {"--only", "--senders", "Examples", "append.*", "sync.N.*"})
    CHECK(help.out.find(text) != std::string::npos);
  CHECK(run_program("tools/mqbench", {"store", "--only", "nothing"}, {}).exit_code != 0);
  CHECK(run_program("tools/mqbench", {}, {}).exit_code != 0);
}

}  // namespace apogee::test
