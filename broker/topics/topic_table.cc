#include "broker/topics/topic_table.h"

#include <algorithm>
#include <array>
#include <future>
#include <utility>

#include "common/base/text.h"
#include "common/config/properties_file.h"

namespace apogee::broker {

namespace {

constexpr std::array<std::string_view, 7> kClosedToSenders = {
    "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",     "OFFSET_MOVED_EVENT",       "rmq_sys_wheel_timer"};
constexpr std::string_view kSystemTopicPrefix = "rmq_sys_";
constexpr int32_t kReadWrite = remoting::perm::kRead | remoting::perm::kWrite;

Status check_config(const TopicConfig& config) {
  APOGEE_TRY(check_topic_name(config.topic_name));
  auto wrong = [&config](const char* field, int32_t value) {
    return Error{Errc::kInvalidArgument, "topic " + config.topic_name + ": " + field + " is " + std::to_string(value)};
  };
  if (config.read_queue_nums < 0 || config.read_queue_nums > kTopicQueuesMax)
    return wrong("readQueueNums", config.read_queue_nums);
  if (config.write_queue_nums < 0 || config.write_queue_nums > kTopicQueuesMax)
    return wrong("writeQueueNums", config.write_queue_nums);
  if (config.perm < 0 || config.perm > 15) return wrong("perm", config.perm);
  return {};
}

TopicConfig config_of(std::string_view topic, int32_t queues, int32_t perm = kReadWrite) {
  TopicConfig config;
  config.topic_name = std::string(topic);
  config.read_queue_nums = config.write_queue_nums = queues;
  config.perm = perm;
  return config;
}

std::vector<TopicConfig> built_in_topics(const TopicTable::Options& options) {
  constexpr int32_t inherit = remoting::perm::kInherit;
  std::vector<TopicConfig> topics = {
      config_of("SELF_TEST_TOPIC", 1),
      config_of("BenchmarkTest", 1024),
      config_of(options.cluster_name, 16, options.cluster_topic ? inherit | kReadWrite : inherit),
      config_of(options.broker_name, 1, options.broker_topic ? inherit | kReadWrite : inherit),
      config_of("OFFSET_MOVED_EVENT", 1),
      config_of("SCHEDULE_TOPIC_XXXX", 18),
      config_of(reply_topic_of(options.cluster_name), 1),
      config_of("RMQ_SYS_TRANS_HALF_TOPIC", 1),
      config_of("RMQ_SYS_TRANS_OP_HALF_TOPIC", 1),
      config_of("TRANS_CHECK_MAX_TIME_TOPIC", 1),
      config_of("rmq_sys_SYNC_BROKER_MEMBER_" + options.broker_name, 1),
      config_of("rmq_sys_REVIVE_LOG_" + options.cluster_name, 8),
      config_of("rmq_sys_wheel_timer", 1),
  };
  if (options.auto_create)
    topics.push_back(config_of(kAutoCreateTopic, options.default_queue_nums, inherit | kReadWrite));
  if (!options.trace_topic.empty()) topics.push_back(config_of(options.trace_topic, 1));
  return topics;
}

Status wait_for(const std::function<void(TopicTable::Done)>& change) {
  auto result = std::make_shared<std::promise<Status>>();
  auto future = result->get_future();
  change([result](Status status) { result->set_value(std::move(status)); });
  return future.get();
}

}  // namespace

bool is_closed_to_senders(std::string_view topic) {
  return std::find(kClosedToSenders.begin(), kClosedToSenders.end(), topic) != kClosedToSenders.end();
}

TopicTable::TopicTable(Options options, const Logger& logger, NowMs now_ms)
    : options_(std::move(options)),
      logger_(logger),
      now_ms_(std::move(now_ms)),
      auto_create_(options_.auto_create),
      table_(std::make_shared<const Table>()) {
  for (const auto& config : built_in_topics(options_)) system_topics_.insert(config.topic_name);
  for (std::string_view topic :
       {kAutoCreateTopic, std::string_view("RMQ_SYS_TRACE_TOPIC"), std::string_view("CHECKPOINT_TOPIC")})
    system_topics_.emplace(topic);
  version_.timestamp = now_ms_();
  Table table;
  add_built_in(table);
  table_ = std::make_shared<const Table>(std::move(table));
  generation_.fetch_add(1);
  writer_ = std::thread([this] { run_writer(); });
}

TopicTable::~TopicTable() {
  {
    std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queue_filled_.notify_all();
  writer_.join();
}

void TopicTable::add_built_in(Table& table) {
  for (auto& config : built_in_topics(options_)) {
    std::string name = config.topic_name;
    table.try_emplace(std::move(name), std::make_shared<const TopicConfig>(std::move(config)));
  }
  if (options_.auto_create) return;
  if (auto found = table.find(kAutoCreateTopic); found != table.end()) table.erase(found);
}

Status TopicTable::read(const std::string& path, Table& table, remoting::DataVersion& version,
                        std::string& other_members) const {
  APOGEE_TRY_ASSIGN(std::string text, config::read_whole_file(path));
  if (trim(text).empty()) return Error{Errc::kCorrupt, path + ": it is empty"};
  auto wrapper = remoting::decode_topic_config_serialize_wrapper(text);
  if (!wrapper) return Error{Errc::kCorrupt, path + ": " + wrapper.error().message};
  table.clear();
  for (auto& [name, config] : wrapper->topic_config_table) {
    config.topic_name = name;
    if (Status status = check_config(config); !status) {
      logger_.warn("{}: passed over: {}", path, status.error().message);
      continue;
    }
    table[name] = std::make_shared<const TopicConfig>(std::move(config));
  }
  version = wrapper->data_version;
  other_members = std::move(wrapper->other_members);
  return {};
}

Status TopicTable::load() {
  if (options_.file.empty()) return {};
  Table table;
  remoting::DataVersion version;
  std::string other_members;
  Status status = read(options_.file, table, version, other_members);
  if (!status) {
    Status from_backup = read(options_.file + ".bak", table, version, other_members);
    const bool none = status.error().code == Errc::kNotFound;
    if (!from_backup) {
      if (none && from_backup.error().code == Errc::kNotFound) return {};
      return none ? from_backup : status;
    }
    logger_.warn("{}: its copy .bak is used instead", status.error().message);
  }
  add_built_in(table);
  std::unique_lock lock(mutex_);
  table_ = std::make_shared<const Table>(std::move(table));
  generation_.fetch_add(1);
  version_ = version;
  other_members_ = std::move(other_members);
  return {};
}

Status TopicTable::write(const Table& table, const remoting::DataVersion& version) const {
  if (options_.file.empty()) return {};
  remoting::TopicConfigSerializeWrapper wrapper;
  wrapper.data_version = version;
  wrapper.other_members = other_members_;
  for (const auto& [name, config] : table) wrapper.topic_config_table[name] = *config;
  return config::replace_file(options_.file, encode(wrapper));
}

std::shared_ptr<const TopicTable::Table> TopicTable::snapshot() const {
  std::shared_lock lock(mutex_);
  return table_;
}

std::shared_ptr<const TopicConfig> TopicTable::find(std::string_view topic) const {
  auto table = snapshot();
  auto found = table->find(topic);
  return found == table->end() ? nullptr : found->second;
}

remoting::DataVersion TopicTable::data_version() const {
  std::shared_lock lock(mutex_);
  return version_;
}

remoting::TopicConfigSerializeWrapper TopicTable::contents() const {
  std::shared_ptr<const Table> table;
  remoting::TopicConfigSerializeWrapper wrapper;
  {
    std::shared_lock lock(mutex_);
    table = table_;
    wrapper.data_version = version_;
  }
  for (const auto& [name, config] : *table) wrapper.topic_config_table[name] = *config;
  return wrapper;
}

bool TopicTable::is_system_topic(std::string_view topic) const {
  return system_topics_.find(topic) != system_topics_.end() ||
         topic.substr(0, kSystemTopicPrefix.size()) == kSystemTopicPrefix;
}

void TopicTable::submit(Change change) {
  if (read_only_.load(std::memory_order_relaxed) && !change.topic.empty())
    return change.done(
        Error{Errc::kPermission, "the broker is a slave: topic " + change.topic + " is to be changed at its master"});
  {
    std::lock_guard lock(queue_mutex_);
    if (!stopping_) {
      queue_.push_back(std::move(change));
      queue_filled_.notify_one();
      return;
    }
  }
  change.done(Error{Errc::kClosed, "the broker is stopping"});
}

void TopicTable::submit_config(TopicConfig config, bool only_if_absent, Until until, Done done) {
  if (Status status = check_config(config); !status) return done(std::move(status));
  Change change;
  change.topic = config.topic_name;
  change.config = std::make_shared<const TopicConfig>(std::move(config));
  change.only_if_absent = only_if_absent;
  change.until = until;
  change.done = std::move(done);
  submit(std::move(change));
}

void TopicTable::put_async(TopicConfig config, Until until, Done done) {
  submit_config(std::move(config), false, until, std::move(done));
}

Status TopicTable::put(TopicConfig config, Until until) {
  return wait_for([&](Done done) { put_async(std::move(config), until, std::move(done)); });
}

Status TopicTable::remove(std::string_view topic) {
  if (is_system_topic(topic))
    return Error{Errc::kPermission, "topic " + std::string(topic) + " is a system topic and cannot be removed"};
  return wait_for([&](Done done) {
    Change change;
    change.topic = std::string(topic);
    change.done = std::move(done);
    submit(std::move(change));
  });
}

void TopicTable::create_from_template(std::string_view topic, std::string_view default_topic, int32_t queue_nums,
                                      int32_t topic_sys_flag, Done done) {
  auto pattern = find(default_topic);
  const bool allowed = pattern != nullptr && (pattern->perm & remoting::perm::kInherit) != 0 &&
                       (default_topic != kAutoCreateTopic || auto_create_.load(std::memory_order_relaxed));
  if (!allowed) return done(Error{Errc::kNotFound, "topic[" + std::string(topic) + "] not exist, apply first please!"});
  TopicConfig config = *pattern;
  config.topic_name = std::string(topic);
  const int32_t queues = std::max(1, std::min(queue_nums, pattern->write_queue_nums));
  config.read_queue_nums = config.write_queue_nums = queues;
  config.perm &= ~remoting::perm::kInherit;
  config.topic_sys_flag = topic_sys_flag;
  config.attributes.clear();
  config.other_members.clear();
  submit_config(std::move(config), true, Until::kSaved, std::move(done));
}

void TopicTable::create_group_topic(std::string_view topic, int32_t queue_nums, int32_t topic_sys_flag, Done done) {
  if (find(topic) != nullptr || read_only_.load(std::memory_order_relaxed)) return done({});
  TopicConfig config = config_of(topic, queue_nums);
  config.topic_sys_flag = topic_sys_flag;
  submit_config(std::move(config), true, Until::kSaved, std::move(done));
}

Status TopicTable::take_over(remoting::TopicConfigSerializeWrapper master) {
  for (auto& [name, config] : master.topic_config_table) {
    config.topic_name = name;
    APOGEE_TRY(check_config(config));
  }
  return wait_for([&](Done done) {
    Change change;
    change.whole = std::make_shared<const remoting::TopicConfigSerializeWrapper>(std::move(master));
    change.done = std::move(done);
    submit(std::move(change));
  });
}

void TopicTable::touch(Done done) {
  Change change;
  change.done = std::move(done);
  submit(std::move(change));
}

void TopicTable::run_writer() {
  for (;;) {
    std::vector<Change> changes;
    ChangeListener listener;
    {
      std::unique_lock lock(queue_mutex_);
      queue_filled_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      changes.swap(queue_);
      listener = listener_;
    }
    apply(std::move(changes), listener);
  }
}

// Only this thread changes the table, so what it has read stays true until it publishes.
void TopicTable::apply(std::vector<Change> changes, const ChangeListener& listener) {
  auto next = std::make_shared<Table>(*snapshot());
  std::vector<std::string> changed;
  std::vector<Status> results(changes.size());
  bool differs = false;
  const remoting::DataVersion* taken_over = nullptr;
  for (size_t i = 0; i < changes.size(); ++i) {
    const Change& change = changes[i];
    auto found = next->find(change.topic);
    if (change.whole != nullptr) {
      Table before = std::move(*next);
      next->clear();
      for (const auto& [name, config] : change.whole->topic_config_table) {
        const auto known = before.find(name);
        const bool same = known != before.end() && *known->second == config;
        (*next)[name] = same ? known->second : std::make_shared<const TopicConfig>(config);
        if (!same) changed.push_back(name);
      }
      taken_over = &change.whole->data_version;
      differs = true;
    } else if (change.topic.empty()) {
      differs = true;
    } else if (change.config == nullptr) {
      if (found == next->end()) {
        results[i] = Error{Errc::kNotFound, "topic " + change.topic + " does not exist"};
      } else {
        next->erase(found);
        differs = true;
      }
    } else if (found == next->end() || !change.only_if_absent) {
      (*next)[change.topic] = change.config;
      changed.push_back(change.topic);
      differs = true;
    }
  }
  if (differs) {
    remoting::DataVersion version = data_version();
    version.timestamp = now_ms_();
    ++version.counter;
    if (taken_over != nullptr) version = *taken_over;
    if (Status written = write(*next, version); !written) {
      logger_.error("topics are not saved: {}", written.error().message);
      for (auto& change : changes) change.done(written.error());
      return;
    }
    std::unique_lock lock(mutex_);
    table_ = next;
    generation_.fetch_add(1);
    version_ = version;
  }
  // Whoever waits for the NameServers is told by the listener; the others now.
  std::vector<std::pair<Done, Status>> later;
  for (size_t i = 0; i < changes.size(); ++i) {
    if (changes[i].until == Until::kRegistered && listener && !changed.empty() && results[i]) {
      later.emplace_back(std::move(changes[i].done), std::move(results[i]));
    } else {
      changes[i].done(std::move(results[i]));
    }
  }
  if (changed.empty() || !listener) return;
  listener(changed, [later = std::make_shared<decltype(later)>(std::move(later))] {
    for (auto& [done, status] : *later) done(std::move(status));
  });
}

}  // namespace apogee::broker
