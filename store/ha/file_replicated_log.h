#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/logger.h"
#include "store/commit_log.h"
#include "store/consume_queues.h"
#include "store/dispatcher.h"
#include "store/ha/replicated_log.h"
#include "store/hole_list.h"
#include "store/message_index.h"

namespace apogee::store {

/// The log of a store on a directory. It cannot truncate: see SlaveStore.
class FileReplicatedLog final : public ReplicatedLog {
 public:
  struct Parts {
    CommitLog& log;
    ConsumeQueues& queues;
    Dispatcher& dispatcher;
    MessageIndex* index;  ///< nullptr: there is none
    HoleList& holes;
    EpochFile& epochs;
    const Logger& logger;
  };
  explicit FileReplicatedLog(Parts parts) : parts_(parts) {}

  LogOffset begin() const override { return parts_.log.begin(); }
  LogOffset end() const override { return parts_.log.end(); }
  LogOffset flushed() const override { return parts_.log.flushed(); }
  int64_t file_bytes() const override { return parts_.log.files().file_bytes(); }
  Result<SharedBytes> read(LogOffset from, int64_t bytes_max) const override;
  void set_replication_listener(std::function<void()> grown) override {
    parts_.log.set_replication_listener(std::move(grown));
  }
  EpochFile& epochs() override { return parts_.epochs; }
  ReplicaAcks& acks() override { return parts_.log.acks(); }
  void append_copy(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) override {
    parts_.log.append_copy(at, std::move(bytes), std::move(done));
  }
  void append_damaged(LogOffset at, SharedBytes bytes, std::function<void(Status)> done) override;
  Status truncate(LogOffset end) override;
  std::vector<Damage> damaged() const override;
  LogOffset scrub(LogOffset from, int64_t bytes_max) override;
  Status mend(LogOffset at, std::string_view bytes) override;

 private:
  [[nodiscard]] Status check_mend(LogOffset at, std::string_view bytes) const;
  [[nodiscard]] Status take_in(LogOffset at, std::string_view bytes);
  [[nodiscard]] Status take_in_whole_behind(const LogFile& file, LogOffset at);
  [[nodiscard]] Status put_into_queue(LogOffset at, std::string_view bytes);

  const Parts parts_;
};

}  // namespace apogee::store
