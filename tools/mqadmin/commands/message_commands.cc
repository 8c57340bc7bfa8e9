#include <fmt/format.h>

#include "common/base/hex.h"
#include "common/base/text.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/message_text.h"

// Sending one message, and looking at single ones.
namespace mqadmin {

namespace {

std::string properties_text(const apogee::ReceivedMessage& message) {
  std::string text;
  for (const auto& [name, value] : message.properties()) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", name, value);
  }
  return "{" + text + "}";
}

void print_message(Invocation& in, const apogee::ReceivedMessage& message) {
  auto print = [&in](const char* name, const auto& value) { in.out.line(fmt::format("{:<20} {}", name, value)); };
  print("OffsetID:", message.offset_msg_id());
  print("MsgID:", message.msg_id());
  print("Topic:", message.topic());
  print("Tags:", fmt::format("[{}]", message.tags()));
  print("Keys:", fmt::format("[{}]", message.keys()));
  print("Queue ID:", message.queue().queue_id);
  print("Queue Offset:", message.queue_offset());
  print("CommitLog Offset:", message.physical_offset());
  print("Reconsume Times:", message.reconsume_times());
  print("Born Timestamp:", human_time_ms(message.born_time_ms()));
  print("Store Timestamp:", human_time_ms(message.store_time_ms()));
  print("Born Host:", message.born_host());
  print("Store Host:", message.store_host());
  print("System Flag:", message.sys_flag());
  print("Properties:", properties_text(message));
  if (apogee::is_utf8(message.body())) {
    print("Message Body:", message.body());
  } else {
    print("Message Body (hex):", apogee::to_hex(message.body()));
  }
}

/// Hands a stored message to the consumer given by -g and -d, and prints what came of it.
Status consume_directly(Invocation& in, const std::string& offset_msg_id, JsonWriter& json) {
  APOGEE_TRY_ASSIGN(auto result, in.client().consume_directly(in.get('g'), in.get('d'), offset_msg_id));
  in.out.line(fmt::format("ConsumeMessageDirectlyResult [order={}, consumeResult={}, remark={}, spentTimeMills={}]",
                          result.order, result.result, result.remark, result.spent_ms));
  json.begin_object()
      .member("offsetMsgId", offset_msg_id)
      .member("consumeResult", result.result)
      .member("remark", result.remark)
      .member("order", result.order)
      .member("spentMs", result.spent_ms)
      .end_object();
  return {};
}

using Tracks = std::vector<apogee::admin::MessageTrack>;

/// What each group did with the message. What cannot be told is no reason not to show the message.
Tracks track_of(Invocation& in, const apogee::ReceivedMessage& message) {
  auto tracks = in.client().message_track(message);
  if (tracks) return std::move(*tracks);
  return {{"", apogee::admin::TrackStatus::kUnknown, tracks.error().message}};
}

void print_tracks(Invocation& in, const Tracks& tracks) {
  if (tracks.empty()) in.out.line("WARN: No Consumer");
  for (const auto& track : tracks)
    in.out.line(fmt::format("MessageTrack [consumerGroup={}, trackType={}, exceptionDesc={}]", track.group,
                            apogee::admin::to_string(track.status), track.remark));
}

void write_found(JsonWriter& json, const apogee::admin::FoundMessages& found, bool with_body,
                 const std::vector<Tracks>& tracks) {
  json.begin_object().key("messages").begin_array();
  for (const auto& message : found.messages) write_message(json, message, with_body);
  json.end_array();
  // In the order of the messages.
  if (!tracks.empty()) {
    json.key("tracks").begin_array();
    for (const auto& list : tracks) {
      json.begin_array();
      for (const auto& track : list) {
        json.begin_object().member("group", track.group).member("status", apogee::admin::to_string(track.status));
        if (!track.remark.empty()) json.member("remark", track.remark);
        json.end_object();
      }
      json.end_array();
    }
    json.end_array();
  }
  json.member("truncated", found.truncated).key("warnings").begin_array();
  for (const auto& warning : found.warnings) json.value(warning);
  json.end_array().end_object();
}

void print_notes(Invocation& in, const apogee::admin::FoundMessages& found) {
  if (found.truncated) in.out.line(fmt::format("There are more: these are the newest {}.", found.messages.size()));
  for (const auto& warning : found.warnings) in.out.line("WARN: " + warning);
}

}  // namespace

std::string message_line(const apogee::ReceivedMessage& message) {
  return fmt::format(
      "MessageExt [brokerName={}, queueId={}, storeSize={}, queueOffset={}, sysFlag={}, "
      "bornTimestamp={}, bornHost={}, storeTimestamp={}, storeHost={}, offsetMsgId={}, "
      "commitLogOffset={}, bodyCRC={}, reconsumeTimes={}, topic={}, flag={}, properties={}]",
      message.queue().broker_name, message.queue().queue_id, message.store_size(), message.queue_offset(),
      message.sys_flag(), message.born_time_ms(), message.born_host(), message.store_time_ms(), message.store_host(),
      message.offset_msg_id(), message.physical_offset(), message.body_crc(), message.reconsume_times(),
      message.topic(), message.flag(), properties_text(message));
}

void write_message(JsonWriter& json, const apogee::ReceivedMessage& message, bool with_body) {
  json.begin_object()
      .member("msgId", message.msg_id())
      .member("offsetMsgId", message.offset_msg_id())
      .member("topic", message.topic())
      .member("brokerName", message.queue().broker_name)
      .member("queueId", message.queue().queue_id)
      .member("queueOffset", message.queue_offset())
      .member("commitLogOffset", message.physical_offset())
      .member("storeSize", message.store_size())
      .member("tags", message.tags())
      .member("keys", message.keys())
      .member("flag", message.flag())
      .member("sysFlag", message.sys_flag())
      .member("bodyCrc", message.body_crc())
      .member("reconsumeTimes", message.reconsume_times())
      .member("bornTimestamp", message.born_time_ms())
      .member("bornHost", message.born_host())
      .member("storeTimestamp", message.store_time_ms())
      .member("storeHost", message.store_host())
      .key("properties")
      .begin_object();
  for (const auto& [name, value] : message.properties()) json.member(name, value);
  json.end_object();
  if (with_body) json.bytes_member("body", message.body());
  json.end_object();
}

Status run_send_message(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto traced, in.truth('m', false));
  if (traced) return Error{Errc::kUnsupported, "-m true: message trace is not supported"};
  apogee::Message message(in.get('t'), in.get('p'));
  if (in.has('k')) message.set_keys(in.get('k'));
  if (in.has('c')) message.set_tags(in.get('c'));
  apogee::admin::SendTarget target;
  target.broker_name = in.get('b');
  if (in.has('i')) {
    if (!in.has('b')) return Error{Errc::kInvalidArgument, "-i (queue id) needs -b (name of the broker)"};
    APOGEE_TRY_ASSIGN(auto queue_id, in.number('i', 0, 0, INT32_MAX));
    target.queue_id = static_cast<int32_t>(queue_id);
  }
  APOGEE_TRY_ASSIGN(auto receipt, in.client().send(message, target));
  Table table({{"#Broker Name", "brokerName", 32},
               {"#QID", "queueId", 4},
               {"#Send Result", "sendResult", 20},
               {"#MsgId", "msgId", 32},
               {"#OffsetMsgId", "offsetMsgId"}});
  table.row({receipt.queue.broker_name, receipt.queue.queue_id, apogee::to_string(receipt.status), receipt.msg_id,
             receipt.offset_msg_id});
  in.out.table(table);
  return {};
}

Status run_query_msg_by_id(Invocation& in) {
  if (in.has('g') != in.has('d')) {
    return Error{Errc::kInvalidArgument, "-g (consumerGroup) and -d (clientId) go together"};
  }
  JsonWriter json;
  json.begin_array();
  const std::string ids = in.get('i');
  for (auto part : apogee::split(ids, ",")) {
    std::string id(apogee::trim(part));
    if (id.empty()) continue;
    if (in.has('g')) {
      APOGEE_TRY(consume_directly(in, id, json));
      continue;
    }
    APOGEE_TRY_ASSIGN(auto message, in.client().message_by_id(id));
    print_message(in, message);
    write_message(json, message, true);
  }
  in.out.write(json.end_array());
  return {};
}

Status run_query_msg_by_offset(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto queue_id, in.number('i', 0, 0, INT32_MAX));
  APOGEE_TRY_ASSIGN(auto offset, in.number('o', 0, 0, INT64_MAX));
  apogee::MessageQueue queue{in.get('t'), in.get('b'), static_cast<int32_t>(queue_id)};
  APOGEE_TRY_ASSIGN(auto message, in.client().message_by_offset(queue, offset));
  print_message(in, message);
  JsonWriter json;
  write_message(json, message, true);
  in.out.write(json);
  return {};
}

Status run_query_msg_by_key(Invocation& in) {
  apogee::admin::MessageQuery query;
  query.topic = in.get('t');
  query.key = in.get('k');
  query.cluster = in.get('c');
  APOGEE_TRY_ASSIGN(auto messages_max, in.number('m', query.messages_max, 1, INT32_MAX));
  query.messages_max = static_cast<int32_t>(messages_max);
  APOGEE_TRY_ASSIGN(auto begin_ms, in.time('b'));
  APOGEE_TRY_ASSIGN(auto end_ms, in.time('e'));
  query.begin_ms = begin_ms.value_or(query.begin_ms);
  query.end_ms = end_ms.value_or(query.end_ms);
  APOGEE_TRY_ASSIGN(auto found, in.client().query_messages(query));
  in.out.line(fmt::format("{:<50} {:>4} {:>40}", "#Message ID", "#QID", "#Offset"));
  std::vector<Tracks> tracks;
  for (const auto& message : found.messages) {
    in.out.line(fmt::format("{:<50} {:>4} {:>40}", message.msg_id(), message.queue().queue_id, message.queue_offset()));
    if (in.has('s')) print_tracks(in, tracks.emplace_back(track_of(in, message)));
  }
  print_notes(in, found);
  JsonWriter json;
  write_found(json, found, false, tracks);
  in.out.write(json);
  return {};
}

Status run_query_msg_by_unique_key(Invocation& in) {
  if (in.has('g') != in.has('d')) {
    return Error{Errc::kInvalidArgument, "-g (consumerGroup) and -d (clientId) go together"};
  }
  apogee::admin::MessageQuery query;
  query.topic = in.get('t');
  query.key = in.get('i');
  query.cluster = in.get('c');
  query.unique_id = true;
  JsonWriter json;
  if (in.has('g')) {
    APOGEE_TRY_ASSIGN(auto message, in.client().find_message(query.topic, query.key));
    APOGEE_TRY(consume_directly(in, message.offset_msg_id(), json));
    in.out.write(json);
    return {};
  }
  APOGEE_TRY_ASSIGN(auto found, in.client().query_messages(query));
  if (found.messages.empty())
    return Error{Errc::kNotFound, fmt::format("the topic {} has no message {}{}", query.topic, query.key,
                                              found.warnings.empty() ? "" : "; " + found.warnings.front())};
  // Of several copies the first one is the message, unless all are asked for.
  if (!in.has('a')) found.messages.erase(found.messages.begin(), found.messages.end() - 1);
  std::vector<Tracks> tracks;
  for (const auto& message : found.messages) {
    print_message(in, message);
    print_tracks(in, tracks.emplace_back(track_of(in, message)));
  }
  print_notes(in, found);
  write_found(json, found, true, tracks);
  in.out.write(json);
  return {};
}

Status run_decode_message_id(Invocation& in) {
  std::string id = in.get('i');
  APOGEE_TRY_ASSIGN(auto made_ms, apogee::message::time_of_unique_id(id, now_ms()));
  auto bytes = apogee::from_hex(id);
  size_t ip_bytes = id.size() == 32 ? 4 : 16;
  if (!bytes || bytes->size() < ip_bytes) {
    return Error{Errc::kInvalidArgument, fmt::format("\"{}\" is no id given by a producer", id)};
  }
  std::string host =
      apogee::message::to_string(apogee::message::HostView{std::string_view(*bytes).substr(0, ip_bytes), 0});
  std::string ip = host.substr(0, host.rfind(':'));
  in.out.line("ip=" + ip);
  in.out.line("date=" + human_time_ms(made_ms));
  in.out.write(JsonWriter().begin_object().member("ip", ip).member("timestamp", made_ms).end_object());
  return {};
}

}  // namespace mqadmin
