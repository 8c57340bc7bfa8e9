#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/mqbench/loads/request_load.h"
#include "tools/mqbench/run/targets.h"
#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

/// The frames of a load, built once and shared by all workers, which copy and patch them. Immutable.
struct SendFrames {
  MessageShape shape;
  uint32_t run = 0;
  struct PerTag {
    MessageBodies bodies;
    /// By broker: its queues' heads.
    std::vector<std::vector<SendHead>> heads;
  };
  std::vector<PerTag> tags;  ///< one when messages have no tag
};
[[nodiscard]] std::shared_ptr<const SendFrames> build_send_frames(const MessageShape& shape, uint32_t run,
                                                                  const std::string& group, const Targets& targets);

/// Sends messages, each connection to the queues of its broker in turn.
class SendLoad : public RequestLoad {
 public:
  /// brokers: of each connection, its broker's number. acked: whether what was acknowledged is kept, message by
  /// message.
  SendLoad(Worker& worker, Problems& problems, RequestPlan plan, std::shared_ptr<const SendFrames> frames,
           std::vector<size_t> brokers, bool keep_acked);
  /// After the end: by producer.
  void add_acked(Ledger& ledger) const;
  /// After the end: how many messages were acknowledged (one-way: sent), warm-up too.
  [[nodiscard]] uint64_t acknowledged() const { return done(); }

 private:
  void write_request(Lane& lane, uint32_t opaque, uint64_t first_sequence, int64_t intended, int64_t now) override;
  void answered(Lane& lane, uint64_t first_sequence, int code) override;

  std::shared_ptr<const SendFrames> frames_;
  const std::vector<size_t> brokers_;
  const bool keep_acked_;
  std::vector<SequenceSet> acked_;
};

}  // namespace mqbench
