#include "test/unit/client/fake_cluster.h"

#include <utility>

#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/sys_flag.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/route_bodies.h"
#include "test/support/catch.h"
#include "test/support/wait.h"

namespace apogee::test {

using remoting::Command;
using remoting::RequestCode;
namespace rc = remoting::response_code;

namespace {

remoting::RemotingServer::Options loopback() {
  remoting::RemotingServer::Options options;
  options.bind_address = "127.0.0.1";
  options.ports = {0};
  options.io_threads = 1;
  return options;
}

constexpr int64_t kPhysicalStep = 1'000;
const std::string kIp("\x7f\0\0\x01", 4);

std::string text(const Command& request, const char* name) { return std::string(request.ext.get(name).value_or("")); }

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  return test::eventually(condition, std::chrono::seconds(10));
}

bool time_passes(FakeCluster& cluster) {
  const int before = cluster.broker().count(RequestCode::kHeartBeat);
  return eventually([&] { return cluster.broker().count(RequestCode::kHeartBeat) >= before + 8; });
}

FakeBroker::FakeBroker(std::string name) : name_(std::move(name)), server_(loopback(), logger_) {
  server_.set_handler([this](const remoting::Caller& caller, Command request, remoting::Responder respond) {
    handle(caller, std::move(request), std::move(respond));
  });
  server_.set_close_listener([this](remoting::ConnectionId connection, const std::string&) {
    std::vector<std::string> changed;
    {
      std::lock_guard lock(mutex_);
      for (auto& [group, members] : members_) {
        for (auto member = members.begin(); member != members.end();) {
          if (member->second == connection) {
            member = members.erase(member);
            changed.push_back(group);
          } else {
            ++member;
          }
        }
      }
    }
    for (const auto& group : changed) notify_members(group);
  });
  REQUIRE(server_.start());
}

FakeBroker::~FakeBroker() { stop(); }
void FakeBroker::suggest(int64_t broker_id) {
  std::lock_guard lock(mutex_);
  suggested_ = broker_id;
}
void FakeBroker::stop() {
  server_.stop();
  timers_.stop_and_join();
}
std::string FakeBroker::address() const { return "127.0.0.1:" + std::to_string(server_.port()); }

void FakeBroker::set_intercept(Intercept intercept) {
  std::lock_guard lock(mutex_);
  intercept_ = std::move(intercept);
}
void FakeBroker::ignore(RequestCode code) {
  std::lock_guard lock(mutex_);
  ignored_.insert(static_cast<int32_t>(code));
}
int FakeBroker::count(RequestCode code) { return static_cast<int>(requests(code).size()); }
std::vector<Command> FakeBroker::requests(RequestCode code) {
  std::vector<Command> found;
  std::lock_guard lock(mutex_);
  for (const auto& request : seen_) {
    if (request.request_code() == code) found.push_back(request);
  }
  return found;
}
size_t FakeBroker::stored(const std::string& topic) {
  size_t count = 0;
  std::lock_guard lock(mutex_);
  for (const auto& [key, records] : records_) {
    if (key.first == topic) count += records.size();
  }
  return count;
}
std::optional<int64_t> FakeBroker::offset(const std::string& group, const std::string& topic, int queue) {
  std::lock_guard lock(mutex_);
  auto found = offsets_.find({group, {topic, queue}});
  if (found == offsets_.end()) return std::nullopt;
  return found->second;
}
void FakeBroker::set_offset(const std::string& group, const std::string& topic, int queue, int64_t offset) {
  std::lock_guard lock(mutex_);
  offsets_[{group, {topic, queue}}] = offset;
}
size_t FakeBroker::members(const std::string& group) {
  std::lock_guard lock(mutex_);
  return members_[group].size();
}
std::map<MessageQueue, std::string> FakeBroker::locks() {
  std::map<MessageQueue, std::string> held;
  std::lock_guard lock(mutex_);
  for (const auto& [key, owner] : locks_)
    if (!owner.empty()) held[key.second] = owner;
  return held;
}
void FakeBroker::set_lock(const std::string& group, const MessageQueue& queue, const std::string& owner) {
  std::lock_guard lock(mutex_);
  locks_[{group, queue}] = owner;
}

void FakeBroker::notify_members(const std::string& group) {
  Command request = Command::request(RequestCode::kNotifyConsumerIdsChanged);
  request.ext.set("consumerGroup", group);
  ask_members(group, std::move(request), true);
}

void FakeBroker::ask_producers(const Command& request) {
  std::set<remoting::ConnectionId> connections;
  {
    std::lock_guard lock(mutex_);
    connections = producers_;
  }
  for (auto connection : connections) server_.send_oneway(connection, request);
}

std::optional<Command> FakeBroker::ask_members(const std::string& group, Command request, bool oneway) {
  std::vector<remoting::ConnectionId> connections;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [client, connection] : members_[group]) connections.push_back(connection);
  }
  std::optional<Command> first;
  for (auto connection : connections) {
    if (oneway) {
      server_.send_oneway(connection, request);
      continue;
    }
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    server_.call(connection, request, 5'000, [&](Result<Command> reply) {
      std::lock_guard lock(mutex);
      if (reply && !first) first = std::move(*reply);
      done = true;
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return done; });
  }
  return first;
}

int64_t FakeBroker::append(const std::string& topic, int queue, const std::string& body, const std::string& tag,
                           int reconsume_times, const std::string& properties) {
  std::vector<Held> held;
  int64_t offset = 0;
  {
    std::lock_guard lock(mutex_);
    std::string all = properties;
    message::append_property(all, "TAGS", tag);
    offset = append_locked(topic, queue, body, all, 0, reconsume_times, &held);
  }
  wake(std::move(held));
  return offset;
}

int64_t FakeBroker::append_locked(const std::string& topic, int queue, const std::string& body,
                                  const std::string& properties, int sys_flag, int reconsume_times,
                                  std::vector<Held>* to_wake) {
  const QueueKey key{topic, queue};
  message::RecordFields fields;
  fields.topic = topic;
  fields.queue_id = queue;
  fields.sys_flag = sys_flag;
  fields.body = body;
  fields.properties = properties;
  fields.reconsume_times = reconsume_times;
  fields.born_host = {kIp, 1};
  fields.store_host = {kIp, server_.port()};
  const auto offset = static_cast<int64_t>(records_[key].size());
  records_[key].push_back(message::encode_record(fields, offset, static_cast<int64_t>(places_.size()) * kPhysicalStep));
  places_.emplace_back(records_[key].back(), key);
  for (auto& [id, held] : held_[key]) to_wake->push_back(std::move(held));
  held_[key].clear();
  return offset;
}

void FakeBroker::wake(std::vector<Held> held) {
  for (auto& pull : held) {
    Command reply;
    {
      std::lock_guard lock(mutex_);
      bool found = false;
      reply = pull_locked(pull.request, &found);
    }
    pull.respond(std::move(reply));
  }
}

Command FakeBroker::pull_locked(const Command& request, bool* found) {
  const QueueKey key{text(request, "topic"), request.ext.get_int<int>("queueId").value_or(-1)};
  const auto& records = records_[key];
  const int64_t from = request.ext.get_int<int64_t>("queueOffset").value_or(-1);
  const auto max = static_cast<int64_t>(records.size());
  const int64_t wanted = request.ext.get_int<int64_t>("maxMsgNums").value_or(32);
  Command reply = Command::response_to(request, rc::kSuccess);
  int64_t next = from;
  *found = true;
  if (from < 0 || from > max) {
    reply.code = rc::kPullOffsetMoved;
    next = max;
  } else if (from == max) {
    reply.code = rc::kPullNotFound;
    *found = false;
  } else {
    std::string body;
    for (; next < max && next - from < wanted; ++next) body += records[static_cast<size_t>(next)];
    reply.body = SharedBytes::from(std::move(body));
  }
  reply.ext.set("nextBeginOffset", next);
  reply.ext.set("minOffset", int64_t{0});
  reply.ext.set("maxOffset", max);
  reply.ext.set("suggestWhichBrokerId", suggested_);
  return reply;
}

void FakeBroker::handle(const remoting::Caller& caller, Command request, remoting::Responder respond) {
  Intercept intercept;
  {
    std::lock_guard lock(mutex_);
    seen_.push_back(request);
    if (ignored_.count(request.code) != 0) return;
    intercept = intercept_;
  }
  if (intercept) {
    if (auto reply = intercept(request)) return respond(std::move(*reply));
  }
  if (request.request_code() == RequestCode::kPullMessage) {
    const QueueKey key{text(request, "topic"), request.ext.get_int<int>("queueId").value_or(-1)};
    std::unique_lock lock(mutex_);
    bool found = false;
    Command reply = pull_locked(request, &found);
    if (found) {
      lock.unlock();
      return respond(std::move(reply));
    }
    const uint64_t id = ++next_held_;
    const auto suspend = request.ext.get_int<int64_t>("suspendTimeoutMillis").value_or(0);
    held_[key][id] = {std::move(request), std::move(respond)};
    lock.unlock();
    timers_.loop().post([this, key, id, suspend] {
      timers_.loop().run_after(loop::Milliseconds(suspend), [this, key, id] {
        std::vector<Held> expired;
        {
          std::lock_guard guard(mutex_);
          auto pull = held_[key].find(id);
          if (pull == held_[key].end()) return;
          expired.push_back(std::move(pull->second));
          held_[key].erase(pull);
        }
        wake(std::move(expired));
      });
    });
    return;
  }
  Command reply = answer(caller, request);
  if (!request.is_oneway()) respond(std::move(reply));
}

Command FakeBroker::answer(const remoting::Caller& caller, const Command& request) {
  Command reply = Command::response_to(request, rc::kSuccess);
  std::vector<Held> held;
  std::vector<std::string> changed;
  {
    std::lock_guard lock(mutex_);
    const QueueKey key{text(request, "topic"), request.ext.get_int<int>("queueId").value_or(-1)};
    const std::string group = text(request, "consumerGroup");
    switch (request.request_code()) {
      case RequestCode::kSendMessageV2:
      case RequestCode::kSendBatchMessage: {
        const std::string topic = text(request, "b");
        const int queue = request.ext.get_int<int>("e").value_or(-1);
        int64_t first = 0;
        if (text(request, "m") == "true") {
          auto batch = message::decode_batch(request.body.bytes);
          if (!batch) return Command::response_to(request, rc::kMessageIllegal, batch.error().message);
          first = static_cast<int64_t>(records_[{topic, queue}].size());
          for (const auto& part : *batch) {
            append_locked(topic, queue, std::string(part.body), std::string(part.properties), 0, 0, &held);
          }
        } else {
          first = append_locked(topic, queue, std::string(request.body.bytes), text(request, "i"),
                                request.ext.get_int<int>("f").value_or(0), request.ext.get_int<int>("j").value_or(0),
                                &held);
        }
        reply.ext.set("msgId", "7F00000100002A9F0000000000000000");
        reply.ext.set("queueId", queue);
        reply.ext.set("queueOffset", first);
        break;
      }
      case RequestCode::kHeartBeat: {
        auto data = remoting::decode_heartbeat_data(request.body.bytes);
        if (!data) return Command::response_to(request, rc::kSystemError, data.error().message);
        if (!data->producer_data_set.empty()) producers_.insert(caller.connection);
        for (const auto& consumer : data->consumer_data_set) {
          auto& members = members_[consumer.group_name];
          if (members.count(data->client_id) == 0) changed.push_back(consumer.group_name);
          members[data->client_id] = caller.connection;
        }
        break;
      }
      case RequestCode::kUnregisterClient:
        if (members_[group].erase(text(request, "clientID")) != 0) changed.push_back(group);
        break;
      case RequestCode::kGetConsumerListByGroup: {
        remoting::GetConsumerList list;
        for (const auto& [client, connection] : members_[group]) list.consumer_id_list.push_back(client);
        if (list.consumer_id_list.empty()) return Command::response_to(request, rc::kSystemError, "no consumer");
        reply.body = SharedBytes::from(remoting::encode(list));
        break;
      }
      case RequestCode::kQueryConsumerOffset: {
        auto found = offsets_.find({group, key});
        if (found == offsets_.end()) return Command::response_to(request, rc::kQueryNotFound, "not found");
        reply.ext.set("offset", found->second);
        break;
      }
      case RequestCode::kUpdateConsumerOffset:
        offsets_[{group, key}] = request.ext.get_int<int64_t>("commitOffset").value_or(-1);
        break;
      case RequestCode::kGetMaxOffset: reply.ext.set("offset", static_cast<int64_t>(records_[key].size())); break;
      case RequestCode::kGetMinOffset: reply.ext.set("offset", int64_t{0}); break;
      case RequestCode::kSearchOffsetByTimestamp: reply.ext.set("offset", int64_t{1}); break;
      case RequestCode::kLockBatchMq:
      case RequestCode::kUnlockBatchMq: {
        auto body = remoting::decode_lock_batch_request(request.body.bytes);
        if (!body) return Command::response_to(request, rc::kSystemError, body.error().message);
        remoting::LockBatchResponse granted;
        for (const auto& queue : body->mq_set) {
          auto& owner = locks_[{body->consumer_group, queue}];
          if (request.request_code() == RequestCode::kUnlockBatchMq) {
            if (owner == body->client_id) locks_.erase({body->consumer_group, queue});
          } else if (owner.empty() || owner == body->client_id) {
            owner = body->client_id;
            granted.lock_ok_mq_set.push_back(queue);
          }
        }
        reply.body = SharedBytes::from(remoting::encode(granted));
        break;
      }
      case RequestCode::kConsumerSendMsgBack: {
        const auto place = static_cast<size_t>(request.ext.get_int<int64_t>("offset").value_or(0) / kPhysicalStep);
        if (place >= places_.size()) return Command::response_to(request, rc::kSystemError, "no such message");
        auto record = message::decode_record(places_[place].first);
        if (!record) return Command::response_to(request, rc::kSystemError, "no such message");
        std::string properties(record->properties);
        if (!message::find_property(properties, "RETRY_TOPIC")) {
          message::set_property(properties, "RETRY_TOPIC", record->topic);
        }
        append_locked("%RETRY%" + text(request, "group"), 0, std::string(record->body), properties, record->sys_flag,
                      record->reconsume_times + 1, &held);
        break;
      }
      default: return Command::response_to(request, rc::kRequestCodeNotSupported, "not in this fake");
    }
  }
  wake(std::move(held));
  for (const auto& group : changed) notify_members(group);
  return reply;
}

FakeCluster::FakeCluster(int brokers) : server_(loopback(), logger_) {
  for (int i = 0; i < brokers; ++i) {
    brokers_.push_back(std::make_unique<FakeBroker>(std::string("broker-") + static_cast<char>('a' + i)));
  }
  server_.set_handler([this](const remoting::Caller&, Command request, remoting::Responder respond) {
    const std::string topic = text(request, "topic");
    std::lock_guard lock(mutex_);
    ++asked_[topic];
    auto found = topics_.find(topic);
    const bool retry = topic.rfind("%RETRY%", 0) == 0;
    if (request.request_code() != RequestCode::kGetRouteinfoByTopic || (found == topics_.end() && !retry)) {
      return respond(Command::response_to(request, rc::kTopicNotExist, "no route of topic " + topic));
    }
    const int queues = retry ? 1 : found->second;
    remoting::TopicRouteData data;
    for (const auto& broker : brokers_) {
      data.queue_datas.push_back({broker->name(), queues, queues, 6, 0});
      data.broker_datas.push_back({"C", broker->name(), {{0, broker->address()}}});
      if (!addresses_.empty() && broker == brokers_.front()) data.broker_datas.back().broker_addrs = addresses_;
      if (retry) break;
    }
    Command reply = Command::response_to(request, rc::kSuccess);
    reply.body = SharedBytes::from(remoting::encode(data));
    respond(std::move(reply));
  });
  REQUIRE(server_.start());
}

FakeCluster::~FakeCluster() { server_.stop(); }
std::string FakeCluster::name_servers() const { return "127.0.0.1:" + std::to_string(server_.port()); }
void FakeCluster::add_topic(const std::string& topic, int queues) {
  std::lock_guard lock(mutex_);
  topics_[topic] = queues;
}
void FakeCluster::set_addresses(std::map<int64_t, std::string> addresses) {
  std::lock_guard lock(mutex_);
  addresses_ = std::move(addresses);
}
int FakeCluster::route_requests(const std::string& topic) {
  std::lock_guard lock(mutex_);
  return asked_[topic];
}

}  // namespace apogee::test
