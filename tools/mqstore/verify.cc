#include "tools/mqstore/verify.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "common/base/bytes.h"
#include "common/base/hash.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/topic_bodies.h"
#include "store/checkpoint.h"
#include "store/consume_queues.h"
#include "store/dispatcher.h"
#include "store/message_index.h"

namespace mqstore {

namespace fs = std::filesystem;
namespace message = apogee::message;
namespace store = apogee::store;
using apogee::Errc;
using apogee::Error;
using apogee::Result;
using apogee::Status;

namespace {

constexpr int64_t kProgressEach = 16 << 20;

/// What the log has of a queue.
struct LogQueue {
  int64_t first = -1, next = -1;  ///< queue offsets
  int64_t last_record = -1;       ///< where the last one stands
};

class Verifier {
 public:
  Verifier(StoreDirectory& store, const VerifyOptions& options, const ProgressListener& progress)
      : store_(store), options_(options), progress_(progress) {}

  Result<Verified> run() {
    total_ = store_.log_bytes();
    for (const auto& queue : store_.queues())
      for (const auto& file : queue.files) total_ += file.bytes / 16;  // sparse, and looked at quickly
    check_layout();
    result_.unclean = fs::exists(store_.root() + "/abort");
    check_log_files();
    APOGEE_TRY(walk());
    for (const auto& queue : store_.queues()) check_queue(queue);
    check_missing_queues();
    check_config();
    check_checkpoint();
    if (options_.index) APOGEE_TRY(check_index());
    if (options_.for_4_9) check_for_4_9();
    progress_(total_, total_);
    return std::move(result_);
  }

 private:
  void find(std::string kind, std::string where, std::string what) {
    ++result_.findings_total;
    if (++kinds_[kind] <= options_.findings_per_kind)
      result_.findings.push_back({std::move(kind), std::move(where), std::move(what)});
  }
  void advance(int64_t bytes) {
    done_ += bytes;
    if (done_ - told_ < kProgressEach) return;
    told_ = done_;
    progress_(std::min(done_, total_), total_);
  }
  static std::string name_of(const std::string& topic, int32_t queue_id) {
    return fmt::format("queue {} of topic {}", queue_id, topic);
  }

  void check_layout() {
    if (auto checked = store::check_layout(apogee::io::posix_file_system(), store_.root()); !checked)
      find("foreign-layout", store_.root(), checked.error().message);
  }

  void check_log_files() {
    const auto& files = store_.log_files();
    for (size_t i = 0; i < files.size(); ++i) {
      const bool last = i + 1 == files.size();
      if (files[i].bytes == 0 && last) continue;  // a crash while it was made; a start removes it
      if (files[i].bytes != store_.log_file_bytes())
        find(
            "log-file-size", files[i].path,
            fmt::format("{} bytes where the files of this log have {}: a broker does not start on it; restore the file",
                        files[i].bytes, store_.log_file_bytes()));
      if (files[i].begin % std::max<int64_t>(1, store_.log_file_bytes()) != 0)
        find("log-file-name", files[i].path, "its name is no multiple of the size of the files");
      if (i > 0 && files[i].begin != files[i - 1].begin + files[i - 1].bytes)
        find(
            "log-file-missing", files[i].path,
            fmt::format("the log goes on at {}, but the file in front of it ends at {}: a broker does not start on it; "
                        "restore the missing file",
                        files[i].begin, files[i - 1].begin + files[i - 1].bytes));
    }
    result_.log_begin = files.empty() ? 0 : files.front().begin;
    result_.log_end = result_.log_begin;
  }

  Status walk() {
    return walk_log(store_, [this](const Span& span) {
      advance(span.end - span.begin);
      switch (span.kind) {
        case Span::Kind::kHole:
          ++result_.holes;
          find("hole", fmt::format("log {} to {}", span.begin, span.end),
               fmt::format("{} bytes hold no whole message, and messages follow: what stood there is lost",
                           span.end - span.begin));
          break;
        case Span::Kind::kTail:
          result_.torn_tail = span.dirty;
          if (span.dirty)
            find("torn-tail", fmt::format("log {}", span.begin),
                 "behind the last whole message stand bytes of none; a start cuts them");
          break;
        case Span::Kind::kBlank: result_.log_end = span.end; break;
        case Span::Kind::kRecord: take(span); break;
      }
      return true;
    });
  }

  void take(const Span& span) {
    const auto& record = span.record;
    ++result_.records;
    result_.record_bytes += span.end - span.begin;
    result_.log_end = span.end;
    if (record.magic == message::kRecordMagicV2 && v2_records_++ == 0) first_v2_ = span.begin;
    if (!store::has_queue_entry(record.sys_flag)) return;
    auto& queue = log_queues_[{std::string(record.topic), record.queue_id}];
    if (queue.first < 0) {
      queue.first = record.queue_offset;
    } else if (record.queue_offset > queue.next) {
      find("queue-offset-gap", fmt::format("log {}", span.begin),
           fmt::format("{}: the message has offset {}, the one in front of it {}",
                       name_of(std::string(record.topic), record.queue_id), record.queue_offset, queue.next - 1));
    } else if (record.queue_offset < queue.next) {
      find("queue-offset-twice", fmt::format("log {}", span.begin),
           fmt::format("{}: the message has offset {}, as one in front of it",
                       name_of(std::string(record.topic), record.queue_id), record.queue_offset));
    }
    queue.next = std::max(queue.next, record.queue_offset + 1);
    queue.last_record = span.begin;
  }

  void bad_queue(std::string kind, std::string where, std::string what) {
    result_.queues_bad = true;
    find(std::move(kind), std::move(where), std::move(what));
  }

  void check_queue(const StoreDirectory::Queue& queue) {
    ++result_.queues;
    const std::string name = name_of(queue.topic, queue.queue_id);
    auto in_log = log_queues_.find({queue.topic, queue.queue_id});
    if (in_log != log_queues_.end()) seen_.insert(*in_log);
    int64_t next = -1;  // the next entry's offset
    int64_t first_good = -1;
    bool ended = false;
    for (size_t i = 0; i < queue.files.size(); ++i) {
      const auto& file = queue.files[i];
      advance(file.bytes / 16);
      if (file.bytes == 0) continue;
      if (file.bytes != store_.queue_file_bytes()) {
        bad_queue("queue-file-size", file.path,
                  fmt::format("{} bytes where the files of queues have {}", file.bytes, store_.queue_file_bytes()));
        continue;
      }
      if (i > 0 && queue.files[i - 1].bytes > 0 && file.begin != queue.files[i - 1].begin + queue.files[i - 1].bytes)
        bad_queue("queue-file-missing", file.path, name + ": a file in front of this one is missing");
      check_entries(queue, file, name, next, first_good, ended);
    }
    if (in_log == log_queues_.end() || next >= in_log->second.next) return;
    bad_queue("missing-entry", name,
              fmt::format("its entries end in front of offset {}, but the log has messages up to {}",
                          std::max<int64_t>(0, next), in_log->second.next - 1));
  }

  void check_entries(const StoreDirectory::Queue& queue, const StoreDirectory::File& file, const std::string& name,
                     int64_t& next, int64_t& first_good, bool& ended) {
    auto content = read_file(file.path);
    if (!content) return bad_queue("unreadable", file.path, content.error().message);
    int64_t offset = file.begin / store::kQueueEntryBytes;
    for (size_t at = 0; at + store::kQueueEntryBytes <= content->size(); at += store::kQueueEntryBytes, ++offset) {
      const char* raw = content->data() + at;
      const auto place = apogee::load_be<int64_t>(raw);
      const auto bytes = apogee::load_be<int32_t>(raw + 8);
      const auto tags_code = apogee::load_be<int64_t>(raw + 12);
      if (place == 0 && bytes == 0) {
        ended = true;
        continue;
      }
      if (ended) {
        bad_queue("missing-entry", fmt::format("{} offset {}", file.path, offset),
                  name + ": entries follow on empty ones; a broker would not see them");
        ended = false;
      }
      next = offset + 1;
      if (bytes == store::kBlankEntryBytes) continue;  // of what is lost, or was in front of the queue
      ++result_.entries;
      if (place < result_.log_begin) continue;  // expired with its file
      auto found = store_.log_bytes_from(place);
      auto record = found ? message::decode_record(*found) : Error(Errc::kNotFound, "");
      const bool right = record && record->physical_offset == place && record->topic == queue.topic &&
                         record->queue_id == queue.queue_id && record->queue_offset == offset &&
                         static_cast<int32_t>(record->bytes.size()) == bytes && message::body_crc_matches(*record);
      if (!right) {
        bad_queue("wrong-entry", fmt::format("{} offset {}", file.path, offset),
                  fmt::format("{}: at {} of the log stands another message, a damaged one or none", name, place));
        continue;
      }
      if (first_good < 0) first_good = offset;
      if (queue.topic == store::kScheduleTopic) continue;  // the code is the time that it is due
      auto tags = message::find_property(record->properties, message::property::kTags);
      if (tags_code != (tags ? apogee::java_string_hash(*tags) : 0))
        bad_queue("wrong-tags-code", fmt::format("{} offset {}", file.path, offset),
                  name + ": the tags code is not that of the message's tags; filters would miss it");
    }
    auto in_log = log_queues_.find({queue.topic, queue.queue_id});
    if (&file == &queue.files.back() && in_log != log_queues_.end() && first_good > in_log->second.first)
      bad_queue("missing-entry", name,
                fmt::format("its entries begin with offset {}, but the log has messages from {} on", first_good,
                            in_log->second.first));
  }

  void check_missing_queues() {
    for (const auto& [key, queue] : log_queues_)
      if (seen_.count(key) == 0)
        bad_queue(
            "missing-queue", name_of(key.first, key.second),
            fmt::format("the log has messages {} to {} of it, but there are no files", queue.first, queue.next - 1));
  }

  /// A file under config/, whose form `decode` knows.
  template <typename Decode>
  auto config(const char* name, Decode decode) -> std::optional<std::decay_t<decltype(*decode(std::string_view()))>> {
    const std::string path = store_.root() + "/config/" + name;
    if (!fs::exists(path)) return std::nullopt;
    auto content = read_file(path);
    auto decoded = content ? decode(std::string_view(*content)) : content.error();
    if (decoded) return std::move(*decoded);
    result_.bad_config_files.push_back(path);
    find("unreadable-config", path, decoded.error().message + "; a broker reads " + path + ".bak instead");
    return std::nullopt;
  }

  void check_config() {
    using namespace apogee::remoting;
    auto topics =
        config("topics.json", [](std::string_view json) { return decode_topic_config_serialize_wrapper(json); });
    config("subscriptionGroup.json", [](std::string_view json) { return decode_subscription_group_wrapper(json); });
    config("delayOffset.json", [](std::string_view json) { return decode_delay_offset_table(json); });
    auto offsets = config("consumerOffset.json",
                          [](std::string_view json) { return decode_consumer_offset_serialize_wrapper(json); });
    if (offsets) {
      for (const auto& [key, queues] : offsets->offset_table) {
        const std::string topic = key.substr(0, key.find('@'));
        for (const auto& [queue_id, offset] : queues) {
          auto in_log = log_queues_.find({topic, queue_id});
          if (in_log != log_queues_.end() && offset > in_log->second.next)
            find("offset-beyond-queue", "consumerOffset.json " + key,
                 fmt::format("{}: the group is at {}, but the queue ends at {}", name_of(topic, queue_id), offset,
                             in_log->second.next));
        }
      }
    }
    if (topics)
      for (const auto& [name, topic] : topics->topic_config_table)
        if (!topic.attributes.empty()) topics_with_attributes_.push_back(name);
  }

  void check_checkpoint() {
    const std::string path = store_.root() + "/checkpoint";
    if (!fs::exists(path)) return;
    auto checkpoint = store::read_checkpoint(apogee::io::posix_file_system(), path);
    if (!checkpoint) return find("unreadable", path, checkpoint.error().message);
    if (fs::file_size(path) < 24)
      find("checkpoint-size", path, "shorter than its three times; the next start walks the whole log");
    if (checkpoint->log_position > result_.log_end)
      find("checkpoint-ahead", path,
           fmt::format("it names {} as on disk, but the log ends at {}", checkpoint->log_position, result_.log_end));
  }

  Status check_index() {
    const std::string path = store_.root() + "/indexdb";
    if (!fs::exists(path)) return {};
    store::IndexDb::Options options;
    options.directory = path;
    options.read_only = true;
    auto opened = store::IndexDb::open(options, std::make_shared<std::atomic<store::LogOffset>>(0));
    if (!opened) {
      result_.index_bad = true;
      find("unreadable-index", path, opened.error().message + "; without the directory it is built anew");
      return {};
    }
    auto& index = **opened;
    if (auto entries = index.count_entries(); entries) {
      result_.index_entries = *entries;
    } else {
      result_.index_bad = true;
      find("unreadable-index", path, entries.error().message + "; without the directory it is built anew");
    }
    const auto indexed = index.progress().position;
    if (indexed > result_.log_end) {
      result_.index_bad = true;
      find("index-ahead", path, fmt::format("it goes to {}, but the log ends at {}", indexed, result_.log_end));
    }
    return walk_log(store_, [&](const Span& span) {
      if (span.kind != Span::Kind::kRecord || span.begin >= indexed) return span.begin < indexed;
      const auto& record = span.record;
      store::visit_keys(record, [&](std::string_view key) {
        bool found = false;
        auto time = record.store_timestamp_ms;
        auto scanned = index.scan(store::index_hash(record.topic, key), time, time, store::IndexOrder::kOldestFirst,
                                  [&](const store::IndexEntry& entry) {
                                    found = entry.offset == span.begin;
                                    return !found;
                                  });
        if (scanned && found) return;
        result_.index_bad = true;
        find("missing-index-entry", fmt::format("log {}", span.begin),
             fmt::format("the index does not find the message by its key {}", key));
      });
      return true;
    });
  }

  void check_for_4_9() {
    if (v2_records_ > 0)
      find("4.9-record", fmt::format("log {}", first_v2_),
           fmt::format("{} records of version 2 (topics of more than 127 bytes): a 4.9 broker takes the first one for "
                       "the end of the log",
                       v2_records_));
    const auto& files = store_.log_files();
    if (!files.empty() && files.back().bytes == 0)
      find("4.9-empty-file", files.back().path, "a 4.9 broker does not start on an empty last file");
    for (const auto& topic : topics_with_attributes_)
      find("4.9-attributes", "topics.json " + topic, "a 4.9 broker drops the topic's attributes");
    if (fs::exists(store_.root() + "/indexdb") && !fs::exists(store_.root() + "/index"))
      find("4.9-index", store_.root() + "/indexdb",
           "a 4.9 broker keeps its index in index/: it does not find by key what is here now");
  }

  StoreDirectory& store_;
  const VerifyOptions& options_;
  const ProgressListener& progress_;
  Verified result_;
  std::map<std::string, int64_t> kinds_;
  std::map<std::pair<std::string, int32_t>, LogQueue> log_queues_, seen_;
  std::vector<std::string> topics_with_attributes_;
  int64_t v2_records_ = 0, first_v2_ = -1;
  int64_t total_ = 0, done_ = 0, told_ = 0;
};

}  // namespace

Result<Verified> verify(StoreDirectory& store, const VerifyOptions& options, const ProgressListener& progress) {
  return Verifier(store, options, progress).run();
}

}  // namespace mqstore
