#include <fmt/format.h>

#include <algorithm>

#include "common/base/text.h"
#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/message_text.h"
#include "tools/mqadmin/commands/read_queues.h"

// Reading queues from one place to another.
namespace mqadmin {

namespace {

using apogee::MessageQueue;
using apogee::ReceivedMessage;

std::string queue_text(const MessageQueue& queue) {
  return fmt::format("MessageQueue [topic={}, brokerName={}, queueId={}]", queue.topic, queue.broker_name,
                     queue.queue_id);
}

/// Prints messages one after another, so that a topic of any size goes through; in JSON they are the members of one
/// array.
class MessagePrinter {
 public:
  MessagePrinter(Invocation& in, bool with_body, std::string charset)
      : in_(in), with_body_(with_body), charset_(std::move(charset)) {}
  Status print(const ReceivedMessage& message) {
    if (in_.out.json()) {
      JsonWriter json;
      write_message(json, message, with_body_);
      in_.out.json_part((printed_ ? ",\n" : "[") + json.text());
      printed_ = true;
      return {};
    }
    std::string body = "NOT PRINT BODY";
    if (with_body_) {
      APOGEE_TRY_ASSIGN(body, to_utf8(message.body(), charset_));
    }
    in_.out.line(fmt::format("MSGID: {} {} BODY: {}", message.msg_id(), message_line(message), body));
    return {};
  }
  void finish() { in_.out.json_part(printed_ ? "]\n" : "[]\n"); }

 private:
  Invocation& in_;
  bool with_body_;
  std::string charset_;
  bool printed_ = false;
};

Status check_charset(const std::string& charset) {
  APOGEE_TRY(to_utf8("", charset));
  return {};
}

/// The queues that -t, and -b with -i if given, name.
Result<std::vector<MessageQueue>> wanted_queues(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto queues, in.client().queues_of_topic(in.get('t')));
  if (in.has('i') && !in.has('b')) {
    return Error{Errc::kInvalidArgument, "-i (queueId) needs -b (brokerName)"};
  }
  APOGEE_TRY_ASSIGN(auto queue_id, in.number('i', -1, 0, INT32_MAX));
  std::vector<MessageQueue> wanted;
  for (const auto& queue : queues) {
    if (in.has('b') && queue.broker_name != in.get('b')) continue;
    if (queue_id >= 0 && queue.queue_id != queue_id) continue;
    wanted.push_back(queue);
  }
  if (wanted.empty()) {
    return Error{Errc::kNotFound, fmt::format("the topic {} has no such queue to read from", in.get('t'))};
  }
  return wanted;
}

}  // namespace

Status run_print_msg(Invocation& in) {
  std::string charset = in.get('c', "UTF-8");
  APOGEE_TRY(check_charset(charset));
  APOGEE_TRY_ASSIGN(auto with_body, in.truth('d', true));
  APOGEE_TRY_ASSIGN(auto from_ms, in.time('b'));
  APOGEE_TRY_ASSIGN(auto to_ms, in.time('e'));
  APOGEE_TRY_ASSIGN(auto queues, in.client().queues_of_topic(in.get('t')));
  std::vector<QueuePart> ranges;
  int64_t total = 0;
  for (const auto& queue : queues) {
    APOGEE_TRY_ASSIGN(auto range, range_of(in, queue, from_ms, to_ms));
    total += std::max<int64_t>(range.end - range.begin, 0);
    ranges.push_back(std::move(range));
  }
  Progress progress("offsets", total);
  MessagePrinter printer(in, with_body, charset);
  for (const auto& range : ranges) {
    progress.hide();
    in.out.line(
        fmt::format("minOffset={}, maxOffset={}, {}", range.min_offset, range.max_offset, queue_text(range.queue)));
    auto on_message = [&](const ReceivedMessage& message) -> Status {
      progress.hide();
      return printer.print(message);
    };
    APOGEE_TRY(read_range(in, range, in.get('s', "*"), "TOOLS_CONSUMER", INT64_MAX, on_message,
                          [&progress](int64_t by) { progress.advance(by); }));
    progress.hide();
    in.out.line("--------------------------------------------------------");
  }
  printer.finish();
  return {};
}

Status run_print_msg_by_queue(Invocation& in) {
  std::string charset = in.get('c', "UTF-8");
  APOGEE_TRY(check_charset(charset));
  APOGEE_TRY_ASSIGN(auto queue_id, in.number('i', 0, 0, INT32_MAX));
  APOGEE_TRY_ASSIGN(auto from_ms, in.time('b'));
  APOGEE_TRY_ASSIGN(auto to_ms, in.time('e'));
  APOGEE_TRY_ASSIGN(auto print, in.truth('p', false));
  APOGEE_TRY_ASSIGN(auto with_body, in.truth('d', false));
  APOGEE_TRY_ASSIGN(auto count_tags, in.truth('f', false));
  MessageQueue queue{in.get('t'), in.get('a'), static_cast<int32_t>(queue_id)};
  APOGEE_TRY_ASSIGN(auto range, range_of(in, queue, from_ms, to_ms));
  std::map<std::string, int64_t> by_tag;
  Progress progress("offsets", range.end - range.begin);
  MessagePrinter printer(in, with_body, charset);
  auto on_message = [&](const ReceivedMessage& message) -> Status {
    if (count_tags) ++by_tag[std::string(message.tags())];
    if (!print) return {};
    progress.hide();
    return printer.print(message);
  };
  APOGEE_TRY(read_range(in, range, in.get('s', "*"), "TOOLS_CONSUMER", INT64_MAX, on_message,
                        [&progress](int64_t by) { progress.advance(by); }));
  progress.hide();
  std::vector<std::pair<std::string, int64_t>> counts(by_tag.begin(), by_tag.end());
  std::stable_sort(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  if (print || !count_tags) printer.finish();
  JsonWriter json;
  json.begin_array();
  for (const auto& [tag, count] : counts) {
    in.out.line(fmt::format("Tag: {:<30} Count: {}", tag.empty() ? "null" : tag, count));
    json.begin_object().member("tag", tag).member("count", count).end_object();
  }
  if (count_tags && !print) in.out.write(json.end_array());
  return {};
}

Status run_consume_message(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto count_max, in.number('c', 128, 1, INT64_MAX));
  APOGEE_TRY_ASSIGN(auto from_ms, in.time('s'));
  APOGEE_TRY_ASSIGN(auto to_ms, in.time('e'));
  APOGEE_TRY_ASSIGN(auto offset, in.number('o', -1, 0, INT64_MAX));
  if (offset >= 0 && !in.has('i')) return Error{Errc::kInvalidArgument, "-o (offset) needs -i (queueId)"};
  APOGEE_TRY_ASSIGN(auto queues, wanted_queues(in));
  MessagePrinter printer(in, true, "UTF-8");
  int64_t left = count_max;
  for (const auto& queue : queues) {
    if (left == 0) break;
    APOGEE_TRY_ASSIGN(auto range, range_of(in, queue, from_ms, to_ms));
    if (offset >= 0) {
      if (offset < range.min_offset || offset > range.max_offset) {
        return Error{Errc::kInvalidArgument, fmt::format("-o {}: {} has offsets {} to {}", offset, queue_text(queue),
                                                         range.min_offset, range.max_offset)};
      }
      range.begin = offset;
    }
    APOGEE_TRY_ASSIGN(auto count,
                      read_range(
                          in, range, "*", in.get('g', "TOOLS_CONSUMER"), left,
                          [&printer](const ReceivedMessage& m) { return printer.print(m); }, [](int64_t) {}));
    left -= count;
    if (count == 0) in.out.line(fmt::format("{} no matched msg, offset={}", queue_text(queue), range.begin));
  }
  printer.finish();
  return {};
}

}  // namespace mqadmin
