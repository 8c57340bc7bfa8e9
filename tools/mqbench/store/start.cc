#include <fmt/core.h>

#include <fstream>
#include <stdexcept>

#include "tools/mqbench/store/bench_store.h"

namespace mqbench {

namespace fs = std::filesystem;

namespace {

constexpr double kGiB = 1LL << 30;
constexpr int64_t kStepEvery = 8'192;

/// Fills a store with messages in a hundred queues and stops it. Returns the bytes of its log.
int64_t build(BenchStore& bench, int64_t bytes, int64_t body_bytes, Report& report) {
  constexpr int kQueues = 100;
  bench.open();
  const std::string body(static_cast<size_t>(body_bytes), 'b');
  const int64_t count = std::max<int64_t>(1, bytes / record_bytes_of(draft_of("Bench", 0, body)));
  for (int64_t i = 0; i < count; ++i) {
    if (i % kStepEvery == 0) report.step("building a store", static_cast<double>(i) / static_cast<double>(count));
    bench.append(draft_of("Bench", static_cast<int32_t>(i % kQueues), body));
  }
  bench.wait_for_answers();
  bench.wait_until_built(true);
  const int64_t end = bench.store().figures().log_max_offset;
  bench.stop();
  return end;
}

void check_end(BenchStore& bench, int64_t end) {
  const int64_t found = bench.store().figures().log_max_offset;
  if (found != end) throw std::runtime_error(fmt::format("the log ends at {}, it ended at {}", found, end));
}

void measure_clean_start(const StoreBenchOptions& options, Report& report) {
  BenchStore bench(options, "start");
  const int64_t end = build(bench, options.store_bytes, options.store_body_bytes, report);
  report.step("clean start");
  const double warm = bench.open();
  check_end(bench, end);
  bench.stop();
  drop_from_cache(bench.options.root_dir);
  const double cold = bench.open();
  check_end(bench, end);
  bench.stop();
  report.add({"start.store", static_cast<double>(end) / kGiB, "GiB", "bytes in the log of the store"});
  report.add({"start.clean", warm * 1e3, "ms", "start after a stop", 1'000.0, true});
  report.add({"start.clean_cold", cold * 1e3, "ms", "the same with nothing in the page cache"});
}

void measure_recovery(const StoreBenchOptions& options, Report& report) {
  BenchStore bench(options, "recover");
  const int64_t end = build(bench, options.recover_bytes, options.store_body_bytes, report);
  const fs::path root = bench.options.root_dir;
  // What a kill leaves, and no checkpoint: so the whole log is walked.
  auto crash = [&] {
    std::ofstream(root / "abort") << "1";
    fs::remove(root / "checkpoint");
  };
  crash();
  report.step("crash recovery");
  const double recovered = bench.open();
  check_end(bench, end);
  bench.stop();
  crash();
  fs::remove_all(root / "consumequeue");
  const double rebuilt = bench.open();
  check_end(bench, end);
  bench.stop();
  const double gib = static_cast<double>(end) / kGiB;
  report.add({"recover.store", gib, "GiB", "walked from its first to its last record"});
  report.add({"recover.crash", recovered * 1e3 / gib, "ms/GiB", "start after a crash, nothing trusted"});
  report.add({"recover.queues_lost", rebuilt * 1e3 / gib, "ms/GiB", "the same with all queues built again"});
}

}  // namespace

void measure_start(const StoreBenchOptions& options, Report& report) {
  report.title(fmt::format("Start: bodies of {} bytes in 100 queues", options.store_body_bytes));
  measure_clean_start(options, report);
  measure_recovery(options, report);
}

}  // namespace mqbench
