#include "broker/stats/broker_stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <deque>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

namespace apogee::broker {

namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr int64_t kMinuteStepMs = 10'000, kHourStepMs = 600'000, kDayStepMs = 3'600'000;
constexpr size_t kMinuteSamples = 7, kHourSamples = 7, kDaySamples = 25;  // one more than steps in the span
constexpr size_t kSecondSamples = 601;

// Upper bounds in ms of putMessageDistributeTime's classes; the last class has none.
constexpr std::array<int64_t, 12> kTimeBounds = {0, 10, 50, 100, 200, 500, 1000, 2000, 3000, 4000, 5000, 10000};
constexpr std::array<const char*, 13> kTimeNames = {
    "[<=0ms]", "[0~10ms]", "[10~50ms]", "[50~100ms]", "[100~200ms]", "[200~500ms]", "[500ms~1s]",
    "[1~2s]",  "[2~3s]",   "[3~4s]",    "[4~5s]",     "[5~10s]",     "[10s~]"};

struct Sample {
  int64_t time_ms = 0, sum = 0, calls = 0;
};

// One growing figure and the samples that its spans are taken from.
class Series {
 public:
  explicit Series(int64_t now_ms) {
    for (auto* samples : {&minute_, &hour_, &day_}) samples->push_back({now_ms, 0, 0});
  }
  void add(int64_t value) {
    sum_.fetch_add(value, kRelaxed);
    calls_.fetch_add(1, kRelaxed);
  }
  void sample(int64_t now_ms) {
    std::lock_guard<std::mutex> lock(mutex_);
    keep(minute_, now_ms, kMinuteStepMs, kMinuteSamples);
    keep(hour_, now_ms, kHourStepMs, kHourSamples);
    keep(day_, now_ms, kDayStepMs, kDaySamples);
  }
  [[nodiscard]] BrokerStats::Item item(int64_t now_ms) const {
    std::lock_guard<std::mutex> lock(mutex_);
    return {span(minute_, now_ms), span(hour_, now_ms), span(day_, now_ms)};
  }

 private:
  void keep(std::deque<Sample>& samples, int64_t now_ms, int64_t step_ms, size_t count_max) const {
    if (now_ms - samples.back().time_ms < step_ms) return;
    samples.push_back({now_ms, sum_.load(kRelaxed), calls_.load(kRelaxed)});
    if (samples.size() > count_max) samples.pop_front();
  }
  [[nodiscard]] BrokerStats::Span span(const std::deque<Sample>& samples, int64_t now_ms) const {
    const Sample& first = samples.front();
    BrokerStats::Span span;
    span.sum = sum_.load(kRelaxed) - first.sum;
    int64_t calls = calls_.load(kRelaxed) - first.calls;
    int64_t elapsed_ms = now_ms - first.time_ms;
    if (elapsed_ms > 0) span.per_second = static_cast<double>(span.sum) * 1000.0 / static_cast<double>(elapsed_ms);
    if (calls > 0) span.average = static_cast<double>(span.sum) / static_cast<double>(calls);
    return span;
  }

  std::atomic<int64_t> sum_{0}, calls_{0};
  mutable std::mutex mutex_;
  std::deque<Sample> minute_, hour_, day_;  // guarded by mutex_
};

struct TopicSeries {
  explicit TopicSeries(int64_t now_ms) : put_nums(now_ms), put_size(now_ms), put_latency(now_ms) {}
  Series put_nums, put_size, put_latency;
  std::atomic<bool> gone{false};  ///< its topic was removed
  template <typename Visit>
  void each(Visit visit) {
    for (Series* series : {&put_nums, &put_size, &put_latency}) visit(*series);
  }
};
struct GroupSeries {
  explicit GroupSeries(int64_t now_ms) : get_nums(now_ms), get_size(now_ms), get_latency(now_ms), sent_back(now_ms) {}
  Series get_nums, get_size, get_latency, sent_back;
  template <typename Visit>
  void each(Visit visit) {
    for (Series* series : {&get_nums, &get_size, &get_latency, &sent_back}) visit(*series);
  }
};

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

// Entries are found under a shared lock and live as long as anybody uses them.
template <typename Value>
class SeriesTable {
 public:
  std::shared_ptr<Value> find(std::string_view key) const {
    const Shard& shard = shards_[TextHash{}(key) % shards_.size()];
    std::shared_lock<std::shared_mutex> lock(shard.mutex);
    auto found = shard.entries.find(key);
    return found == shard.entries.end() ? nullptr : found->second;
  }
  std::shared_ptr<Value> find_or_add(std::string_view key, int64_t now_ms) {
    if (auto found = find(key)) return found;
    Shard& shard = shards_[TextHash{}(key) % shards_.size()];
    std::unique_lock<std::shared_mutex> lock(shard.mutex);
    auto& slot = shard.entries[std::string(key)];
    if (slot == nullptr) slot = std::make_shared<Value>(now_ms);
    return slot;
  }
  template <typename Visit>
  void each(Visit visit) {
    for (auto& shard : shards_) {
      std::shared_lock<std::shared_mutex> lock(shard.mutex);
      for (auto& [key, value] : shard.entries) visit(*value);
    }
  }
  template <typename Predicate>
  void remove_if(Predicate predicate) {
    for (auto& shard : shards_) {
      std::unique_lock<std::shared_mutex> lock(shard.mutex);
      for (auto it = shard.entries.begin(); it != shard.entries.end();)
        it = predicate(it->first) ? shard.entries.erase(it) : std::next(it);
    }
  }

 private:
  struct Shard {
    mutable std::shared_mutex mutex;
    std::unordered_map<std::string, std::shared_ptr<Value>, TextHash, std::equal_to<>> entries;
  };
  std::array<Shard, 16> shards_;
};

std::string topic_at_group(std::string_view topic, std::string_view group) {
  std::string key;
  key.reserve(topic.size() + group.size() + 1);
  key.append(topic).append(1, '@').append(group);
  return key;
}

void raise_to(std::atomic<int64_t>& maximum, int64_t value) {
  int64_t seen = maximum.load(kRelaxed);
  while (value > seen && !maximum.compare_exchange_weak(seen, value, kRelaxed)) {
  }
}

int local_day(int64_t now_ms) {
  time_t seconds = now_ms / 1000;
  struct tm parts {};
  localtime_r(&seconds, &parts);
  return parts.tm_year * 400 + parts.tm_yday;
}

// Each thread mostly adds to a cache line of its own.
struct alignas(64) Slot {
  std::atomic<int64_t> put_messages{0}, put_bytes{0}, get_messages{0}, get_bytes{0}, found{0}, missed{0};
  std::array<std::atomic<int64_t>, kTimeNames.size()> put_times{};
};
struct Sums {
  int64_t put_messages = 0, put_bytes = 0, get_messages = 0, get_bytes = 0, found = 0, missed = 0;
};
struct SecondSample {
  int64_t time_ms = 0;
  Sums sums;
};

}  // namespace

struct BrokerStats::Impl {
  Impl(std::string cluster_name, NowMs clock)
      : cluster(std::move(cluster_name)), now_ms(std::move(clock)), broker_put(now_ms()), broker_get(now_ms()) {
    seconds.push_back({now_ms(), {}});
    day = local_day(now_ms());
  }

  Slot& slot() {
    static std::atomic<size_t> threads{0};
    static thread_local const size_t index = threads.fetch_add(1, kRelaxed);
    return slots[index % slots.size()];
  }
  std::shared_ptr<GroupSeries> got(std::string_view group, std::string_view topic, int64_t messages, int64_t bytes,
                                   int64_t time_ms) {
    Slot& mine = slot();
    mine.get_messages.fetch_add(messages, kRelaxed);
    mine.get_bytes.fetch_add(bytes, kRelaxed);
    mine.found.fetch_add(1, kRelaxed);
    raise_to(get_time_max, time_ms);
    broker_get.add(messages);
    static thread_local std::string key;  // kept for its room
    key.assign(topic).append(1, '@').append(group);
    auto series = groups.find(key);
    if (series == nullptr) series = groups.find_or_add(key, now_ms());
    series->get_nums.add(messages);
    series->get_size.add(bytes);
    return series;
  }
  Sums sums() const {
    Sums sums;
    for (const auto& s : slots) {
      sums.put_messages += s.put_messages.load(kRelaxed);
      sums.put_bytes += s.put_bytes.load(kRelaxed);
      sums.get_messages += s.get_messages.load(kRelaxed);
      sums.get_bytes += s.get_bytes.load(kRelaxed);
      sums.found += s.found.load(kRelaxed);
      sums.missed += s.missed.load(kRelaxed);
    }
    return sums;
  }
  // With the mutex held.
  Rates rates(int64_t Sums::*figure) const {
    auto over = [this, figure](size_t samples_back) {
      const SecondSample& last = seconds.back();
      const SecondSample& first = seconds[seconds.size() > samples_back ? seconds.size() - 1 - samples_back : 0];
      int64_t elapsed_ms = last.time_ms - first.time_ms;
      return elapsed_ms <= 0 ? 0.0
                             : static_cast<double>(last.sums.*figure - first.sums.*figure) * 1000.0 /
                                   static_cast<double>(elapsed_ms);
    };
    return {over(10), over(60), over(600)};
  }

  const std::string cluster;
  const NowMs now_ms;
  std::array<Slot, 16> slots;
  std::atomic<int64_t> put_time_max{0}, get_time_max{0};
  Series broker_put, broker_get;
  SeriesTable<TopicSeries> topics;
  SeriesTable<GroupSeries> groups;  // by "topic@group"

  mutable std::mutex mutex;
  std::deque<SecondSample> seconds;  // guarded by mutex, as what follows
  int day = 0;
  int64_t put_yesterday = 0, put_today = 0, get_yesterday = 0, get_today = 0;
};

BrokerStats::BrokerStats(std::string cluster_name, NowMs now_ms)
    : impl_(std::make_unique<Impl>(std::move(cluster_name), std::move(now_ms))) {}
BrokerStats::~BrokerStats() = default;

void BrokerStats::on_put(std::string_view topic, int64_t messages, int64_t bytes, int64_t time_ms) {
  TopicCounters counters;
  on_put(counters, topic, messages, bytes, time_ms);
}

void BrokerStats::on_put(TopicCounters& counters, std::string_view topic, int64_t messages, int64_t bytes,
                         int64_t time_ms) {
  Slot& slot = impl_->slot();
  slot.put_messages.fetch_add(messages, kRelaxed);
  slot.put_bytes.fetch_add(bytes, kRelaxed);
  const auto* bound = kTimeBounds.begin();
  if (time_ms > *bound) bound = std::lower_bound(kTimeBounds.begin(), kTimeBounds.end(), time_ms);
  slot.put_times[static_cast<size_t>(bound - kTimeBounds.begin())].fetch_add(1, kRelaxed);
  raise_to(impl_->put_time_max, time_ms);
  impl_->broker_put.add(messages);
  auto* series = static_cast<TopicSeries*>(counters.series_.get());
  if (series == nullptr || series->gone.load(kRelaxed)) {
    counters.series_ = impl_->topics.find(topic);
    if (counters.series_ == nullptr) counters.series_ = impl_->topics.find_or_add(topic, impl_->now_ms());
    series = static_cast<TopicSeries*>(counters.series_.get());
  }
  series->put_nums.add(messages);
  series->put_size.add(bytes);
  series->put_latency.add(time_ms);
}

void BrokerStats::on_get(std::string_view group, std::string_view topic, int64_t messages, int64_t bytes,
                         int64_t time_ms) {
  impl_->got(group, topic, messages, bytes, time_ms);
}

void BrokerStats::on_pull(std::string_view group, std::string_view topic, int64_t messages, int64_t bytes,
                          int64_t time_ms, int64_t latency_ms) {
  impl_->got(group, topic, messages, bytes, time_ms)->get_latency.add(latency_ms);
}

void BrokerStats::on_get_miss() { impl_->slot().missed.fetch_add(1, kRelaxed); }

void BrokerStats::on_send_back(std::string_view group, std::string_view topic) {
  impl_->groups.find_or_add(topic_at_group(topic, group), impl_->now_ms())->sent_back.add(1);
}

void BrokerStats::on_get_latency(std::string_view group, std::string_view topic, int32_t /*queue_id*/,
                                 int64_t latency_ms) {
  impl_->groups.find_or_add(topic_at_group(topic, group), impl_->now_ms())->get_latency.add(latency_ms);
}

void BrokerStats::tick() {
  const int64_t now = impl_->now_ms();
  const Sums sums = impl_->sums();
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->seconds.push_back({now, sums});
    if (impl_->seconds.size() > kSecondSamples) impl_->seconds.pop_front();
    if (int today = local_day(now); today != impl_->day) {
      impl_->day = today;
      impl_->put_yesterday = std::exchange(impl_->put_today, sums.put_messages);
      impl_->get_yesterday = std::exchange(impl_->get_today, sums.get_messages);
    }
  }
  auto sample = [now](Series& series) { series.sample(now); };
  sample(impl_->broker_put);
  sample(impl_->broker_get);
  impl_->topics.each([&sample](TopicSeries& topic) { topic.each(sample); });
  impl_->groups.each([&sample](GroupSeries& group) { group.each(sample); });
}

BrokerStats::Totals BrokerStats::totals() const {
  Totals totals;
  const Sums sums = impl_->sums();
  totals.put_messages = sums.put_messages;
  totals.put_bytes = sums.put_bytes;
  totals.get_messages = sums.get_messages;
  totals.get_bytes = sums.get_bytes;
  totals.put_time_max_ms = impl_->put_time_max.load(kRelaxed);
  totals.get_time_max_ms = impl_->get_time_max.load(kRelaxed);
  for (size_t i = 0; i < kTimeNames.size(); ++i) {
    int64_t count = 0;
    for (const auto& slot : impl_->slots) count += slot.put_times[i].load(kRelaxed);
    totals.put_time_distribution += fmt::format("{}:{} ", kTimeNames[i], count);
  }
  std::lock_guard<std::mutex> lock(impl_->mutex);
  totals.put_yesterday_morning = impl_->put_yesterday;
  totals.put_today_morning = impl_->put_today;
  totals.get_yesterday_morning = impl_->get_yesterday;
  totals.get_today_morning = impl_->get_today;
  totals.put = impl_->rates(&Sums::put_messages);
  totals.get_messages_rate = impl_->rates(&Sums::get_messages);
  totals.get_found = impl_->rates(&Sums::found);
  totals.get_miss = impl_->rates(&Sums::missed);
  return totals;
}

std::optional<BrokerStats::Item> BrokerStats::item(std::string_view name, std::string_view key) const {
  const int64_t now = impl_->now_ms();
  auto one_of = [now, name](auto series, auto&&... pairs) -> std::optional<Item> {
    std::optional<Item> item;
    if (series != nullptr) ((name == pairs.first ? void(item = ((*series).*(pairs.second)).item(now)) : void()), ...);
    return item;
  };
  using std::pair;
  if (name == "BROKER_PUT_NUMS" && key == impl_->cluster) return impl_->broker_put.item(now);
  if (name == "BROKER_GET_NUMS" && key == impl_->cluster) return impl_->broker_get.item(now);
  if (name == "TOPIC_PUT_NUMS" || name == "TOPIC_PUT_SIZE" || name == "TOPIC_PUT_LATENCY")
    return one_of(impl_->topics.find(key), pair("TOPIC_PUT_NUMS", &TopicSeries::put_nums),
                  pair("TOPIC_PUT_SIZE", &TopicSeries::put_size), pair("TOPIC_PUT_LATENCY", &TopicSeries::put_latency));
  // 4.9 asks for the latency of one queue; it is kept for all queues together.
  if (name == "GROUP_GET_LATENCY" && std::count(key.begin(), key.end(), '@') == 2) key.remove_prefix(key.find('@') + 1);
  return one_of(impl_->groups.find(key), pair("GROUP_GET_NUMS", &GroupSeries::get_nums),
                pair("GROUP_GET_SIZE", &GroupSeries::get_size), pair("GROUP_GET_LATENCY", &GroupSeries::get_latency),
                pair("SNDBCK_PUT_NUMS", &GroupSeries::sent_back));
}

double BrokerStats::consume_tps(std::string_view group, std::string_view topic) const {
  auto series = impl_->groups.find(topic_at_group(topic, group));
  return series == nullptr ? 0 : series->get_nums.item(impl_->now_ms()).minute.per_second;
}

double BrokerStats::topic_put_tps(std::string_view topic) const {
  auto series = impl_->topics.find(topic);
  return series == nullptr ? 0 : series->put_nums.item(impl_->now_ms()).minute.per_second;
}

void BrokerStats::remove_topic(std::string_view topic) {
  if (auto series = impl_->topics.find(topic)) series->gone = true;
  impl_->topics.remove_if([topic](std::string_view key) { return key == topic; });
  const std::string prefix = topic_at_group(topic, "");
  impl_->groups.remove_if([&prefix](std::string_view key) { return key.substr(0, prefix.size()) == prefix; });
}

void BrokerStats::remove_group(std::string_view group) {
  const std::string suffix = topic_at_group("", group);
  impl_->groups.remove_if([&suffix](std::string_view key) {
    return key.size() > suffix.size() && key.substr(key.size() - suffix.size()) == suffix;
  });
}

}  // namespace apogee::broker
