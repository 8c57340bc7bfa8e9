#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "common/base/text.h"
#include "common/message/property_names.h"
#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/commands/message_text.h"
#include "tools/mqadmin/commands/read_queues.h"

// Dead letters: messages that a group gave up.
namespace mqadmin {

namespace {

using apogee::ReceivedMessage;

/// The dead letters that -g, -k, -b and -e name.
struct Letters {
  std::vector<QueuePart> parts;
  std::string key;
  int64_t total = 0;  ///< before -k
};

Result<Letters> letters_of(Invocation& in) {
  Letters letters;
  letters.key = in.get('k');
  APOGEE_TRY_ASSIGN(auto from_ms, in.time('b'));
  APOGEE_TRY_ASSIGN(auto to_ms, in.time('e'));
  const std::string group = in.get('g');
  auto queues = in.client().queues_of_topic(apogee::dlq_topic_of(group));
  if (!queues && queues.error().code == Errc::kNotFound)
    return Error{Errc::kNotFound, fmt::format("the group {} has no dead letters (there is no topic {})", group,
                                              apogee::dlq_topic_of(group))};
  if (!queues) return std::move(queues).error();
  for (const auto& queue : *queues) {
    APOGEE_TRY_ASSIGN(auto part, range_of(in, queue, from_ms, to_ms));
    letters.total += std::max<int64_t>(part.end - part.begin, 0);
    letters.parts.push_back(std::move(part));
  }
  return letters;
}

bool has_key(const ReceivedMessage& message, const std::string& key) {
  if (key.empty() || message.msg_id() == key || message.offset_msg_id() == key) return true;
  const auto words = apogee::split(message.keys(), " ");
  return std::find(words.begin(), words.end(), key) != words.end();
}

/// Hands on the letters that are meant, with a bar over all that are read. Answers with how many there were.
Result<int64_t> each(Invocation& in, const Letters& letters, int64_t count_max, Progress& progress,
                     const OnMessage& on_message) {
  int64_t count = 0;
  for (const auto& part : letters.parts) {
    auto one = [&](const ReceivedMessage& message) -> Status {
      if (count == count_max || !has_key(message, letters.key)) return {};
      APOGEE_TRY(on_message(message));
      ++count;
      return {};
    };
    if (count == count_max) break;
    APOGEE_TRY(
        read_range(in, part, "*", "TOOLS_CONSUMER", INT64_MAX, one, [&progress](int64_t by) { progress.advance(by); }));
  }
  return count;
}

std::string origin_of(const ReceivedMessage& message) {
  return std::string(message.property(apogee::message::property::kRetryTopic).value_or(""));
}

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

}  // namespace

Status run_query_dlq(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto count_max, in.number('m', 64, 1, INT64_MAX));
  APOGEE_TRY_ASSIGN(auto letters, letters_of(in));
  Table table({{"#Message ID", "msgId", 32},
               {"#Topic", "originTopic", 32},
               {"#Keys", "keys", 20},
               {"#Times", "reconsumeTimes", 6},
               {"#Dead since", "storeTimestamp", 23},
               {"#Broker Name", "brokerName", 16},
               {"#QID", "queueId", 4},
               {"#Offset", "queueOffset"}});
  Progress progress("dead letters", letters.total);
  APOGEE_TRY_ASSIGN(auto count, each(in, letters, count_max, progress, [&table](const ReceivedMessage& message) {
                      table.row({message.msg_id(), origin_of(message), message.keys(), message.reconsume_times(),
                                 time_cell(message.store_time_ms(), "-", true), message.queue().broker_name,
                                 message.queue().queue_id, message.queue_offset()});
                      return Status();
                    }));
  progress.hide();
  in.out.table(table);
  if (count == count_max && count < letters.total)
    in.out.line(fmt::format("These are {} of at most {}; -m shows more.", count, letters.total));
  return {};
}

Status run_export_dlq(Invocation& in) {
  APOGEE_TRY_ASSIGN(auto letters, letters_of(in));
  const std::string path = in.get('f');
  File file;
  if (!path.empty()) {
    file.reset(std::fopen(path.c_str(), "we"));
    if (!file) return Error{Errc::kIo, fmt::format("{} cannot be written", path)};
  }
  std::FILE* to = file ? file.get() : stdout;
  Progress progress("dead letters", letters.total);
  bool written = true;
  APOGEE_TRY_ASSIGN(auto count, each(in, letters, INT64_MAX, progress, [&](const ReceivedMessage& message) -> Status {
                      JsonWriter json;
                      write_message(json, message, true);
                      if (!file) progress.hide();
                      const std::string line = json.text() + "\n";
                      written = written && std::fwrite(line.data(), 1, line.size(), to) == line.size();
                      if (!written) return Error{Errc::kIo, "not everything could be written"};
                      return {};
                    }));
  progress.hide();
  if (!file) return {};
  if (std::fclose(file.release()) != 0)
    return Error{Errc::kIo, fmt::format("{}: not everything could be written", path)};
  in.out.line(fmt::format("{} dead letters of {} are in {}", count, in.get('g'), path));
  JsonWriter json;
  in.out.write(json.begin_object().member("exported", count).member("file", path).end_object());
  return {};
}

Status run_resend_dlq(Invocation& in) {
  const bool dry = in.has('d');
  const std::string group = in.get('g'), topic = in.get('t');
  APOGEE_TRY_ASSIGN(auto letters, letters_of(in));
  // What dies again meanwhile lies behind the parts that were read first, so this ends.
  Table table(
      {{"#Message ID", "msgId", 32}, {"#Topic", "topic", 32}, {"#Keys", "keys", 20}, {"#Send Result", "sendResult"}});
  Progress progress(dry ? "dead letters read" : "dead letters sent", letters.total);
  int64_t sent = 0;
  auto count = each(in, letters, INT64_MAX, progress, [&](const ReceivedMessage& message) -> Status {
    std::string result = "DRY RUN";
    if (!dry) {
      APOGEE_TRY_ASSIGN(auto receipt, in.client().resend_dead_letter(group, message, topic));
      result = apogee::to_string(receipt.status);
      ++sent;
    }
    table.row({message.msg_id(), topic.empty() ? origin_of(message) : topic, message.keys(), result});
    return {};
  });
  progress.hide();
  in.out.table(table);
  if (!count) {
    Error error = std::move(count).error();
    error.message += fmt::format("; {} dead letters were sent before", sent);
    return error;
  }
  in.out.line(dry ? fmt::format("{} dead letters of {} would be sent; nothing was", *count, group)
                  : fmt::format("{} dead letters of {} were sent", *count, group));
  return {};
}

}  // namespace mqadmin
