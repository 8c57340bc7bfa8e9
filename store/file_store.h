#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/checkpoint.h"
#include "store/commit_log.h"
#include "store/consume_queues.h"
#include "store/dispatcher.h"
#include "store/ha/epoch_file.h"
#include "store/ha/file_replicated_log.h"
#include "store/message_index.h"
#include "store/message_store.h"
#include "store/queue_floors.h"
#include "store/queue_reader.h"
#include "store/recovery.h"
#include "store/retention.h"

namespace apogee::store {

/// The store on a directory: composes the parts, keeps checkpoint and disk figures.
class FileMessageStore final : public MessageStore {
 public:
  /// epochs: of the same directory, held by others too; null: its own.
  FileMessageStore(StoreOptions options, const Logger& logger, io::FileSystem& files,
                   std::shared_ptr<EpochFile> epochs = nullptr);
  ~FileMessageStore() override { stop(); }

  Status recover();

  void set_arrival_listener(ArrivalListener listener) override {
    dispatcher_.set_arrival_listener(std::move(listener));
  }
  void set_removal_listener(RemovalListener listener) override { retention_.set_removal_listener(std::move(listener)); }
  void set_waiting(std::function<bool()> waiting) override { dispatcher_.set_waiting(std::move(waiting)); }
  void dispatch_appended() override { dispatcher_.dispatch_here(); }
  Status start() override;
  void stop() override;
  void append(const MessageDraft& draft, PutCallback done) override;
  void append_batch(const MessageDraft& draft, PutCallback done) override;
  bool append_quickly(const QuickMessages& messages, QuickPlace& place, std::function<void(Synced)> synced) override;
  GetResult get(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                const TagsCodeFilter& filter) override {
    GetResult result;
    reader_.get(topic, queue_id, offset, limits, filter, result);
    return result;
  }
  void get_into(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                const TagsCodeFilter& filter, GetResult& to) override {
    reader_.get(topic, queue_id, offset, limits, filter, to);
  }
  QueueOffset max_offset(std::string_view topic, int32_t queue_id) override;
  QueueOffset min_offset(std::string_view topic, int32_t queue_id) override;
  QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                             TimeBoundary boundary) override {
    return reader_.offset_by_time(topic, queue_id, time_ms, boundary);
  }
  std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id, QueueOffset offset) override {
    return reader_.store_time_ms(topic, queue_id, offset);
  }
  std::optional<SharedBytes> record_at(LogOffset offset) override {
    return reader_.record_at(offset, log_.readable_end());
  }
  std::optional<SharedBytes> stored_record_at(LogOffset offset) override {
    return reader_.record_at(offset, log_.end());
  }
  LogOffset next_record(LogOffset from) override;
  std::vector<QueueEntry> queue_entries(std::string_view topic, int32_t queue_id, QueueOffset from,
                                        int32_t count) override;
  Result<KeyAnswer> query(const KeyQuery& query) override { return query_index(index_.get(), query); }
  void delete_topic(std::string_view topic) override;
  void delete_topic_before(std::string_view topic, LogOffset end) override;
  std::vector<std::string> topics() override { return queues_.topics(); }
  int32_t queue_count(std::string_view topic) override;
  Result<size_t> clean_expired_queues() override;
  void clean_expired_files() override;
  void set_retention(const RetentionOptions& options) override { retention_.set_options(options); }
  void set_message_bytes_max(int64_t bytes) override { message_bytes_max_.store(bytes, std::memory_order_relaxed); }
  StoreFigures figures() override;
  LogOffset log_end() override { return log_.end(); }
  bool writable(std::string* why) override { return log_.writable(why); }
  ReplicatedLog& replicated_log() override { return replicated_; }
  [[nodiscard]] const LogFiles& log_files() const { return log_.files(); }

 private:
  static CommitLog::Options log_options(const StoreOptions& options);
  [[nodiscard]] std::string path(const char* name) const { return options_.root_dir + "/" + name; }
  [[nodiscard]] std::optional<PutResult> refusal(const MessageDraft& draft) const;
  [[nodiscard]] std::optional<PutResult> refusal(std::string_view topic, size_t properties_bytes,
                                                 size_t body_bytes) const;
  void place(CommitLog::Unit unit, PutCallback done);
  void run_keeper();
  void look_now();  ///< at once, instead of at the keeper's next time
  [[nodiscard]] Result<bool> restart_queues_of_others(LogOffset log_end);
  [[nodiscard]] Result<bool> queues_lack_messages(LogOffset log_end);
  void clean_log();
  void keep_floors(bool now);
  /// The log begins there now: told to every part that holds positions in it.
  void log_begins_at(LogOffset begin);
  void save_checkpoint(bool at_clean_stop = false);

  const StoreOptions options_;
  std::atomic<int64_t> message_bytes_max_;
  io::FileSystem& files_;
  const Logger& logger_;
  std::unique_ptr<io::DirectoryLock> lock_;
  HoleList holes_;
  CommitLog log_;
  ConsumeQueues queues_;
  Dispatcher dispatcher_;
  QueueReader reader_;
  QueueFloors floors_;
  Retention retention_;
  std::unique_ptr<MessageIndex> index_;  // null: messageIndexEnable is false
  const std::shared_ptr<EpochFile> epochs_;
  FileReplicatedLog replicated_;
  bool started_ = false, stopped_ = false;

  std::mutex keeper_mutex_;
  std::condition_variable keeper_wanted_;
  std::atomic<bool> stop_keeper_{false};  // set under keeper_mutex_
  bool look_now_ = false;                 // guarded by keeper_mutex_
  std::thread keeper_;                    // syncs of queues, checkpoint and disk space
  Checkpoint saved_checkpoint_;           // the keeper's
  int looks_ = 0;                         // the keeper's
  Dispatcher::SyncedTo synced_to_;        // the keeper's: the last place that a checkpoint may name
  Dispatcher::SyncedTo place_of_floors_;  // the keeper's: that of the floors proposed last
  std::atomic<int64_t> put_messages_{0}, put_bytes_{0}, put_failed_{0};
};

}  // namespace apogee::store
