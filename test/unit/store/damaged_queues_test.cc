// Queues whose files are not what the log says: found at the start after a crash, and made whole from the log.
#include <fstream>
#include <utility>

#include "common/base/bytes.h"
#include "store/checkpoint.h"
#include "store/consume_queues.h"
#include "store/file_names.h"
#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

namespace {

std::string body(int queue, int message) {
  return "message " + std::to_string(message) + " of " + std::to_string(queue);
}

/// A store as a crash leaves it, whose checkpoint vouches for the whole log; or for nothing.
struct Crashed {
  Directory directory;
  fs::path root = directory.path / "crashed";
  std::vector<std::vector<LogOffset>> offsets;

  explicit Crashed(const std::vector<int>& messages, bool checkpoint = true) : offsets(messages.size()) {
    auto options = options_for(directory.path / "original");
    Running running(options);
    for (size_t queue = 0; queue < messages.size(); ++queue) {
      const auto id = static_cast<int32_t>(queue);
      for (int i = 0; i < messages[queue]; ++i)
        offsets[queue].push_back(put(*running.store, "T", id, body(id, i)).offsets[0]);
    }
    if (checkpoint) REQUIRE(test::eventually([&] { return vouches_for(running.store->figures().log_max_offset); }));
    fs::copy(directory.path / "original", root, fs::copy_options::recursive);
    if (!checkpoint) {
      fs::remove(root / "checkpoint");
      fs::remove(root / "queueFloors");
      fs::remove_all(root / "consumequeue");
    }
    REQUIRE(fs::exists(root / "abort"));
  }
  static StoreOptions options_for(const fs::path& root) {
    auto options = small_options(root);
    options.flush_interval_ms = 5;
    options.flush_least_pages = 1;
    options.flush_thorough_interval_ms = 5;
    options.keep_interval_ms = 2;
    options.message_index_enabled = false;
    return options;
  }
  [[nodiscard]] bool vouches_for(LogOffset end) const {
    auto checkpoint = read_checkpoint(io::posix_file_system(), (directory.path / "original" / "checkpoint").string());
    return checkpoint && checkpoint->log_position == end;
  }
  [[nodiscard]] fs::path queue_file(int queue, QueueOffset offset = 0) const {
    return root / "consumequeue" / "T" / std::to_string(queue) / file_name_of(offset * kQueueEntryBytes);
  }
  static void overwrite(const fs::path& path, int64_t at, const std::string& bytes) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file << bytes;
    REQUIRE(file.good());
  }
};

/// Whether every message of a queue is where it was, but for one, and the next offset is the one that follows.
void check_queue(MessageStore& store, int queue, int messages, int missing = -1) {
  INFO("queue " << queue);
  CHECK(store.max_offset("T", queue) == messages);
  for (int i = 0; i < messages; ++i) {
    if (i == missing) continue;
    INFO("message " << i);
    CHECK(test::eventually([&] {
      auto got = store.get("T", queue, i, {1}, nullptr);
      return got.status == GetStatus::kFound && body_of(got.records.at(0)) == body(queue, i);
    }));
  }
  CHECK(put(store, "T", queue, "next").queue_offset == messages);
}

std::string big_endian(int64_t number) {
  std::string bytes(sizeof number, '\0');
  store_be<int64_t>(bytes.data(), number);
  return bytes;
}

}  // namespace

TEST_CASE("Damaged queues: entries lost from the end are found missing, although the checkpoint vouches for them",
          "[store][recovery]") {
  Crashed crashed({30, 10});
  const int64_t lost = GENERATE(1, 3, 30);
  const int64_t kept = 30 - lost;
  Crashed::overwrite(crashed.queue_file(0), kept * kQueueEntryBytes,
                     std::string(static_cast<size_t>(lost * kQueueEntryBytes), '\0'));
  Running running(Crashed::options_for(crashed.root));
  CHECK(running.logged("built again from the log"));
  check_queue(*running.store, 0, 30);
  check_queue(*running.store, 1, 10);
}

TEST_CASE("Damaged queues: files of two queues that were exchanged", "[store][recovery]") {
  Crashed crashed({30, 10});
  const bool looks_clean = GENERATE(false, true);
  if (looks_clean) fs::remove(crashed.root / "abort");
  const auto aside = crashed.root / "aside";
  fs::rename(crashed.queue_file(0), aside);
  fs::rename(crashed.queue_file(1), crashed.queue_file(0));
  fs::rename(aside, crashed.queue_file(1));
  Running running(Crashed::options_for(crashed.root));
  CHECK(running.logged("leads to message"));
  check_queue(*running.store, 0, 30);
  check_queue(*running.store, 1, 10);
}

TEST_CASE("Damaged queues: entries whose place and length are absurd are made right when they are read",
          "[store][recovery]") {
  Crashed crashed({8});
  const auto furthest = std::string("\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xF0\x7F\xFF\xFF\xF0", 12);
  const auto lowest = std::string("\x80\x00\x00\x00\x00\x00\x00\x05\x80\x00\x00\x07", 12);
  Crashed::overwrite(crashed.queue_file(0), 2 * kQueueEntryBytes, furthest);
  Crashed::overwrite(crashed.queue_file(0), 4 * kQueueEntryBytes, lowest);
  Running running(Crashed::options_for(crashed.root));
  check_queue(*running.store, 0, 8);
}

TEST_CASE("Damaged queues: a record with a wrong queue offset costs no other message its place", "[store][recovery]") {
  Crashed crashed({30, 10}, false);
  const int wrong = GENERATE(0, 9, 21), claimed = wrong + GENERATE(1, 5, 8);
  const LogOffset at = crashed.offsets[0][static_cast<size_t>(wrong)];
  Crashed::overwrite(crashed.root / "commitlog" / file_name_of(0),
                     at + static_cast<int64_t>(message::kQueueOffsetPosition), big_endian(claimed));
  Running running(Crashed::options_for(crashed.root));
  check_queue(*running.store, 0, 30, wrong);
  check_queue(*running.store, 1, 10);
}

}  // namespace apogee::store
