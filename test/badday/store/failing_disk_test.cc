// Writes, syncs and allocations fail, by injection and on a real file system that is full.
#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>

#include "test/badday/store/ledger.h"
#include "test/badday/store/opened.h"
#include "test/support/catch.h"
#include "test/support/memory_file_system.h"
#include "test/support/temporary_directory.h"
#include "test/support/wait.h"
#include "test/unit/store/fault_file_system.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {
namespace {

using test::MemoryFileSystem;

struct Tally {
  int runs = 0, refused = 0, sync_failures = 0;
  int64_t failures = 0;
};

/// Calls fail for a while, then the power does.
void live_with_failures(uint64_t seed, Tally& tally) {
  test::Random random(seed);
  const bool sync = random.chance(0.7);
  const Errc code = random.chance(0.5) ? Errc::kDiskFull : Errc::kIo;
  auto options = bad_day_options(random);
  options.flush_disk_type = sync ? FlushDiskType::kSync : FlushDiskType::kAsync;
  MemoryFileSystem memory(seed);
  FaultFileSystem files(memory);
  // The kernel takes the pages that it could not write for clean.
  files.on_failed_sync([&](const std::string& path) { memory.forget_unsynced(path); });
  Ledger ledger;
  Traffic traffic;
  traffic.sync_flush = sync;
  traffic.messages = 40;
  traffic.senders = static_cast<int>(random.between(1, 3));
  traffic.body_bytes_max = 6'000;
  ++tally.runs;
  INFO("run " << seed << ", " << (sync ? "SYNC_FLUSH, " : "ASYNC_FLUSH, ") << to_string(code));
  std::unique_ptr<MemoryFileSystem> left;
  Ledger::Promise promise;
  {
    Opened store(options, files);
    REQUIRE(store);
    REQUIRE(store->start());
    REQUIRE(send_traffic(*store, ledger, traffic, random.next()) == 0);
    files.fail_after(random.below(20), random.between(1, 30), code);
    tally.refused += send_traffic(*store, ledger, traffic, random.next());
    tally.failures += files.failures();
    files.allow_all();
    auto sync_failed = [&] {
      std::string why;
      return !store->writable(&why) && why.find("a sync of the log failed") != std::string::npos;
    };
    CHECK(test::eventually([&] { return store->writable() || sync_failed(); }));
    // What failed before may be noticed now.
    const int refused_later = send_traffic(*store, ledger, traffic, random.next());
    if (sync_failed()) {
      // For good: no later sync proves anything.
      ++tally.sync_failures;
      auto refused = put(*store, "Topic0", 0, "later");
      CHECK(refused.status == PutStatus::kServiceNotAvailable);
      CHECK(!refused.detail.empty());
    } else if (refused_later > 0) {
      CHECK(test::eventually([&] { return store->writable(); }));
      CHECK(send_traffic(*store, ledger, traffic, random.next()) == 0);
    }
    promise = ledger.promise();
    left = memory.lose_power(random.next());
  }
  auto before = left->copy(1);
  Opened store(options, *left);
  if (!store) FAIL(store.error().message);
  auto reading = read_everything(*store, ledger);
  check_promise(promise, reading);
  CHECK(reading.problems == std::vector<std::string>());
}

/// Runs in a process of its own on a file system of 1 MiB. "" or what went wrong.
std::string fill_a_real_disk(const std::string& directory) {
  StoreOptions options;
  options.root_dir = directory + "/store";
  options.commit_log_file_bytes = 128 * 1024;
  options.consume_queue_file_bytes = 20'000;
  options.disk_used_ratio_max = 1.01;
  options.flush_disk_type = FlushDiskType::kSync;
  const std::string ballast = directory + "/ballast";
  {
    int fd = ::open(ballast.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || ::fallocate(fd, 0, 0, 512 * 1024) != 0) return "no ballast";
    ::close(fd);
  }
  struct Message {
    std::string body;
    QueueOffset offset;
  };
  std::vector<Message> stored;
  auto check = [&stored](MessageStore& store, QueueOffset below) -> std::string {
    for (const auto& message : stored) {
      if (message.offset >= below) continue;
      auto got = store.get("Full", 0, message.offset, {}, nullptr);
      if (got.status != GetStatus::kFound) return fmt::format("{} at {}", to_string(got.status), message.offset);
      auto record = message::decode_record(got.records.front().bytes);
      if (!record || record->body != message.body) return fmt::format("another message at {}", message.offset);
    }
    return {};
  };
  {
    Opened store(options, io::posix_file_system());
    if (!store) return store.error().message;
    if (!store->start()) return "no start";
    auto send = [&] {
      std::string body = fmt::format("{}:", stored.size()) + std::string(3'000, 'x');
      auto result = put(*store, "Full", 0, body);
      if (result.status == PutStatus::kOk) stored.push_back({body, result.queue_offset});
      return result;
    };
    PutResult result;
    for (int i = 0; i < 2'000; ++i) {
      result = send();
      if (result.status != PutStatus::kOk) break;
    }
    if (result.status != PutStatus::kServiceNotAvailable)
      return fmt::format("a full disk gives status {}: {}", static_cast<int>(result.status), result.detail);
    const size_t before = stored.size();
    if (before < 20) return "full too early";
    // The disk may be too full for the queue as well; then its last entries come when there is room.
    const QueueOffset readable = store->max_offset("Full", 0);
    if (readable < 20) return "too few can be read";
    if (auto wrong = check(*store, readable); !wrong.empty()) return "while full: " + wrong;
    ::unlink(ballast.c_str());
    if (!test::eventually([&] { return store->writable(); })) return "does not resume";
    for (int i = 0; i < 50; ++i)
      if (auto again = send(); again.status != PutStatus::kOk) return "after there was room: " + again.detail;
    store->stop();
  }
  Opened store(options, io::posix_file_system());
  if (!store) return store.error().message;
  return check(*store, std::numeric_limits<QueueOffset>::max());
}

/// Runs it in a user and mount namespace of its own; a text that begins with "skip" when that is not permitted.
std::string on_a_small_tmpfs(const std::string& directory) {
  int ends[2];
  if (::pipe(ends) != 0) return "skip: no pipe";
  const auto uid = ::getuid();
  const auto gid = ::getgid();
  pid_t child = ::fork();
  if (child < 0) return "skip: no process";
  if (child == 0) {
    ::close(ends[0]);
    std::string told;
    auto write_file = [](const char* path, const std::string& text) {
      int fd = ::open(path, O_WRONLY | O_CLOEXEC);
      bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
      if (fd >= 0) ::close(fd);
      return good;
    };
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_file("/proc/self/setgroups", "deny") ||
        !write_file("/proc/self/uid_map", fmt::format("0 {} 1", uid)) ||
        !write_file("/proc/self/gid_map", fmt::format("0 {} 1", gid)) ||
        ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m") != 0) {
      told = fmt::format("skip: no file system of one's own: {}", std::strerror(errno));
    } else {
      told = fill_a_real_disk(directory);
    }
    bool written = told.empty() || ::write(ends[1], told.data(), told.size()) > 0;
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  std::string told;
  char part[512];
  for (ssize_t n; (n = ::read(ends[0], part, sizeof part)) > 0;) told.append(part, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) told += fmt::format(" (the process ended with status {})", status);
  return told;
}

}  // namespace

TEST_CASE("Failing disk: refused, resumed, and nothing promised is lost", "[badday]") {
  test::Random seeds(test::run_seed("failing disk"));
  const int runs = test::is_soak() ? 3'000 : 150;
  auto begin = std::chrono::steady_clock::now();
  Tally tally;
  while (tally.runs < runs) live_with_failures(seeds.next(), tally);
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("failing disk: {} runs, {} calls failed, {} messages refused, {} syncs of the log failed, {} ms\n",
             tally.runs, tally.failures, tally.refused, tally.sync_failures, ms);
  CHECK(tally.refused > 0);
  CHECK(tally.sync_failures > 0);
}

TEST_CASE("Full disk: a real file system without room refuses and resumes, and nothing is lost", "[badday]") {
  test::TemporaryDirectory directory;
  std::string told = on_a_small_tmpfs(directory.path().string());
  if (told.compare(0, 4, "skip") == 0) {
    fmt::print("full disk: {}\n", told);
    return;
  }
  CHECK(told == "");
}

}  // namespace apogee::store
