#include "common/message/properties.h"
#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

// Messages by key through the whole store.

using namespace apogee;
using namespace apogee::store;
using apogee::test::eventually;

namespace {

std::string keyed(const std::string& key) {
  std::string properties;
  message::append_property(properties, "UNIQ_KEY", "id-" + key);
  message::append_property(properties, "KEYS", "all " + key);
  return properties;
}

size_t found(MessageStore& store, const std::string& key, int32_t count_max = 1'000) {
  KeyQuery query;
  query.topic = "T";
  query.key = key;
  query.count_max = count_max;
  auto answer = store.query(query);
  REQUIRE(answer);
  CHECK(answer->incomplete.empty());
  return answer->records.size();
}

}  // namespace

TEST_CASE("MessageStore: what was stored is found by its keys, also after a restart", "[store][index]") {
  Directory directory;
  auto options = small_options(directory.path);
  options.flush_disk_type = GENERATE(FlushDiskType::kAsync, FlushDiskType::kSync);
  {
    Running running(options);
    for (int i = 0; i < 300; ++i)
      REQUIRE(put(*running.store, "T", i % 4, "body", keyed(std::to_string(i))).status == PutStatus::kOk);
    REQUIRE(eventually([&] { return found(*running.store, "all") == 300; }));
    CHECK(found(*running.store, "all", 10) == 10);
    CHECK(found(*running.store, "id-7") == 1);
    CHECK(running.store->figures().indexed_offset == running.store->figures().log_max_offset);
    CHECK(running.store->figures().index_entries_total == 900);
  }
  Running again(options);
  CHECK(found(*again.store, "all") == 300);
  CHECK(again.store->figures().index_entries_total == 0);  // nothing twice
  REQUIRE(put(*again.store, "T", 0, "body", keyed("late")).status == PutStatus::kOk);
  CHECK(eventually([&] { return found(*again.store, "late") == 1; }));
}

TEST_CASE("MessageStore: without the index queries are refused; switched on later it is built", "[store][index]") {
  Directory directory;
  auto options = small_options(directory.path);
  options.message_index_enabled = false;
  {
    Running running(options);
    REQUIRE(put(*running.store, "T", 0, "body", keyed("a")).status == PutStatus::kOk);
    KeyQuery query;
    query.topic = "T";
    query.key = "a";
    auto refused = running.store->query(query);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::kUnsupported);
    CHECK(running.store->figures().indexed_offset == -1);
  }
  CHECK_FALSE(fs::exists(directory.path / "indexdb"));
  options.message_index_enabled = true;
  Running running(options);
  auto sees = [&] {
    KeyQuery query;
    query.topic = "T";
    query.key = "a";
    auto answer = running.store->query(query);
    return answer && answer->records.size() == 1;
  };
  CHECK(eventually(sees));
}
