#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "store/commit_log.h"
#include "store/ha/replicated_log.h"

namespace apogee::store {

/// The log of a store on a directory. It cannot truncate: see SlaveStore.
class FileReplicatedLog final : public ReplicatedLog {
 public:
  FileReplicatedLog(CommitLog& log, EpochFile& epochs) : log_(log), epochs_(epochs) {}

  LogOffset begin() const override { return log_.begin(); }
  LogOffset end() const override { return log_.end(); }
  LogOffset flushed() const override { return log_.flushed(); }
  int64_t file_bytes() const override { return log_.files().file_bytes(); }
  Result<SharedBytes> read(LogOffset from, int64_t bytes_max) const override;
  void set_replication_listener(std::function<void()> grown) override {
    log_.set_replication_listener(std::move(grown));
  }
  EpochFile& epochs() override { return epochs_; }
  ReplicaAcks& acks() override { return log_.acks(); }
  void append_copy(LogOffset at, std::string bytes, std::function<void(Status)> done) override {
    log_.append_copy(at, std::move(bytes), std::move(done));
  }
  Status truncate(LogOffset end) override;
  std::vector<Damage> damaged() const override;
  LogOffset scrub(LogOffset from, int64_t bytes_max) override;
  Status mend(LogOffset at, std::string_view bytes) override;

 private:
  CommitLog& log_;
  EpochFile& epochs_;
};

}  // namespace apogee::store
