#include <fmt/core.h>
#include <malloc.h>

#include "tools/mqbench/store/bench_store.h"

namespace mqbench {

void measure_memory(const StoreBenchOptions& options, Report& report) {
  report.title(
      fmt::format("Memory: {} topics with {} queues each, one message in each queue", options.topics, options.queues));
  ::malloc_trim(0);
  const double anonymous = memory_mib("RssAnon");
  BenchStore bench(options, "memory");
  bench.open();
  const double empty = memory_mib("RssAnon");
  for (int64_t topic = 0; topic < options.topics; ++topic) {
    if (topic % 100 == 0)
      report.step("writing each queue", static_cast<double>(topic) / static_cast<double>(options.topics));
    const auto name = fmt::format("Topic{}", topic);
    for (int64_t queue = 0; queue < options.queues; ++queue)
      bench.append(draft_of(name, static_cast<int32_t>(queue), "body"));
  }
  bench.wait_for_answers();
  bench.wait_until_built(true);
  const double written = memory_mib("RssAnon"), resident = memory_mib("VmRSS");
  const int64_t descriptors = open_descriptors();
  const auto queues = static_cast<double>(options.topics * options.queues);
  report.add({"memory.store", written - anonymous, "MiB", "own memory after each queue was written"});
  report.add({"memory.empty", empty - anonymous, "MiB", "own memory of an empty store"});
  report.add({"memory.per_queue", (written - empty) * 1'024 * 1'024 / queues, "bytes", "own memory for each queue"});
  report.add({"memory.resident", resident, "MiB", "resident in all, with mapped pages of the log"});
  report.add({"memory.descriptors", static_cast<double>(descriptors), "", "open files"});
  bench.stop();
  ::malloc_trim(0);
  report.step("start");
  const double before = memory_mib("RssAnon");
  const double start = bench.open();
  report.add({"memory.restarted", memory_mib("RssAnon") - before, "MiB", "own memory after a restart"});
  report.add({"memory.start", start * 1e3, "ms", "start with all the queues"});
}

}  // namespace mqbench
