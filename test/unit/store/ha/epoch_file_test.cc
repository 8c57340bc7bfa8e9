#include "store/ha/epoch_file.h"

#include "test/support/catch.h"
#include "test/support/memory_file_system.h"
#include "test/unit/store/fault_file_system.h"

namespace apogee::store {

namespace {

const char* const kPath = "/store/epochFileCheckpoint";

struct Bench {
  test::MemoryFileSystem memory;
  FaultFileSystem files{memory};
  std::vector<std::string> lines;
  Logger logger{[this](LogLevel, std::string_view line) { lines.emplace_back(line); }};
  Bench() { REQUIRE(io::make_durable_directories(memory, "/store")); }
};

using Epochs = std::vector<Epoch>;

}  // namespace

TEST_CASE("Epochs: the file is Apache RocketMQ's", "[store][ha][epoch]") {
  Bench bench;
  EpochFile file(kPath, bench.files, bench.logger);
  REQUIRE(file.load());
  CHECK(file.all().empty());
  CHECK_FALSE(file.last());
  REQUIRE(file.append({7, 7'000}));
  REQUIRE(file.append({8, 8'000}));
  // The example in that project's own description of the format.
  CHECK(bench.memory.content(kPath) == "2\n773307083\n7-7000\n8-8000\n");
  CHECK(bench.memory.content(std::string(kPath) + ".bak").substr(0, 2) == "1\n");
  EpochFile again(kPath, bench.files, bench.logger);
  REQUIRE(again.load());
  CHECK(again.all() == Epochs{{7, 7'000}, {8, 8'000}});
}

TEST_CASE("Epochs: a file without a checksum, or with the line ends of another system, is read", "[store][ha][epoch]") {
  Bench bench;
  bench.memory.set_content(kPath, "2\r\n0\r\n7-7000\r\n8-8000\r\n");
  EpochFile file(kPath, bench.files, bench.logger);
  REQUIRE(file.load());
  CHECK(file.all() == Epochs{{7, 7'000}, {8, 8'000}});
}

TEST_CASE("Epochs: damage is told, and the backup stands in", "[store][ha][epoch]") {
  Bench bench;
  const char* damaged =
      GENERATE("", "2\n773307083\n7-7000\n8-8001\n", "3\n0\n7-7000\n8-8000\n", "2\n0\n8-8000\n7-9000\n",
               "1\n0\n-7-7000\n", "1\n0\n7-\n", "x\n0\n", "1\n0\n99999999999-1\n");
  bench.memory.set_content(kPath, damaged);
  SECTION("with a backup") {
    bench.memory.set_content(std::string(kPath) + ".bak", "1\n0\n7-7000\n");
    EpochFile file(kPath, bench.files, bench.logger);
    REQUIRE(file.load());
    CHECK(file.all() == Epochs{{7, 7'000}});
    CHECK(bench.lines.size() == 1);
  }
  SECTION("without one") {
    EpochFile file(kPath, bench.files, bench.logger);
    auto loaded = file.load();
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().code == Errc::kCorrupt);
  }
}

TEST_CASE("Epochs: a master's starts, and a slave's cut", "[store][ha][epoch]") {
  Bench bench;
  EpochFile file(kPath, bench.files, bench.logger);
  REQUIRE(file.begin_next(0));
  REQUIRE(file.begin_next(0));  // nothing was written meanwhile
  CHECK(file.all() == Epochs{{2, 0}});
  REQUIRE(file.begin_next(100));
  REQUIRE(file.begin_next(300));
  CHECK(file.all() == Epochs{{2, 0}, {3, 100}, {4, 300}});
  CHECK(file.of(0) == Epoch{2, 0});
  CHECK(file.of(99) == Epoch{2, 0});
  CHECK(file.of(100) == Epoch{3, 100});
  CHECK(file.of(5'000) == Epoch{4, 300});
  REQUIRE(file.append({4, 300}));
  CHECK_FALSE(file.append({4, 400}));
  CHECK_FALSE(file.append({5, 200}));
  REQUIRE(file.append({6, 300}));
  CHECK(file.last() == Epoch{6, 300});
  REQUIRE(file.forget_before(100));
  CHECK(file.all() == Epochs{{3, 100}, {6, 300}});
  REQUIRE(file.forget_before(250));
  CHECK(file.all() == Epochs{{3, 100}, {6, 300}});
  CHECK_FALSE(file.of(50));
  REQUIRE(file.truncate_to(301));
  CHECK(file.all().size() == 2);
  REQUIRE(file.truncate_to(300));
  CHECK(file.all() == Epochs{{3, 100}});
  REQUIRE(file.begin_next(40));  // the log has lost more than its last epoch
  CHECK(file.all() == Epochs{{4, 40}});
}

TEST_CASE("Epochs: whatever fails, and whenever the power does, the epochs are the old or the new ones",
          "[store][ha][epoch]") {
  const Epochs before{{1, 0}, {2, 100}}, after{{1, 0}, {2, 100}, {3, 200}};
  const bool power = GENERATE(false, true);
  for (int64_t call = 0; call < 12; ++call) {
    Bench bench;
    EpochFile file(kPath, bench.files, bench.logger);
    REQUIRE(file.append(before[0]));
    REQUIRE(file.append(before[1]));
    if (power) {
      bench.memory.plan_loss(bench.memory.calls() + call, static_cast<uint64_t>(call));
    } else {
      bench.files.fail_after(call, 1, Errc::kDiskFull);
    }
    auto done = file.append(after[2]);
    CHECK(file.all() == (done ? after : before));
    auto losses = bench.memory.take_losses();
    io::FileSystem& left = losses.empty() ? static_cast<io::FileSystem&>(bench.memory) : *losses[0].image;
    EpochFile again(kPath, left, bench.logger);
    REQUIRE(again.load());
    CHECK((again.all() == before || again.all() == after));
    if (!power && done) CHECK(again.all() == after);
    if (!done) {
      bench.files.allow_all();
      REQUIRE(file.append(after[2]));
      CHECK(file.all() == after);
    }
  }
}

TEST_CASE("Epochs: where two logs part", "[store][ha][epoch]") {
  using End = std::optional<LogOffset>;
  const Epochs master{{1, 0}, {2, 100}, {4, 300}};
  CHECK(common_end({{1, 0}, {2, 100}, {4, 300}}, 350, master, 400) == End(350));
  CHECK(common_end({{1, 0}, {2, 100}, {4, 300}}, 450, master, 400) == End(400));  // ahead of its master
  CHECK(common_end({{1, 0}, {2, 100}}, 250, master, 400) == End(250));
  CHECK(common_end({{1, 0}, {2, 100}}, 380, master, 400) == End(300));            // wrote on as the old master
  CHECK(common_end({{1, 0}, {2, 100}, {3, 320}}, 380, master, 400) == End(300));  // another master's epoch
  CHECK(common_end({{1, 0}, {2, 150}, {4, 310}}, 380, master, 400) == End(100));
  CHECK(common_end({{5, 0}}, 380, master, 400) == std::nullopt);
  CHECK(common_end({}, 0, master, 400) == std::nullopt);
  CHECK(common_end(master, 400, {}, 0) == std::nullopt);
}

}  // namespace apogee::store
