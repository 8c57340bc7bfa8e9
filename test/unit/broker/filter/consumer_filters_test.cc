#include "broker/filter/consumer_filters.h"

#include "common/config/properties_file.h"
#include "common/message/properties.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"
#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;

namespace {

struct Bench {
  TempDir dir;
  FakeClock clock;
  BrokerConfig config;
  std::vector<std::string> lines;
  Logger logger{[this](LogLevel level, std::string_view line) {
    if (level == LogLevel::kWarn) lines.emplace_back(line);
  }};
  std::string file = dir.file("config/consumerFilter.json");

  std::unique_ptr<ConsumerFilters> open() {
    auto filters = std::make_unique<ConsumerFilters>(file, config, logger, clock.now());
    filters->load();
    return filters;
  }
  static Subscription sql(const std::string& topic, const std::string& text, int64_t version) {
    Subscription subscription;
    subscription.topic = topic;
    subscription.expression = text;
    subscription.expression_type = "SQL92";
    subscription.version = version;
    return subscription;
  }
};

bool matches(const ConsumerFilters::Filter& filter, const std::string& value) {
  std::string properties;
  message::append_property(properties, "a", value);
  return filter.expression != nullptr && filter.expression->matches(properties);
}

}  // namespace

TEST_CASE("of a group's filters of a topic the newest version counts", "[filter]") {
  Bench bench;
  auto filters = bench.open();
  filters->register_group("G", {Bench::sql("T", "a = 1", 10), Bench::sql("U", "a = 9", 10)});
  CHECK(matches(filters->find("T", "G"), "1"));
  CHECK(filters->find("T", "H").expression == nullptr);
  filters->register_group("G", {Bench::sql("T", "a = 2", 9), Bench::sql("U", "a = 9", 10)});
  CHECK(matches(filters->find("T", "G"), "1"));
  const auto before = filters->find("T", "G").expression;
  filters->register_group("G", {Bench::sql("T", "a = 1", 11)});
  CHECK(filters->find("T", "G").client_version == 11);
  CHECK(filters->find("T", "G").expression == before);  // compiled once
  filters->register_group("G", {Bench::sql("T", "a = 2", 12)});
  CHECK(matches(filters->find("T", "G"), "2"));
  CHECK(matches(filters->find("U", "G"), "9"));  // dead, and still known
  filters->register_group("G", {Bench::sql("T", "a >", 13)});
  CHECK(filters->find("T", "G").expression == nullptr);
}

TEST_CASE("a filter that cannot be used is logged once a minute at most", "[filter]") {
  Bench bench;
  auto filters = bench.open();
  for (int64_t version = 1; version <= 50; ++version)
    filters->register_group("G",
                            {Bench::sql("T", "a > " + std::string(static_cast<size_t>(version) % 2, '('), version)});
  REQUIRE(bench.lines.size() == 1);
  CHECK(bench.lines[0] ==
        "group G: its filter of topic T cannot be used: line 1, column 6: a property, a literal or ( "
        "is wanted, but the expression ends: a > (");
  bench.clock.advance(60'001);
  filters->register_group("G", {Bench::sql("T", "a > ((", 99)});
  CHECK(bench.lines.size() == 2);
}

TEST_CASE("filters are kept in consumerFilter.json, and for a while after their group has gone", "[filter]") {
  Bench bench;
  {
    auto filters = bench.open();
    filters->register_group("G", {Bench::sql("T", "a = 1", 10), Bench::sql("U", "a >", 10)});
    filters->register_group("H", {Bench::sql("T", "a = 'y'", 10)});
    REQUIRE(filters->save_if_changed());
    filters->unregister_group("H");
    REQUIRE(filters->save_if_changed());
  }
  const auto text = config::read_whole_file(bench.file);
  REQUIRE(text);
  const auto now = std::to_string(bench.clock.now()());
  const std::string expected = R"({"filterDataByTopic":{"T":{"groupFilterData":{"G":{"bornTime":)" + now +
                               R"(,"clientVersion":10,"consumerGroup":"G","deadTime":0,"expression":"a = 1",)"
                               R"("expressionType":"SQL92","topic":"T"},"H":{"bornTime":)" +
                               now + R"(,"clientVersion":10,"consumerGroup":"H","deadTime":)" + now +
                               R"(,"expression":"a = 'y'","expressionType":"SQL92","topic":"T"}},"topic":"T"}}})";
  CHECK(*text == expected);
  bench.clock.advance(1'000'000);
  auto filters = bench.open();
  CHECK(matches(filters->find("T", "G"), "1"));
  CHECK(matches(filters->find("T", "H"), "y"));
  filters->register_group("G", {Bench::sql("T", "a = 1", 10)});
  bench.clock.advance(bench.config.filter_data_life_ms);
  REQUIRE(filters->save_if_changed());
  CHECK(filters->find("T", "G").expression != nullptr);
  CHECK(filters->find("T", "H").expression == nullptr);
}

TEST_CASE("a file of RocketMQ is read, and what cannot be read is passed over", "[filter]") {
  Bench bench;
  REQUIRE(config::replace_file(
      bench.file,
      R"({"filterDataByTopic":{"T":{"groupFilterData":{"G":{"bloomFilterData":{"bitNum":112,"bitPos":[17,3,101]},)"
      R"("bornTime":5,"clientVersion":7,"consumerGroup":"G","dead":false,"deadTime":0,"expression":"a = 1",)"
      R"("expressionType":"SQL92","topic":"T"}},"topic":"T"}}})"));
  auto filters = bench.open();
  CHECK(matches(filters->find("T", "G"), "1"));
  CHECK(filters->find("T", "G").client_version == 7);
  filters->register_group("G", {Bench::sql("T", "a = 1", 8)});
  REQUIRE(filters->save_if_changed());
  CHECK(config::read_whole_file(bench.file)->find(R"("bloomFilterData":{"bitNum":112,"bitPos":[17,3,101]})") !=
        std::string::npos);
  REQUIRE(config::replace_file(bench.file, "nonsense"));
  REQUIRE(config::replace_file(bench.file, "more nonsense"));
  bench.lines.clear();
  CHECK(bench.open()->find("T", "G").expression == nullptr);
  CHECK(bench.lines.size() == 2);
}

TEST_CASE("a message that comes again passes the filter of its own topic", "[filter]") {
  Bench bench;
  auto filters = bench.open();
  filters->register_group("G", {Bench::sql("T", "a = 1", 10)});
  std::string properties;
  message::append_property(properties, "a", "2");
  CHECK(filters->matches_retry("G", properties));
  message::append_property(properties, "RETRY_TOPIC", "T");
  CHECK_FALSE(filters->matches_retry("G", properties));
  CHECK(filters->matches_retry("H", properties));
  message::set_property(properties, "a", "1");
  CHECK(filters->matches_retry("G", properties));
}
