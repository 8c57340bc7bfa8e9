// Whoever still needs a file of the log holds it back.
#include <atomic>

#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

TEST_CASE("Retention: the removal listener holds a file back until it agrees", "[store][retention]") {
  Directory directory;
  auto options = small_options(directory.path);
  options.keep_interval_ms = 5;
  options.flush_interval_ms = 5;
  options.retention.reserved_ms = 0;
  options.retention.delete_hours = {};
  options.retention.first_after_ms = 0;
  options.retention.interval_ms = 5;
  options.retention.file_pause_ms = 0;
  options.retention.clean_above = 1.01;
  Logger quiet;
  auto opened = MessageStore::open(options, quiet);
  REQUIRE(opened);
  auto& store = **opened;
  std::atomic<LogOffset> allowed{0};
  std::atomic<int> asked{0}, refused{0};
  store.set_removal_listener([&](LogOffset new_begin) {
    ++asked;
    return new_begin <= allowed;
  });
  REQUIRE(store.start());
  while (store.figures().log_max_offset < 3 * options.commit_log_file_bytes) {
    MessageDraft draft;
    draft.topic = "T";
    const std::string body(5'000, 'b');
    draft.body = body;
    store.append(draft, [&refused](const PutResult& result) { refused += result.stored() ? 0 : 1; });
  }
  store.clean_expired_files();
  REQUIRE(test::eventually([&] { return asked > 3; }));  // again and again
  CHECK(store.figures().log_min_offset == 0);
  allowed = 2 * options.commit_log_file_bytes;
  REQUIRE(test::eventually([&] { return store.figures().log_min_offset == allowed; }));
  const int before = asked;
  REQUIRE(test::eventually([&] { return asked > before + 3; }));
  CHECK(store.figures().log_min_offset == allowed);
  CHECK(refused == 0);
  store.stop();
}

}  // namespace apogee::store
