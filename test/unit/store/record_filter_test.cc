#include <set>

#include "common/message/properties.h"
#include "test/unit/store/store_bench.h"

// Filters that look at the messages themselves.

using namespace apogee;
using namespace apogee::store;

namespace {

/// Eight messages of one queue: tags A and B take turns, the size is their number.
struct Filtered {
  Directory directory;
  Running running{small_options(directory.path)};
  MessageStore& store = *running.store;
  std::vector<int64_t> tags;  ///< the codes, by offset
  std::vector<std::string> asked;

  Filtered() {
    for (int i = 0; i < 8; ++i) {
      std::string properties;
      message::append_property(properties, "TAGS", i % 2 == 0 ? "A" : "B");
      REQUIRE(put(store, "T", 0, std::to_string(i), properties).status == PutStatus::kOk);
    }
    REQUIRE(running.wait_for("T-0", 8));
    for (const auto& entry : store.queue_entries("T", 0, 0, 8)) tags.push_back(entry.tags_code);
  }
  /// Lets these bodies pass.
  GetResult get(QueueOffset from, const std::set<std::string>& wanted, int32_t count_max = 32,
                const TagsCodeFilter& tags_filter = {}, int64_t bytes_max = 256 * 1024) {
    GetLimits limits;
    limits.count_max = count_max;
    limits.bytes_max = bytes_max;
    limits.record_filter = [this, wanted](std::string_view record) {
      asked.push_back(std::string(message::decode_record(record)->body));
      return wanted.count(asked.back()) != 0;
    };
    return store.get("T", 0, from, limits, tags_filter);
  }
};

std::vector<std::string> bodies(const GetResult& got) {
  std::vector<std::string> all;
  for (const auto& record : got.records) all.push_back(body_of(record));
  return all;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("MessageStore: a record filter lets some pass, and what it does not is over", "[store][filter]") {
  Filtered bench;
  auto got = bench.get(0, {"1", "2", "6"});
  CHECK(got.status == GetStatus::kFound);
  CHECK(bodies(got) == Texts{"1", "2", "6"});
  CHECK(got.next_begin_offset == 8);
  CHECK(bench.asked.size() == 8);

  got = bench.get(3, {"1", "2", "6"});
  CHECK(bodies(got) == Texts{"6"});
  got = bench.get(0, {});
  CHECK(got.status == GetStatus::kNoMatchedMessage);
  CHECK(got.next_begin_offset == 8);
  CHECK(got.records.empty());
  CHECK(got.bytes == 0);
  // At the end it is not asked at all.
  bench.asked.clear();
  CHECK(bench.get(8, {"1"}).status == GetStatus::kOffsetOverflowOne);
  CHECK(bench.get(9, {"1"}).status == GetStatus::kOffsetOverflowBadly);
  CHECK(bench.asked.empty());
}

TEST_CASE("MessageStore: a record filter and the limits: nothing behind the last message is looked at",
          "[store][filter]") {
  Filtered bench;
  auto got = bench.get(0, {"1", "2", "6"}, 2);
  CHECK(bodies(got) == Texts{"1", "2"});
  CHECK(got.next_begin_offset == 3);
  CHECK(bench.asked == Texts{"0", "1", "2"});
  // Bytes count what passes only; the first always does.
  bench.asked.clear();
  got = bench.get(0, {"3", "4"}, 32, {}, 1);
  CHECK(bodies(got) == Texts{"3"});
  CHECK(got.next_begin_offset == 4);
  CHECK(got.bytes == static_cast<int64_t>(got.records.front().size()));
}

TEST_CASE("MessageStore: a record filter is asked only about what the tags let pass", "[store][filter]") {
  Filtered bench;
  const auto b = bench.tags[1];
  auto got = bench.get(0, {"0", "1", "5"}, 32, [b](int64_t code) { return code == b; });
  CHECK(bodies(got) == Texts{"1", "5"});
  CHECK(bench.asked == Texts{"1", "3", "5", "7"});
  CHECK(got.next_begin_offset == 8);
}
