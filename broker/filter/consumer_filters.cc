#include "broker/filter/consumer_filters.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"
#include "common/config/properties_file.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

namespace {

/// Expressions that are kept compiled for requests that bring theirs along.
constexpr size_t kCompiledMax = 100;
constexpr int64_t kLogEveryMs = 60'000;
/// Who was alive when the file was written died so long before it was read.
constexpr int64_t kDeadBeforeLoadMs = 30'000;

}  // namespace

ConsumerFilters::ConsumerFilters(std::string file, const BrokerConfig& config, const Logger& logger, NowMs now_ms)
    : file_(std::move(file)), config_(config), logger_(logger), now_ms_(std::move(now_ms)) {}

void ConsumerFilters::load() {
  if (file_.empty()) return;
  remoting::ConsumerFilterTable table;
  for (const std::string& path : {file_, file_ + ".bak"}) {
    auto text = config::read_whole_file(path);
    if (!text && text.error().code == Errc::kNotFound) continue;
    auto read = text ? remoting::decode_consumer_filter_table(*text) : text.error();
    if (read) {
      table = std::move(*read);
      break;
    }
    logger_.warn("{}: {}; groups with SQL filters register again", path, read.error().message);
  }
  const int64_t now = now_ms_();
  std::lock_guard lock(mutex_);
  for (auto& [topic, groups] : table.by_topic) {
    for (auto& [group, data] : groups) {
      Entry entry;
      entry.data = std::move(data);
      entry.data.topic = topic;
      entry.data.consumer_group = group;
      if (entry.data.dead_time_ms == 0)
        entry.data.dead_time_ms = std::max(now - kDeadBeforeLoadMs, entry.data.born_time_ms);
      auto compiled = compile_locked(entry.data.expression_type, entry.data.expression);
      if (!compiled) {
        logger_.warn("{}: filter of group {} on topic {}: {}", file_, group, topic, compiled.error().message);
        continue;
      }
      entry.expression = std::move(*compiled);
      groups_[group][topic] = std::move(entry);
    }
  }
}

void ConsumerFilters::clean_locked(int64_t now) {
  const int64_t life = config_.filter_data_life_ms;
  for (auto group = groups_.begin(); group != groups_.end();) {
    auto& topics = group->second;
    for (auto at = topics.begin(); at != topics.end();) {
      const int64_t dead = at->second.data.dead_time_ms;
      if (dead == 0 || now - dead < life) {
        ++at;
        continue;
      }
      changed_ = true;
      at = topics.erase(at);
    }
    group = topics.empty() ? groups_.erase(group) : std::next(group);
  }
}

remoting::ConsumerFilterTable ConsumerFilters::table_locked() const {
  remoting::ConsumerFilterTable table;
  for (const auto& [group, topics] : groups_)
    for (const auto& [topic, entry] : topics)
      if (entry.expression != nullptr) table.by_topic[topic][group] = entry.data;
  return table;
}

std::string ConsumerFilters::to_json() const {
  std::lock_guard lock(mutex_);
  return encode(table_locked());
}

Status ConsumerFilters::take_over(std::string_view json) {
  APOGEE_TRY_ASSIGN(auto table, remoting::decode_consumer_filter_table(json));
  const int64_t now = now_ms_();
  std::lock_guard lock(mutex_);
  for (auto& [topic, groups] : table.by_topic) {
    for (auto& [group, data] : groups) {
      auto& known = groups_[group][topic];
      if (known.expression != nullptr && known.data.client_version >= data.client_version) continue;
      auto compiled = compile_locked(data.expression_type, data.expression);
      if (!compiled) continue;  // the master, which compiled it, is another release
      known.expression = std::move(*compiled);
      known.problem.clear();
      known.data = std::move(data);
      known.data.topic = topic;
      known.data.consumer_group = group;
      // Here the group counts as gone until it registers, as after a start.
      if (known.data.dead_time_ms == 0) known.data.dead_time_ms = now;
      changed_ = true;
    }
  }
  return {};
}

Status ConsumerFilters::save_if_changed() {
  remoting::ConsumerFilterTable table;
  {
    std::lock_guard lock(mutex_);
    clean_locked(now_ms_());
    if (!std::exchange(changed_, false) || file_.empty()) return {};
    table = table_locked();
  }
  Status status = config::replace_file(file_, encode(table));
  if (!status) {
    std::lock_guard lock(mutex_);
    changed_ = true;
  }
  return status;
}

Result<ConsumerFilters::ExpressionPtr> ConsumerFilters::compile(std::string_view type, const std::string& expression) {
  std::lock_guard lock(mutex_);
  return compile_locked(type, expression);
}

Result<ConsumerFilters::ExpressionPtr> ConsumerFilters::compile_locked(std::string_view type,
                                                                       const std::string& expression) {
  if (type != kSql92)
    return Error{Errc::kInvalidArgument, "unknown expressionType " + std::string(type) + ": TAG or SQL92 is wanted"};
  auto found = compiled_.find(expression);
  if (found == compiled_.end()) {
    Compiled made;
    if (auto compiled = SqlExpression::compile(expression)) {
      made.expression = std::move(*compiled);
    } else if (expression.size() > kSqlBytesMax) {
      return std::move(compiled).error();  // too long to be kept
    } else {
      made.problem = compiled.error().message;
    }
    if (compiled_.size() >= kCompiledMax)
      compiled_.erase(std::min_element(compiled_.begin(), compiled_.end(),
                                       [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
    found = compiled_.emplace(expression, std::move(made)).first;
  }
  found->second.used = ++uses_;
  if (found->second.expression == nullptr) return Error{Errc::kInvalidArgument, found->second.problem};
  return found->second.expression;
}

void ConsumerFilters::register_one(const Subscription& subscription, const std::string& group, Topics& topics,
                                   int64_t now) {
  auto [at, added] = topics.try_emplace(subscription.topic);
  Entry& entry = at->second;
  auto& data = entry.data;
  auto alive = [&] {
    if (std::exchange(data.dead_time_ms, 0) != 0) changed_ = true;
  };
  if (!added && subscription.version <= data.client_version) {
    if (subscription.version == data.client_version) alive();
    return;
  }
  if (!added && data.expression == subscription.expression && data.expression_type == subscription.expression_type) {
    data.client_version = subscription.version;
    changed_ = changed_ || entry.expression != nullptr;
    return alive();
  }
  const int64_t logged = entry.problem_logged_ms;
  entry = {};
  data.topic = subscription.topic;
  data.consumer_group = group;
  data.expression = subscription.expression;
  data.expression_type = subscription.expression_type;
  data.born_time_ms = now;
  data.client_version = subscription.version;
  changed_ = true;
  auto compiled = compile_locked(data.expression_type, data.expression);
  if (compiled) {
    entry.expression = std::move(*compiled);
    logger_.info("group {} filters topic {} by {}: {}", group, data.topic, data.expression_type, data.expression);
    return;
  }
  entry.problem = compiled.error().message;
  entry.problem_logged_ms = logged;
  if (logged != 0 && now - logged < kLogEveryMs) return;
  entry.problem_logged_ms = now;
  constexpr size_t kShownMax = 200;
  logger_.warn("group {}: its filter of topic {} cannot be used: {}: {}", group, data.topic, entry.problem,
               to_valid_utf8(data.expression.substr(0, kShownMax)));
}

void ConsumerFilters::register_group(const std::string& group, const std::vector<Subscription>& subscriptions) {
  std::lock_guard lock(mutex_);
  auto known = groups_.find(group);
  auto filters = [](const Subscription& s) { return !is_tag_type(s.expression_type) && !s.expression.empty(); };
  if (known == groups_.end()) {
    if (std::none_of(subscriptions.begin(), subscriptions.end(), filters)) return;
    known = groups_.try_emplace(group).first;
  }
  const int64_t now = now_ms_();
  for (const auto& subscription : subscriptions)
    if (filters(subscription)) register_one(subscription, group, known->second, now);
  // Topics that the group does not filter any more.
  for (auto& [topic, entry] : known->second) {
    if (entry.data.dead_time_ms != 0) continue;
    const auto same = [name = std::string_view(topic), &filters](const Subscription& s) {
      return s.topic == name && filters(s);
    };
    if (std::any_of(subscriptions.begin(), subscriptions.end(), same)) continue;
    entry.data.dead_time_ms = now;
    changed_ = true;
  }
}

void ConsumerFilters::unregister_group(const std::string& group) {
  std::lock_guard lock(mutex_);
  auto known = groups_.find(group);
  if (known == groups_.end()) return;
  const int64_t now = now_ms_();
  for (auto at = known->second.begin(); at != known->second.end();) {
    changed_ = true;
    if (at->second.expression == nullptr) {
      at = known->second.erase(at);
      continue;
    }
    if (at->second.data.dead_time_ms == 0) at->second.data.dead_time_ms = now;
    ++at;
  }
  if (known->second.empty()) groups_.erase(known);
}

ConsumerFilters::Filter ConsumerFilters::find(std::string_view topic, std::string_view group) const {
  std::lock_guard lock(mutex_);
  auto topics = groups_.find(group);
  if (topics == groups_.end()) return {};
  auto found = topics->second.find(topic);
  if (found == topics->second.end()) return {};
  return {found->second.expression, found->second.data.client_version, found->second.problem};
}

bool ConsumerFilters::matches_retry(std::string_view group, std::string_view properties) const {
  ExpressionPtr expression;
  {
    std::lock_guard lock(mutex_);
    auto topics = groups_.find(group);
    if (topics == groups_.end()) return true;
    const auto topic = message::find_property(properties, message::property::kRetryTopic);
    if (!topic) return true;
    auto found = topics->second.find(*topic);
    // A filter that the group has given up is none.
    if (found == topics->second.end() || found->second.data.dead_time_ms != 0) return true;
    expression = found->second.expression;
  }
  return expression == nullptr || expression->matches(properties);
}

}  // namespace apogee::broker
