#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "client/src/admin/admin_impl.h"
#include "client/src/received_message.h"
#include "common/base/text.h"
#include "common/message/message_record.h"

// Finding messages by key and by unique id.
namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace rc = remoting::response_code;

namespace {

bool matches(const ReceivedMessage& message, const admin::MessageQuery& query) {
  if (message.topic() != query.topic) return false;
  if (query.unique_id) return message.msg_id() == query.key;
  auto words = split(message.keys(), " ");
  return message.msg_id() == query.key || std::find(words.begin(), words.end(), query.key) != words.end();
}

/// Adds what one broker answered.
Status add_found(const std::string& address, const std::string& broker_name, const Command& answer,
                 const admin::MessageQuery& query, admin::FoundMessages& found) {
  if (auto why = answer.ext.get("indexIncomplete"))
    found.warnings.push_back(fmt::format("{}: messages may be missing: {}", address, *why));
  if (answer.code == rc::kQueryNotFound) return {};
  if (answer.ext.get_bool("queryTruncated").value_or(false)) found.truncated = true;
  auto records = message::split_records(answer.body.bytes);
  if (!records)
    return Error{Errc::kCorrupt, address + " sent messages that cannot be read: " + records.error().message};
  for (auto record : *records) {
    APOGEE_TRY_ASSIGN(auto message, decode_received_message({answer.body.owner, record}, broker_name));
    // Java brokers compare hashes only.
    if (matches(message, query)) found.messages.push_back(std::move(message));
  }
  return {};
}

}  // namespace

Result<admin::FoundMessages> AdminClient::query_messages(const admin::MessageQuery& query) {
  if (query.topic.empty()) return Error{Errc::kInvalidArgument, "the topic is empty"};
  if (trim(query.key).empty()) return Error{Errc::kInvalidArgument, "the key is empty"};
  if (query.messages_max < 1) return Error{Errc::kInvalidArgument, "messages_max is less than 1"};
  if (query.begin_ms > query.end_ms) return Error{Errc::kInvalidArgument, "the time range ends before it begins"};
  APOGEE_TRY_ASSIGN(auto brokers, impl_->brokers_of_topic(query.topic));
  if (!query.cluster.empty()) {
    APOGEE_TRY_ASSIGN(auto addresses, master_addresses(query.cluster));
    const std::set<std::string> in_cluster(addresses.begin(), addresses.end());
    brokers.erase(std::remove_if(brokers.begin(), brokers.end(),
                                 [&](const auto& broker) { return in_cluster.count(broker.second) == 0; }),
                  brokers.end());
    if (brokers.empty())
      return Error{Errc::kNotFound,
                   fmt::format("the cluster {} has no broker with the topic {}", query.cluster, query.topic)};
  }
  admin::FoundMessages found;
  std::optional<Error> failure;
  for (const auto& [name, address] : brokers) {
    auto request = Command::request(RequestCode::kQueryMessage);
    request.ext.set("topic", query.topic);
    request.ext.set("key", query.key);
    request.ext.set("maxNum", query.messages_max);
    request.ext.set("beginTimestamp", query.begin_ms);
    request.ext.set("endTimestamp", query.end_ms);
    request.ext.set("_UNIQUE_KEY_QUERY", query.unique_id);
    auto answer = impl_->call_any(address, std::move(request));
    Status added;
    if (!answer) {
      added = std::move(answer).error();
    } else if (answer->code != rc::kSuccess && answer->code != rc::kQueryNotFound) {
      added = Impl::refusal(address, *answer);
    } else {
      added = add_found(address, name, *answer, query, found);
    }
    if (added) continue;
    found.warnings.push_back(added.error().message);
    if (!failure) failure = std::move(added).error();
  }
  if (found.messages.empty() && failure) return *failure;
  std::stable_sort(found.messages.begin(), found.messages.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.store_time_ms(), a.physical_offset()) >
           std::make_pair(b.store_time_ms(), b.physical_offset());
  });
  if (static_cast<int64_t>(found.messages.size()) > query.messages_max) {
    found.messages.resize(static_cast<size_t>(query.messages_max));
    found.truncated = true;
  }
  return found;
}

Result<ReceivedMessage> AdminClient::find_message(const std::string& topic, const std::string& msg_id) {
  admin::MessageQuery query;
  query.topic = topic;
  query.key = msg_id;
  query.unique_id = true;
  APOGEE_TRY_ASSIGN(auto found, query_messages(query));
  if (!found.messages.empty()) return std::move(found.messages.back());
  // The two kinds of ids have the same form.
  if (message::decode_offset_message_id(msg_id)) {
    auto message = message_by_id(msg_id);
    if (message && message->topic() == topic) return message;
  }
  std::string warnings;
  for (const auto& warning : found.warnings) warnings += "; " + warning;
  return Error{Errc::kNotFound, fmt::format("the topic {} has no message {}{}", topic, msg_id, warnings)};
}

}  // namespace apogee
