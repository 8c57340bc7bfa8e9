#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/io/file_system.h"
#include "common/message/message_record.h"
#include "store/ha/epoch_file.h"
#include "store/ha/replica_acks.h"
#include "store/ha/replicated_log.h"
#include "store/recovery.h"
#include "test/support/temporary_directory.h"

namespace apogee::test {

/// A record of the log as a producer's message makes it.
inline std::string log_record(int64_t physical_offset, int64_t queue_offset, std::string_view body) {
  message::RecordFields fields;
  const std::string host("\x7f\0\0\1", 4);
  fields.topic = "T";
  fields.born_host = {host, 1};
  fields.store_host = {host, 2};
  fields.store_timestamp_ms = 1'000 + queue_offset;
  fields.body = body;
  return message::encode_record(fields, queue_offset, physical_offset);
}

/// A log in memory that can be made to fail and to be slow, which a real one cannot. Thread: any.
class MemoryLog final : public store::ReplicatedLog {
 public:
  explicit MemoryLog(int64_t file_bytes = 1 << 20, store::ReplicationRules rules = {}, store::LogOffset begin = 0)
      : file_bytes_(file_bytes),
        begin_(begin),
        end_(begin),
        flushed_(begin),
        epochs_((directory_.path() / "epochFileCheckpoint").string(), io::posix_file_system(), logger_),
        acks_(
            rules, [this] { return end(); }, nullptr, logger_) {}

  /// As a master: appends a message; a blank first when it does not fit into the file.
  store::LogOffset put(std::string_view body) {
    std::unique_lock lock(mutex_);
    auto bytes = static_cast<int64_t>(log_record(0, 0, body).size());
    if (int64_t left = file_bytes_ - end_ % file_bytes_; bytes + 8 > left) {
      std::string blank(static_cast<size_t>(left), '\0');
      store_be<int32_t>(blank.data(), static_cast<int32_t>(left));
      store_be<int32_t>(blank.data() + 4, message::kBlankMagic);
      write(blank);
    }
    store::LogOffset at = end_;
    write(log_record(at, records_++, body));
    grown(lock);
    return at;
  }
  void put_raw(std::string_view bytes) {
    std::unique_lock lock(mutex_);
    write(bytes);
    grown(lock);
  }
  [[nodiscard]] std::string content(store::LogOffset from, store::LogOffset to) const {
    std::lock_guard lock(mutex_);
    std::string all;
    while (from < to) {
      auto bytes = std::min(to - from, file_bytes_ - from % file_bytes_);
      all.append(*files_.at(index(from)), static_cast<size_t>(from % file_bytes_), static_cast<size_t>(bytes));
      from += bytes;
    }
    return all;
  }
  [[nodiscard]] std::string content() const { return content(begin(), end()); }
  void damage(store::LogOffset at) {
    std::lock_guard lock(mutex_);
    (*files_.at(index(at)))[static_cast<size_t>(at % file_bytes_)] ^= 0x55;
  }
  void forget_before(store::LogOffset begin) {
    std::lock_guard lock(mutex_);
    begin_ = begin;
  }
  void flush(store::LogOffset to) {
    std::unique_lock lock(mutex_);
    flushed_ = to;
    grown(lock);
  }
  /// Whether flushed() follows end() by itself.
  void set_flushes(bool flushes) { flushes_ = flushes; }
  /// What the next appends of copies say; nothing is appended then.
  void fail_next(Error error) {
    std::lock_guard lock(mutex_);
    failures_.push_back(std::move(error));
  }
  /// Appends of copies wait until it is false again.
  void park(bool parked) {
    std::unique_lock lock(mutex_);
    parked_ = parked;
    auto waiting = parked ? std::vector<std::function<void()>>() : std::move(waiting_);
    if (!parked) waiting_.clear();
    lock.unlock();
    for (auto& each : waiting) each();
  }

  [[nodiscard]] store::LogOffset begin() const override { return locked(begin_); }
  [[nodiscard]] store::LogOffset end() const override { return locked(end_); }
  [[nodiscard]] store::LogOffset flushed() const override { return locked(flushed_); }
  [[nodiscard]] int64_t file_bytes() const override { return file_bytes_; }
  [[nodiscard]] Result<SharedBytes> read(store::LogOffset from, int64_t bytes_max) const override {
    std::lock_guard lock(mutex_);
    if (from < begin_ || from > end_) return Error(Errc::kNotFound, "not in the log");
    if (from == end_) return SharedBytes();
    auto bytes = std::min({bytes_max, end_ - from, file_bytes_ - from % file_bytes_});
    auto file = files_.at(index(from));
    return SharedBytes(
        file, std::string_view(*file).substr(static_cast<size_t>(from % file_bytes_), static_cast<size_t>(bytes)));
  }
  void set_replication_listener(std::function<void()> grown) override {
    std::lock_guard lock(listener_mutex_);
    listener_ = std::move(grown);
  }
  [[nodiscard]] store::EpochFile& epochs() override { return epochs_; }
  [[nodiscard]] store::ReplicaAcks& acks() override { return acks_; }

  void append_copy(store::LogOffset at, SharedBytes bytes, std::function<void(Status)> done) override {
    std::unique_lock lock(mutex_);
    if (parked_) {
      waiting_.push_back(
          [this, at, bytes = std::move(bytes), done = std::move(done)] { append_copy(at, bytes, done); });
      return;
    }
    Status result;
    if (!failures_.empty()) {
      result = failures_.front();
      failures_.pop_front();
    } else if (at != end_ && begin_ != end_) {
      result = Error(Errc::kInvalidArgument, "not at the end");
    } else {
      if (begin_ == end_) begin_ = end_ = flushed_ = at;
      write(bytes.bytes);
      ++copies_;
      grown(lock);
    }
    if (lock.owns_lock()) lock.unlock();
    done(result);
  }
  void append_damaged(store::LogOffset at, SharedBytes bytes, std::function<void(Status)> done) override {
    ++damaged_;
    append_copy(at, std::move(bytes), std::move(done));
  }
  [[nodiscard]] Status truncate(store::LogOffset end) override {
    std::lock_guard lock(mutex_);
    ++truncations_;
    end_ = end;
    flushed_ = std::min(flushed_, end);
    return {};
  }
  [[nodiscard]] std::vector<store::Damage> damaged() const override {
    std::lock_guard lock(mutex_);
    return damage_;
  }
  [[nodiscard]] store::LogOffset scrub(store::LogOffset from, int64_t bytes_max) override {
    std::lock_guard lock(mutex_);
    const auto limit = std::min(end_, from + bytes_max);
    while (from < limit) {
      auto length = look(from);
      if (length == 0) {
        auto begin = from;
        while (from < end_ && from % file_bytes_ + 1 < file_bytes_ && look(from) == 0) ++from;
        note_damage({begin, from});
        continue;
      }
      from += length;
    }
    return from;
  }
  [[nodiscard]] Status mend(store::LogOffset at, std::string_view bytes) override {
    std::lock_guard lock(mutex_);
    store::Damage mended{at, at + static_cast<store::LogOffset>(bytes.size())};
    for (char byte : bytes) {
      (*files_.at(index(at)))[static_cast<size_t>(at % file_bytes_)] = byte;
      ++at;
    }
    std::vector<store::Damage> left;
    for (auto each : damage_) {
      if (each.begin < mended.begin) left.push_back({each.begin, std::min(each.end, mended.begin)});
      if (each.end > mended.end) left.push_back({std::max(each.begin, mended.end), each.end});
    }
    damage_ = left;
    return {};
  }
  void note_damaged(store::Damage damage) {
    std::lock_guard lock(mutex_);
    note_damage(damage);
  }
  [[nodiscard]] int copies() const { return copies_; }
  [[nodiscard]] int damaged_stretches() const { return damaged_; }
  [[nodiscard]] int truncations() const { return truncations_; }

 private:
  [[nodiscard]] size_t index(store::LogOffset at) const { return static_cast<size_t>(at / file_bytes_); }
  void note_damage(store::Damage damage) {
    if (std::find(damage_.begin(), damage_.end(), damage) == damage_.end()) damage_.push_back(damage);
  }
  [[nodiscard]] int64_t look(store::LogOffset at) const {
    auto rest = std::string_view(*files_.at(index(at))).substr(static_cast<size_t>(at % file_bytes_));
    return store::look_at(rest, at, true).bytes;
  }
  [[nodiscard]] store::LogOffset locked(const store::LogOffset& value) const {
    std::lock_guard lock(mutex_);
    return value;
  }
  void write(std::string_view bytes) {
    for (size_t done = 0; done < bytes.size();) {
      while (files_.size() <= index(end_))
        files_.push_back(std::make_shared<std::string>(static_cast<size_t>(file_bytes_), '\0'));
      auto in_file = static_cast<size_t>(end_ % file_bytes_);
      auto part = bytes.substr(done, static_cast<size_t>(file_bytes_) - in_file);
      std::copy(part.begin(), part.end(), files_[index(end_)]->begin() + static_cast<ptrdiff_t>(in_file));
      end_ += static_cast<store::LogOffset>(part.size());
      done += part.size();
    }
    if (flushes_) flushed_ = end_;
  }
  void grown(std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    std::lock_guard listener_lock(listener_mutex_);
    if (listener_) listener_();
  }

  const int64_t file_bytes_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<std::string>> files_;
  store::LogOffset begin_, end_, flushed_;
  int64_t records_ = 0;
  std::deque<Error> failures_;
  std::vector<store::Damage> damage_;
  std::vector<std::function<void()>> waiting_;
  bool parked_ = false;
  std::atomic<bool> flushes_{true};
  std::atomic<int> copies_{0}, damaged_{0}, truncations_{0};
  std::mutex listener_mutex_;
  std::function<void()> listener_;
  TemporaryDirectory directory_;
  Logger logger_;
  store::EpochFile epochs_;
  store::ReplicaAcks acks_;
};

}  // namespace apogee::test
