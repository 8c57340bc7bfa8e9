#include <fmt/core.h>

#include <algorithm>

#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "tools/mqbench/store/bench_store.h"

namespace mqbench {

namespace {

struct Run {
  double seconds = 0, cpu = 0, index_thread_cpu = 0;
  int64_t entries = 0;
};

Run append_keyed(const StoreBenchOptions& options, bool index) {
  BenchStore bench(options, "index");
  bench.options.message_index_enabled = index;
  bench.open();
  const std::string body(static_cast<size_t>(options.body_bytes), 'b');
  std::string properties;
  Run run;
  const double cpu = cpu_seconds();
  Stopwatch watch;
  for (int64_t i = 0; i < options.index_messages; ++i) {
    properties.clear();
    apogee::message::append_property(properties, apogee::message::property::kUniqueKey,
                                     fmt::format("7F0000010001{:020X}", i));
    apogee::message::append_property(properties, apogee::message::property::kKeys, fmt::format("order-{}", i));
    auto draft = draft_of("Bench", static_cast<int32_t>(i % 8), body);
    draft.properties = properties;
    bench.append(draft);
  }
  bench.wait_for_answers();
  bench.wait_until_built(index);
  run.seconds = watch.seconds();
  auto figures = bench.store().figures();
  run.entries = figures.index_entries_total;
  bench.stop();  // what is in memory goes to the disk, and counts
  run.cpu = cpu_seconds() - cpu;
  run.index_thread_cpu = static_cast<double>(figures.index_cpu_ns) / 1e9;
  return run;
}

}  // namespace

void measure_index(const StoreBenchOptions& options, Report& report) {
  report.title(fmt::format("Index: {} messages of {} bytes with a unique id and one key each", options.index_messages,
                           options.body_bytes));
  report.step("without an index");
  const Run without = append_keyed(options, false);
  report.step("with the index");
  const Run with = append_keyed(options, true);
  const auto entries = static_cast<double>(with.entries);
  report.add({"index.inserts", entries / with.seconds, "1/s", "entries, until the last one can be found"});
  report.add({"index.inserts_per_cpu", entries / with.index_thread_cpu, "1/s",
              "entries a second of its thread's processor time"});
  report.add({"index.cpu_per_entry", with.index_thread_cpu / entries * 1e9, "ns", "processor time of its thread"});
  report.add({"index.thread_share", with.index_thread_cpu / with.cpu * 100, "%",
              "of the processor time of appends, queues and index"});
  report.add({"index.whole_share", std::max(0.0, with.cpu - without.cpu) / with.cpu * 100, "%",
              "the same with flushes and compactions; no network or broker is in it"});
}

}  // namespace mqbench
