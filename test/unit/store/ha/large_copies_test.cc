// A slave that is far behind writes what it gets into its files, without pages that were populated for it.
#include "store/file_names.h"
#include "test/unit/store/ha/copy_bench.h"

namespace apogee::store {

namespace {

constexpr int64_t kFileBytes = 2 << 20;
constexpr int kQueues = 3;
constexpr size_t kPieceBytes = 200'000;

StoreOptions large_options(bool slave) {
  auto options = memory_options(slave);
  options.commit_log_file_bytes = kFileBytes;
  options.page_cache_busy_ms = 20'000;
  return options;
}

std::string body(int i) {
  std::string text = "message " + std::to_string(i) + " ";
  text.resize(static_cast<size_t>(3'000 + i * 37 % 3'000), 'b');
  return text;
}

struct LargeCopies {
  test::MemoryFileSystem master_files, memory;
  FaultFileSystem files{memory};
  Running master{large_options(false), master_files};
  std::optional<Running> slave;
  int sent = 0;
  LargeCopies() {
    slave.emplace(large_options(true), files);
    put_some(1'200);
  }
  void put_some(int count) {
    for (; count > 0; --count, ++sent)
      REQUIRE(put(*master.store, "T", sent % kQueues, body(sent), "KEYS\1key" + std::to_string(sent) + "\2").status ==
              PutStatus::kOk);
  }
  ReplicatedLog& from() { return master.store->replicated_log(); }
  ReplicatedLog& to() { return slave->store->replicated_log(); }
  /// Whole records behind `at`, of about so many bytes, within their file.
  std::string piece(LogOffset at, size_t bytes = kPieceBytes) {
    std::string all;
    while (all.size() < bytes && at < from().end()) {
      auto record = master.store->record_at(at);
      auto part = record ? std::move(*record) : *from().read(at, kFileBytes);  // a blank
      all += part.bytes;
      at += static_cast<LogOffset>(part.size());
      if (at % kFileBytes == 0) break;
    }
    return all;
  }
  Status copy_piece(size_t bytes = kPieceBytes) {
    const LogOffset at = to().end();
    return append_copy(to(), at, piece(at, bytes));
  }
  Status copy_rest(size_t bytes = kPieceBytes) {
    while (to().end() < from().end()) APOGEE_TRY(copy_piece(bytes));
    return {};
  }
  void be_far_behind() {
    for (int i = 0; i < 4; ++i) REQUIRE(copy_piece());
  }
  bool same() { return to().end() == from().end() && log_bytes(to()) == log_bytes(from()); }
  void check_queues() {
    for (int queue = 0; queue < kQueues; ++queue) {
      REQUIRE(slave->wait_for("T-" + std::to_string(queue), sent / kQueues));
      CHECK((bodies_of(*slave->store, "T", queue) == bodies_of(*master.store, "T", queue)));
    }
  }
  std::string file_content(LogOffset at) { return memory.content("/store/commitlog/" + file_name_of(at)); }
};

}  // namespace

TEST_CASE("Large copies: no page is populated for them, over files, and small ones go on behind", "[store][ha][copy]") {
  LargeCopies bench;
  REQUIRE(bench.from().end() > 2 * kFileBytes);
  bench.be_far_behind();
  REQUIRE(test::eventually([&] { return bench.slave->store->writable(nullptr); }));
  bench.files.fail(FileCall::kPopulate, "commitlog", Errc::kDiskFull);
  REQUIRE(bench.copy_rest());
  bench.files.allow_all();
  CHECK(bench.same());
  CHECK_FALSE(bench.slave->logged("cannot be had"));
  bench.check_queues();
  // It is near now, and its log goes on through the mapping.
  bench.put_some(60);
  REQUIRE(bench.copy_rest(1));
  bench.files.fail(FileCall::kWrite, "commitlog", Errc::kDiskFull);
  bench.put_some(60);
  REQUIRE(bench.copy_rest(1));
  bench.files.allow_all();
  CHECK(bench.same());
  bench.check_queues();
  // Far behind again.
  bench.put_some(1'200);
  REQUIRE(bench.copy_rest());
  CHECK(bench.same());
  bench.check_queues();
  bench.slave.reset();
  bench.slave.emplace(large_options(true), bench.files);
  CHECK(bench.same());
  CHECK(bench.slave->store->figures().holes == 0);
}

TEST_CASE("Large copies: a full disk refuses them, leaves nothing behind the end, and they go on",
          "[store][ha][copy]") {
  LargeCopies bench;
  bench.be_far_behind();
  const bool next_file = GENERATE(false, true);
  while (next_file && bench.to().end() < kFileBytes) REQUIRE(bench.copy_piece());
  const LogOffset end = bench.to().end();
  const auto before = log_bytes(bench.to());
  bench.files.half_written = true;
  bench.files.fail(FileCall::kWrite, "commitlog", Errc::kDiskFull);
  auto refused = bench.copy_piece();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::kDiskFull);
  CHECK(bench.to().end() == end);
  CHECK(bench.slave->logged("nothing can be written"));
  const auto behind = bench.file_content(end / kFileBytes * kFileBytes).substr(static_cast<size_t>(end % kFileBytes));
  CHECK(behind.find_first_not_of('\0') == std::string::npos);
  bench.files.allow_all();
  if (GENERATE(false, true)) {
    bench.slave.reset();
    bench.slave.emplace(large_options(true), bench.files);
  }
  CHECK(bench.to().end() == end);
  CHECK((log_bytes(bench.to()) == before));
  REQUIRE(bench.copy_piece(1));
  REQUIRE(bench.copy_rest());
  CHECK(bench.same());
  bench.check_queues();
}

TEST_CASE("Large copies: what a process leaves that is killed while it writes one is cut at the last whole record",
          "[store][ha][copy]") {
  constexpr size_t kPage = 4'096;
  LargeCopies bench;
  bench.be_far_behind();
  const LogOffset end = bench.to().end();
  const auto piece = bench.piece(end);
  std::vector<LogOffset> ends{end};
  for (LogOffset at = end; at < end + static_cast<LogOffset>(piece.size()); ends.push_back(at))
    at += static_cast<LogOffset>(bench.master.store->record_at(at)->size());
  REQUIRE(ends.back() < kFileBytes);
  bench.slave.reset();
  bench.files.allow_all();
  for (size_t pages : {1, 2, 3, 17, 30, 31}) {
    // The kernel has taken so much of it, in order, up to the end of a page.
    const LogOffset written_to = (end / static_cast<LogOffset>(kPage) + static_cast<LogOffset>(pages)) * kPage;
    const auto path = "/store/commitlog/" + file_name_of(0);
    auto copy = bench.memory.copy(pages);
    auto content = copy->content(path);
    content.replace(static_cast<size_t>(end), static_cast<size_t>(written_to - end), piece, 0,
                    static_cast<size_t>(written_to - end));
    copy->set_content(path, content);
    copy->set_content("/store/abort", "1");
    Running again(large_options(true), *copy);
    auto& log = again.store->replicated_log();
    CHECK(log.end() == *std::prev(std::upper_bound(ends.begin(), ends.end(), written_to)));
    CHECK(again.store->figures().holes == 0);
    REQUIRE(copy_log(bench.from(), log));
    CHECK((log_bytes(log) == log_bytes(bench.from())));
  }
}

TEST_CASE("Large copies: a stop waits for the one that is written, and the log is on the disk", "[store][ha][copy]") {
  LargeCopies bench;
  bench.be_far_behind();
  const bool power = GENERATE(false, true);
  REQUIRE(bench.copy_rest());
  bench.slave->store->stop();
  const auto bytes = log_bytes(bench.to());
  CHECK(bytes == log_bytes(bench.from()));
  auto left = power ? bench.memory.lose_power(7) : bench.memory.copy(7);
  bench.slave.reset();
  Running again(large_options(true), *left);
  CHECK((log_bytes(again.store->replicated_log()) == bytes));
}

}  // namespace apogee::store
