#include <fmt/core.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <stdexcept>

#include "tools/mqbench/store/bench_store.h"
#include "tools/mqbench/store/prepared_file.h"

namespace mqbench {

namespace {

constexpr int64_t kBareBytes = 64 << 20;  // of the file that the bare loop writes round and round
constexpr int kRounds = 3;

struct Amount {
  double messages = 0, seconds = 0;
  void add(const Amount& other) {
    messages += other.messages;
    seconds += other.seconds;
  }
  [[nodiscard]] double rate() const { return messages / seconds; }
};

/// So many messages are outstanding all the time; the answer to one lets its sender send the next. One thread sends
/// for all of them.
Amount send_to_store(const StoreBenchOptions& options, const std::string& body, int64_t senders, double seconds) {
  BenchStore bench(options, "sync");
  bench.options.message_index_enabled = false;
  bench.options.flush_disk_type = apogee::store::FlushDiskType::kSync;
  bench.open();
  const auto draft = draft_of("Bench", 0, body);
  struct Shared {
    std::mutex mutex;
    std::condition_variable answered;
    int64_t idle = 0, done = 0;  // guarded by mutex
    std::string refused;         // guarded by mutex
  } shared;
  shared.idle = senders;
  auto answer = [&shared](const apogee::store::PutResult& result) {
    std::lock_guard lock(shared.mutex);
    if (result.status != apogee::store::PutStatus::kOk) shared.refused = "not stored in time: " + result.detail;
    ++shared.idle;
    ++shared.done;
    shared.answered.notify_one();
  };
  Stopwatch watch;
  while (watch.seconds() < seconds) {
    int64_t ready = 0;
    {
      std::unique_lock lock(shared.mutex);
      shared.answered.wait(lock, [&] { return shared.idle > 0; });
      std::swap(ready, shared.idle);
    }
    for (; ready > 0; --ready) bench.store().append(draft, answer);
  }
  std::unique_lock lock(shared.mutex);
  shared.answered.wait(lock, [&] { return shared.idle == senders; });
  if (!shared.refused.empty()) throw std::runtime_error(shared.refused);
  return {static_cast<double>(shared.done), watch.seconds()};
}

/// The least that can be done: the bytes of so many messages in one write, and fdatasync.
Amount write_and_sync(PreparedFile& file, int64_t& at, const std::string& group, int64_t senders, double seconds) {
  double messages = 0;
  Stopwatch watch;
  while (watch.seconds() < seconds) {
    if (at + static_cast<int64_t>(group.size()) > file.bytes()) at = 0;
    auto done = file.file().write_at(at, group);
    if (done) done = file.file().sync();
    if (!done) throw std::runtime_error(done.error().message);
    at += static_cast<int64_t>(group.size());
    messages += static_cast<double>(senders);
  }
  return {messages, watch.seconds()};
}

}  // namespace

void measure_sync_flush(const StoreBenchOptions& options, Report& report) {
  report.title(
      fmt::format("SYNC_FLUSH: bodies of {} bytes, against one write and fdatasync a group", options.body_bytes));
  const std::string body(static_cast<size_t>(options.body_bytes), 'b');
  const auto record = static_cast<size_t>(record_bytes_of(draft_of("Bench", 0, body)));
  for (int64_t senders : options.senders) {
    const std::string group(record * static_cast<size_t>(senders), 'r');
    Amount bare, stored;
    PreparedFile file(options.directory / "bare", std::max(kBareBytes, static_cast<int64_t>(group.size())),
                      Pages::kOnDisk);
    int64_t at = 0;
    for (int round = 0; round < kRounds; ++round) {
      report.step(fmt::format("SYNC_FLUSH, {} senders", senders), static_cast<double>(round) / kRounds);
      bare.add(write_and_sync(file, at, group, senders, options.seconds / kRounds));
      stored.add(send_to_store(options, body, senders, options.seconds / kRounds));
    }
    const auto name = fmt::format("sync.{}.", senders);
    report.add({name + "rate", stored.rate(), "1/s", fmt::format("acknowledged messages, {} senders", senders)});
    report.add(
        {name + "bare", bare.rate(), "1/s", fmt::format("bare loop of write + fdatasync, {} messages each", senders)});
    report.add({name + "ratio", stored.rate() / bare.rate(), "ratio", "store / bare loop", 0.8});
  }
}

}  // namespace mqbench
