#include "broker/replication/escape.h"

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "broker/groups/client_info.h"
#include "common/base/text.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr int64_t kTimeoutMs = 3'000;
constexpr int64_t kRouteMs = 5'000;  // a route counts for so long
constexpr int32_t kDefaultQueues = 4;
constexpr const char* kDefaultTopic = "TBW102";
constexpr const char* kInnerProducer = "CLIENT_INNER_PRODUCER";

struct Target {
  std::string address, broker_name;
  int32_t queues = kDefaultQueues;
};

struct Letter {
  Command request;
  std::string topic;
  int32_t queue_id = 0;
  store::PutCallback done;
  bool again = false;  ///< it was refused by a master that is known no more
};

/// What would make the other master park or hide a message that has waited already.
std::string plain_properties(std::string_view from) {
  std::string properties(from);
  for (auto name : {property::kDelayLevel, property::kTransactionPrepared})
    if (message::find_property(properties, name)) message::remove_property(properties, name);
  return properties;
}

}  // namespace

struct Escape::Impl : std::enable_shared_from_this<Escape::Impl> {
  explicit Impl(const Parts& p) : parts(p) {}

  struct Known {
    std::vector<Target> targets;
    int64_t until_ms = 0;
    bool asking = false;
    std::vector<Letter> waiting;
  };
  using Found = std::function<void(Result<Command>)>;

  Parts parts;
  std::map<std::string, Known> topics;  // on the loop

  static void fail(const Letter& letter, store::PutStatus status, std::string why) {
    store::PutResult result;
    result.status = status;
    result.detail = std::move(why);
    letter.done(std::move(result));
  }

  void post(Letter letter) {
    auto& known = topics[letter.topic];
    if (!known.targets.empty() && steady_now_ms() < known.until_ms) return send_to(known, std::move(letter));
    const std::string topic = letter.topic;
    known.waiting.push_back(std::move(letter));
    if (std::exchange(known.asking, true)) return;
    auto request = Command::request(RequestCode::kGetRouteinfoByTopic);
    request.ext.set("topic", topic);
    request.ext.set("acceptStandardJsonOnly", true);
    ask(std::move(request), 0, [self = shared_from_this(), topic](const Result<Command>& reply) {
      std::vector<Target> targets;
      if (reply && reply->code == code::kSuccess)
        if (auto route = remoting::decode_topic_route_data(reply->body.bytes)) targets = self->writable(*route);
      if (!targets.empty() || !reply) return self->found(topic, std::move(targets), reply ? "" : reply.error().message);
      self->ask(Command::request(RequestCode::kGetBrokerClusterInfo), 0, [self, topic](const Result<Command>& all) {
        std::vector<Target> masters;
        if (all && all->code == code::kSuccess)
          if (auto info = remoting::decode_cluster_info(all->body.bytes)) masters = self->masters(*info);
        self->found(topic, std::move(masters), all ? "" : all.error().message);
      });
    });
  }

  [[nodiscard]] std::vector<Target> writable(const remoting::TopicRouteData& route) const {
    std::vector<Target> targets;
    for (const auto& queues : route.queue_datas) {
      if (queues.broker_name == parts.config.broker_name || (queues.perm & remoting::perm::kWrite) == 0) continue;
      for (const auto& broker : route.broker_datas) {
        auto master = broker.broker_addrs.find(0);
        if (broker.broker_name != queues.broker_name || master == broker.broker_addrs.end()) continue;
        if (queues.write_queue_nums > 0)
          targets.push_back({master->second, broker.broker_name, queues.write_queue_nums});
      }
    }
    return targets;
  }

  [[nodiscard]] std::vector<Target> masters(const remoting::ClusterInfo& info) const {
    std::vector<Target> targets;
    for (const auto& [name, broker] : info.broker_addr_table) {
      auto master = broker.broker_addrs.find(0);
      if (name == parts.config.broker_name || broker.cluster != parts.config.cluster_name) continue;
      if (master != broker.broker_addrs.end()) targets.push_back({master->second, name, kDefaultQueues});
    }
    return targets;
  }

  // The first NameServer that answers.
  void ask(Command request, size_t index, Found done) {
    const auto servers = split_addresses(parts.config.namesrv_addr.get());
    if (index >= servers.size()) return done(Error{Errc::kNetwork, "no NameServer answers"});
    parts.client.call(servers[index], request, kTimeoutMs,
                      [self = shared_from_this(), request, index, done = std::move(done)](Result<Command> reply) {
                        if (reply || reply.error().code == Errc::kClosed) return done(std::move(reply));
                        self->ask(request, index + 1, done);
                      });
  }

  void found(const std::string& topic, std::vector<Target> targets, const std::string& why) {
    auto& known = topics[topic];
    known.asking = false;
    known.targets = std::move(targets);
    known.until_ms = steady_now_ms() + kRouteMs;
    auto waiting = std::exchange(known.waiting, {});
    for (auto& letter : waiting) {
      if (!known.targets.empty()) {
        send_to(known, std::move(letter));
      } else {
        fail(letter, store::PutStatus::kServiceNotAvailable,
             why.empty() ? "the cluster " + parts.config.cluster_name + " has no other master" : why);
      }
    }
  }

  // What comes from one queue goes to one queue.
  void send_to(const Known& known, Letter letter) {
    const auto queue = static_cast<size_t>(std::max(letter.queue_id, 0));
    const Target target = known.targets[queue % known.targets.size()];
    Command request = letter.request;
    request.ext.set("e", static_cast<int32_t>(queue % static_cast<size_t>(target.queues)));
    request.ext.set("n", target.broker_name);
    parts.client.call(target.address, std::move(request), kTimeoutMs,
                      [self = shared_from_this(), letter = std::move(letter), target](const Result<Command>& reply) {
                        self->answered(letter, target, reply);
                      });
  }

  void answered(Letter letter, const Target& target, const Result<Command>& reply) {
    const int32_t answer = reply ? reply->code : code::kSystemError;
    switch (answer) {
      case code::kSuccess:
      case code::kFlushDiskTimeout:
      case code::kSlaveNotAvailable:
      case code::kFlushSlaveTimeout: {
        store::PutResult result;
        result.status = store::PutStatus::kOk;
        result.offsets = {0};
        result.queue_offset = 0;
        return letter.done(std::move(result));
      }
      case code::kMessageIllegal:
        return fail(letter, store::PutStatus::kMessageIllegal, target.broker_name + ": " + reply->remark.value_or(""));
      default: break;
    }
    topics[letter.topic].until_ms = 0;
    if (!letter.again && (!reply || answer == code::kServiceNotAvailable) && !closed(reply)) {
      letter.again = true;
      return post(std::move(letter));
    }
    fail(letter, store::PutStatus::kServiceNotAvailable,
         target.broker_name + " at " + target.address + ": " +
             (reply ? std::to_string(answer) + " " + reply->remark.value_or("") : reply.error().message));
  }

  static bool closed(const Result<Command>& reply) { return !reply && reply.error().code == Errc::kClosed; }
};

Escape::Escape(const Parts& parts) : impl_(std::make_shared<Impl>(parts)) {}

void Escape::send(const store::MessageDraft& draft, Kind kind, store::PutCallback done) {
  const bool half = kind == Kind::kHalf;
  const std::string properties = half ? std::string(draft.properties) : plain_properties(draft.properties);
  Letter letter;
  letter.topic = std::string(draft.topic);
  letter.queue_id = draft.queue_id;
  letter.request = Command::request(RequestCode::kSendMessageV2);
  auto& ext = letter.request.ext;
  const auto group = half ? message::find_property(properties, property::kProducerGroup) : std::nullopt;
  ext.set("a", std::string(group.value_or(kInnerProducer)));
  ext.set("b", letter.topic);
  ext.set("c", kDefaultTopic);
  ext.set("d", kDefaultQueues);
  const int32_t type = half ? message::sys_flag::kTransactionPrepared : message::sys_flag::kTransactionNot;
  ext.set("f", (draft.sys_flag & ~message::sys_flag::kTransactionMask) | type);
  ext.set("g", draft.born_timestamp_ms);
  ext.set("h", draft.flag);
  ext.set("i", properties);
  ext.set("j", draft.reconsume_times);
  ext.set("k", false);
  ext.set("l", INT32_MAX);  // whoever gave it back has counted
  ext.set("m", false);
  letter.request.body = SharedBytes::from(std::string(draft.body));
  // The callback is called even where the loop has ended.
  auto shared = std::make_shared<Letter>(std::move(letter));
  shared->done = std::move(done);
  if (!impl_->parts.loop.post([impl = impl_, shared] { impl->post(std::move(*shared)); }))
    Impl::fail(*shared, store::PutStatus::kServiceNotAvailable, "the broker stops");
}

}  // namespace apogee::broker
