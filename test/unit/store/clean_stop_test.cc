// After a clean stop nothing behind the log's end is looked at, unless somebody else may have written there.
#include <fstream>

#include "store/checkpoint.h"
#include "store/recovery.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

namespace {

constexpr size_t kBodyBytes = 6'000;  // more than a start looks at behind the end

struct Stopped {
  Directory directory;
  fs::path root = directory.path / "store";
  LogOffset end = 0;

  explicit Stopped(int messages) { run(0, messages); }
  void run(int from, int to) {
    Running running(small_options(root));
    for (int i = from; i < to; ++i)
      REQUIRE(put(*running.store, "T", 0, std::string(kBodyBytes, static_cast<char>('a' + i))).queue_offset == i);
    end = running.store->figures().log_max_offset;
  }
  [[nodiscard]] Checkpoint checkpoint() const {
    auto read = read_checkpoint(io::posix_file_system(), (root / "checkpoint").string());
    REQUIRE(read);
    return *read;
  }
  [[nodiscard]] std::string bytes_of(const char* name, int64_t at, size_t count) const {
    std::ifstream file(root / name, std::ios::binary);
    file.seekg(at);
    std::string bytes(count, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(count));
    REQUIRE(file.good());
    return bytes;
  }
  void overwrite(const std::string& name, int64_t at, std::string_view bytes) const {
    std::fstream file(root / name, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file << bytes;
    REQUIRE(file.good());
  }
  void overwrite_log(LogOffset at, std::string_view bytes) const {
    constexpr LogOffset kFileBytes = 64 * 1024;
    overwrite("commitlog/" + file_name_of(at / kFileBytes * kFileBytes), at % kFileBytes, bytes);
  }
};

}  // namespace

TEST_CASE("Recovery: a clean stop tells where the log ends, and the next start goes on there", "[store][recovery]") {
  Stopped store(3);
  CHECK(store.checkpoint().ended_at == store.end);
  CHECK(store.checkpoint().log_position == store.end);
  for (int start = 0; start < 12; ++start) {  // into the next file
    Running running(small_options(store.root));
    CHECK(running.logged("0 records looked at"));
    CHECK_FALSE(running.logged("the log was cut"));
    CHECK(running.store->figures().log_max_offset == store.end);
    CHECK(running.store->max_offset("T", 0) == 3 + start);
    CHECK(put(*running.store, "T", 0, std::string(kBodyBytes, 'x')).queue_offset == 3 + start);
    running.store->stop();
    store.end = running.store->figures().log_max_offset;
    CHECK(store.checkpoint().ended_at == store.end);
  }
}

TEST_CASE("Recovery: bytes right behind the end of a clean stop are looked at, and cut", "[store][recovery]") {
  Stopped store(3);
  store.overwrite_log(store.end, "neither zeros nor a message");
  Running running(small_options(store.root));
  CHECK(running.logged("the log was cut at " + std::to_string(store.end)));
  CHECK(put(*running.store, "T", 0, "next").offsets[0] == store.end);
}

TEST_CASE("Recovery: what another broker has stored since our clean stop is kept, damage or not", "[store][recovery]") {
  Stopped store(3);
  const LogOffset end = store.end;
  const std::string ours = store.bytes_of("checkpoint", 2'048, 2'048);
  store.run(3, 6);
  store.overwrite("checkpoint", 2'048, ours);  // as it writes its three times alone
  CHECK(store.checkpoint().log_position == end);
  CHECK(store.checkpoint().ended_at == -1);
  const bool damaged = GENERATE(false, true);
  if (damaged) store.overwrite_log(end, std::string(kBodyBytes, '\0'));
  Running running(small_options(store.root));
  CHECK(running.store->figures().log_max_offset == store.end);
  CHECK(running.store->figures().holes == (damaged ? 1 : 0));
  CHECK(running.store->max_offset("T", 0) == 6);
}

TEST_CASE("Recovery: a crash before the first checkpoint is none of the clean stop before", "[store][recovery]") {
  Stopped store(3);
  const auto left = store.directory.path / "left";
  {
    Running running(small_options(store.root));
    for (int i = 3; i < 6; ++i) put(*running.store, "T", 0, std::string(kBodyBytes, 'y'));
    fs::copy(store.root / "checkpoint", store.directory.path / "checkpoint");
    REQUIRE(running.wait_for("T-0", 6));
    fs::copy(store.root, left, fs::copy_options::recursive);
  }
  fs::copy_file(store.directory.path / "checkpoint", left / "checkpoint", fs::copy_options::overwrite_existing);
  REQUIRE(fs::exists(left / "abort"));
  Running running(small_options(left));
  CHECK(running.store->max_offset("T", 0) == 6);
  CHECK(put(*running.store, "T", 0, "next").queue_offset == 6);
}

}  // namespace apogee::store
