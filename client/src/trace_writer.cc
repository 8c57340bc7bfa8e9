#include "client/src/trace_writer.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "client/src/client_instance.h"
#include "common/base/text.h"
#include "common/message/property_names.h"

namespace apogee {

namespace property = message::property;

namespace {

constexpr size_t kQueueMax = 4'096;
constexpr size_t kRecordsMax = 100;  ///< in one message
constexpr size_t kBodyBytesMax = 128'000;
constexpr size_t kKeysBytesMax = 8'192;
constexpr std::chrono::milliseconds kGatherTime{500};
constexpr std::chrono::milliseconds kSendTimeout{5'000};
constexpr std::chrono::milliseconds kStopTimeout{3'000};

ProducerConfig producer_config(const ClientConfig& client, const std::string& traced_group) {
  ProducerConfig config;
  static_cast<ClientConfig&>(config) = client;
  // Its own client id: the traced client's is taken.
  if (!config.instance_name.empty()) config.instance_name += "-trace";
  config.group = "_INNER_TRACE_PRODUCER-" + traced_group;
  if (!check_group_name(config.group)) config.group = "_INNER_TRACE_PRODUCER";
  config.send_timeout = kSendTimeout;
  config.name_space.clear();
  return config;
}

}  // namespace

TraceWriter::TraceWriter(const ClientConfig& client, const std::string& traced_group, std::string trace_topic)
    : topic_(std::move(trace_topic)), producer_(producer_config(client, traced_group)) {}

TraceWriter::~TraceWriter() { stop(); }

Status TraceWriter::start() {
  APOGEE_TRY(check_topic_name(topic_));
  APOGEE_TRY(producer_.start());
  thread_ = std::thread([this] { run(); });
  return {};
}

void TraceWriter::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  producer_.shutdown().ignore("it is not running on this thread");
}

void TraceWriter::add(std::vector<TraceRecord> records) {
  bool full = false;
  {
    std::lock_guard lock(mutex_);
    for (auto& record : records) {
      if (stopping_ || queue_.size() >= kQueueMax) {
        dropped_.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      queue_.push_back(std::move(record));
    }
    full = queue_.size() >= kRecordsMax;
  }
  if (full) changed_.notify_one();
}

void TraceWriter::run() {
  int64_t stop_by_ms = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kGatherTime, [this] { return stopping_ || queue_.size() >= kRecordsMax; });
      if (stopping_) {
        if (stop_by_ms == 0) stop_by_ms = steady_ms() + kStopTimeout.count();
        if (queue_.empty() || steady_ms() >= stop_by_ms) {
          dropped_.fetch_add(queue_.size(), std::memory_order_relaxed);
          queue_.clear();
          return;
        }
      }
    }
    auto records = take();
    if (!records.empty()) send(records);
  }
}

std::vector<TraceRecord> TraceWriter::take() {
  std::vector<TraceRecord> records;
  std::lock_guard lock(mutex_);
  const size_t count = std::min(queue_.size(), kRecordsMax);
  for (size_t i = 0; i < count; ++i) {
    records.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return records;
}

// As many messages as the limits ask for, usually one.
void TraceWriter::send(const std::vector<TraceRecord>& records) {
  size_t next = 0;
  while (next < records.size()) {
    std::string body;
    std::set<std::string> keys;
    size_t keys_bytes = 0, count = 0;
    for (; next < records.size(); ++next, ++count) {
      const auto& record = records[next];
      std::string text;
      append_trace_record(text, record);
      size_t more = record.msg_id.size() + record.keys.size() + 2;
      if (count > 0 && (body.size() + text.size() > kBodyBytesMax || keys_bytes + more > kKeysBytesMax)) break;
      body += text;
      keys_bytes += more;
      keys.insert(record.msg_id);
      if (!record.keys.empty() && record.keys.size() < kKeysBytesMax) keys.insert(record.keys);
    }
    Message message(topic_, std::move(body));
    message.set_key_list({keys.begin(), keys.end()});
    SendOptions options;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) options.timeout = kStopTimeout;
    }
    if (!producer_.send(message, options)) dropped_.fetch_add(count, std::memory_order_relaxed);
  }
}

ConsumeTrace::ConsumeTrace(TraceWriter* writer, const std::string& group, const std::vector<ReceivedMessage>& messages)
    : writer_(writer), begun_ms_(now_ms()) {
  if (writer_ == nullptr) return;
  for (const auto& message : messages) {
    if (!writer_->traces(message.topic()) || message.property(property::kTraceOn) == "false") continue;
    TraceRecord record;
    record.kind = TraceKind::kSubBefore;
    record.time_ms = begun_ms_;
    record.region = std::string(message.property(property::kMessageRegion).value_or(""));
    record.group = group;
    record.msg_id = message.msg_id();
    record.keys = std::string(message.keys());
    record.retry_times = message.reconsume_times();
    records_.push_back(std::move(record));
  }
  if (records_.empty()) return;
  // Unique enough within the records of one message id.
  const std::string request_id = records_.front().msg_id + "-" + std::to_string(steady_ms());
  for (auto& record : records_) record.request_id = request_id;
  writer_->add(records_);
}

void ConsumeTrace::end(bool success, int32_t code) {
  if (records_.empty()) return;
  const int64_t now = now_ms();
  const int64_t cost = (now - begun_ms_) / static_cast<int64_t>(records_.size());
  for (auto& record : records_) {
    record.kind = TraceKind::kSubAfter;
    record.time_ms = now;
    record.cost_ms = cost;
    record.success = success;
    record.context_code = code;
  }
  writer_->add(std::move(records_));
  records_.clear();
}

}  // namespace apogee
