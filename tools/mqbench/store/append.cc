#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tools/mqbench/store/bench_store.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace {

constexpr int64_t kCeilingBytes = 256 << 20;
constexpr int64_t kLookEvery = 256;  // records between two looks at the clock
constexpr int kRounds = 2;

struct Amount {
  double bytes = 0, seconds = 0;
  void add(const Amount& other) {
    bytes += other.bytes;
    seconds += other.seconds;
  }
  [[nodiscard]] double mb_per_s() const { return bytes / seconds / 1e6; }
};

/// Copies the record again and again, one place after the other.
Amount copy_into(char* to, int64_t room, const std::string& record, double seconds, bool again_from_front) {
  const auto bytes = static_cast<int64_t>(record.size());
  int64_t at = 0, copied = 0;
  Stopwatch watch;
  double spent = 0;
  for (int64_t i = 0;; ++i) {
    if (i % kLookEvery == 0 && (spent = watch.seconds()) >= seconds) break;
    if (at + bytes > room) {
      if (!again_from_front) break;
      at = 0;
    }
    std::memcpy(to + at, record.data(), record.size());
    at += bytes;
    copied += bytes;
  }
  return {static_cast<double>(copied), watch.seconds()};
}

Amount append_to_store(const StoreBenchOptions& options, const std::string& body, double seconds) {
  BenchStore bench(options, "append");
  bench.options.message_index_enabled = false;
  bench.open();
  const auto draft = draft_of("Bench", 0, body);
  const int64_t bytes = record_bytes_of(draft), count_max = options.append_bytes / bytes;
  Stopwatch watch;
  int64_t count = 0;
  for (; count < count_max; ++count) {
    if (count % kLookEvery == 0 && watch.seconds() >= seconds) break;
    bench.append(draft);
  }
  bench.wait_for_answers();
  return {static_cast<double>(count * bytes), watch.seconds()};
}

}  // namespace

void measure_append(const StoreBenchOptions& options, Report& report) {
  report.title(
      fmt::format("Appends: one thread, bodies of {} bytes, ASYNC_FLUSH, queues built beside", options.body_bytes));
  const std::string body(static_cast<size_t>(options.body_bytes), 'b');
  const std::string record(static_cast<size_t>(record_bytes_of(draft_of("Bench", 0, body))), 'r');
  const double part = options.seconds / kRounds;
  const int64_t room = std::max(static_cast<int64_t>(record.size()), std::min(kCeilingBytes, options.append_bytes));
  std::vector<char> memory(static_cast<size_t>(room), 'm');
  Amount in_memory, in_file, appended;
  // In turns, so that a machine that changes its pace does it for all.
  for (int round = 0; round < kRounds; ++round) {
    report.step("memcpy", static_cast<double>(round) / kRounds);
    in_memory.add(copy_into(memory.data(), room, record, std::min(part, 1.0), true));
    {
      PreparedFile file(options.directory / "ceiling", std::max(room, options.append_bytes / kRounds), Pages::kPresent);
      in_file.add(copy_into(file.data(), file.bytes(), record, part, false));
    }
    report.step("append", (round + 0.5) / kRounds);
    appended.add(append_to_store(options, body, part));
  }
  const double rate = appended.mb_per_s();
  report.add({"append.rate", rate, "MB/s", "appended to the store"});
  report.add({"append.messages", appended.bytes / static_cast<double>(record.size()) / appended.seconds, "1/s",
              "messages a second"});
  report.add({"append.memcpy_memory", in_memory.mb_per_s(), "MB/s", "memcpy of the same bytes into touched memory"});
  report.add({"append.memcpy_file", in_file.mb_per_s(), "MB/s", "memcpy into a file prepared as the log is"});
  report.add({"append.ratio_memory", rate / in_memory.mb_per_s(), "ratio", "append / memcpy into memory"});
  report.add({"append.ratio_file", rate / in_file.mb_per_s(), "ratio", "append / memcpy into the file"});
}

}  // namespace mqbench
