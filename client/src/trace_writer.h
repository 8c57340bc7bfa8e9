#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apogee/config.h"
#include "apogee/message.h"
#include "apogee/producer.h"
#include "client/src/trace_record.h"

namespace apogee {

/// Writes trace records to the trace topic in the background, many in a message, with a producer of its own. It never
/// makes its owner wait: what does not fit into the queue or cannot be sent is dropped and counted.
class TraceWriter {
 public:
  /// client: whose connections and names are those of the traced client.
  TraceWriter(const ClientConfig& client, const std::string& traced_group, std::string trace_topic);
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  Status start();
  /// Sends what is there, for at most a few seconds, and ends the thread. Not on the producer's own thread.
  void stop();

  /// Whether messages of the topic are traced: all but those of the trace topic.
  [[nodiscard]] bool traces(const std::string& topic) const { return topic != topic_; }
  /// Thread: any; does not block.
  void add(std::vector<TraceRecord> records);
  [[nodiscard]] uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void run();
  [[nodiscard]] std::vector<TraceRecord> take();
  void send(const std::vector<TraceRecord>& records);

  const std::string topic_;
  Producer producer_;
  std::thread thread_;
  std::atomic<uint64_t> dropped_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TraceRecord> queue_;  // guarded by mutex_
  bool stopping_ = false;          // guarded by mutex_
};

/// The trace of one call of a listener: says that it begins, and with end() how it went. Does nothing without a writer,
/// for messages of the trace topic and for those of brokers that want no traces (TRACE_ON=false).
class ConsumeTrace {
 public:
  ConsumeTrace(TraceWriter* writer, const std::string& group, const std::vector<ReceivedMessage>& messages);
  /// code: TraceRecord::context_code.
  void end(bool success, int32_t code);

 private:
  TraceWriter* const writer_;
  const int64_t begun_ms_;
  std::vector<TraceRecord> records_;  // SubBefore
};

}  // namespace apogee
