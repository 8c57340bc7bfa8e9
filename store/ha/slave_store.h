#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/file_store.h"
#include "store/ha/log_cut.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// The store of a slave: one that can be truncated while it runs. For that the store on the directory is stopped, cut
/// on disk and opened again, by the recovery that every start relies on; who reads meanwhile waits. When it does not
/// open again it is tried each second, and until then reads find nothing and nothing is appended.
class SlaveStore final : public MessageStore {
 public:
  SlaveStore(StoreOptions options, const Logger& logger, io::FileSystem& files);
  ~SlaveStore() override;

  Status recover();

  void set_arrival_listener(ArrivalListener listener) override { arrival_listener_ = std::move(listener); }
  void set_removal_listener(RemovalListener listener) override { removal_listener_ = std::move(listener); }
  Status start() override;
  void stop() override;
  void append(const MessageDraft& draft, PutCallback done) override;
  void append_batch(const MessageDraft& draft, PutCallback done) override { append(draft, std::move(done)); }
  GetResult get(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                const TagsCodeFilter& filter) override;
  void get_into(std::string_view topic, int32_t queue_id, QueueOffset offset, const GetLimits& limits,
                const TagsCodeFilter& filter, GetResult& to) override;
  QueueOffset max_offset(std::string_view topic, int32_t queue_id) override;
  QueueOffset min_offset(std::string_view topic, int32_t queue_id) override;
  QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms, TimeBoundary boundary) override;
  std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id, QueueOffset offset) override;
  std::optional<SharedBytes> record_at(LogOffset offset) override;
  std::optional<SharedBytes> stored_record_at(LogOffset offset) override;
  LogOffset next_record(LogOffset from) override;
  std::vector<QueueEntry> queue_entries(std::string_view topic, int32_t queue_id, QueueOffset from,
                                        int32_t count) override;
  Result<KeyAnswer> query(const KeyQuery& query) override;
  void delete_topic(std::string_view topic) override;
  void delete_topic_before(std::string_view topic, LogOffset end) override;
  std::vector<std::string> topics() override;
  int32_t queue_count(std::string_view topic) override;
  Result<size_t> clean_expired_queues() override;
  void clean_expired_files() override;
  void set_retention(const RetentionOptions& options) override;
  void set_message_bytes_max(int64_t bytes) override;
  StoreFigures figures() override;
  bool writable(std::string* why) override;
  ReplicatedLog& replicated_log() override { return log_; }

 private:
  class Log final : public ReplicatedLog {
   public:
    explicit Log(SlaveStore& store) : store_(store) {}
    LogOffset begin() const override;
    LogOffset end() const override;
    LogOffset flushed() const override;
    int64_t file_bytes() const override { return store_.options_.commit_log_file_bytes; }
    Result<SharedBytes> read(LogOffset from, int64_t bytes_max) const override;
    void set_replication_listener(std::function<void()> grown) override;
    EpochFile& epochs() override { return *store_.epochs_; }
    ReplicaAcks& acks() override { return store_.acks_; }
    void append_copy(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) override;
    void append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) override;
    Status truncate(LogOffset end) override { return store_.truncate(end); }
    std::vector<Damage> damaged() const override;
    LogOffset scrub(LogOffset from, int64_t bytes_max) override;
    Status mend(LogOffset at, std::string_view bytes) override;

   private:
    SlaveStore& store_;
  };

  /// What `use` makes of the store, or `otherwise` when there is none.
  template <typename Value, typename Use>
  Value with(Value otherwise, Use use) const {
    std::shared_lock lock(mutex_);
    return inner_ ? use(*inner_) : std::move(otherwise);
  }
  template <typename Use>
  LogOffset place(const std::atomic<LogOffset>& known, Use use) const {
    return closed_ ? known.load() : with(known.load(), use);
  }
  [[nodiscard]] Error closed() const;
  [[nodiscard]] Status truncate(LogOffset end);
  [[nodiscard]] Status reopen_locked();
  void listen();
  void reopen_soon();

  const Logger& logger_;
  io::FileSystem& files_;
  const std::shared_ptr<EpochFile> epochs_;
  ArrivalListener arrival_listener_;  // constant after start()
  RemovalListener removal_listener_;  // constant after start()
  std::mutex change_mutex_;           // before mutex_: one stop, cut or opening at a time
  bool started_ = false;              // guarded by change_mutex_
  bool stopped_ = false;              // guarded by change_mutex_
  struct Cut {
    LogOffset end = 0;
    LostRanges lost;
  };
  std::optional<Cut> cut_;                   // guarded by change_mutex_: what is to be done before the next opening
  mutable std::shared_mutex mutex_;          // users of inner_ share it
  StoreOptions options_;                     // changed under mutex_
  std::unique_ptr<FileMessageStore> inner_;  // changed under mutex_; null: it could not be opened again
  std::function<void()> grown_;              // guarded by change_mutex_
  // What is told while the store is closed, to who replicates: on a loop, which does not wait for a recovery.
  std::atomic<bool> closed_{false};
  std::atomic<LogOffset> known_begin_{0}, known_end_{0};
  ReplicaAcks acks_;  // nobody waits for a slave's slaves
  Log log_{*this};

  std::mutex reopen_mutex_;
  std::thread reopen_;  // guarded by reopen_mutex_
  std::atomic<bool> reopening_{false};
  std::chrono::steady_clock::time_point next_reopen_;  // guarded by reopen_mutex_
};

}  // namespace apogee::store
