#include "tools/mqbench/loads/send_load.h"

#include <cstring>

#include "tools/mqbench/wire/stamp.h"

namespace mqbench {

std::shared_ptr<const SendFrames> build_send_frames(const MessageShape& shape, uint32_t run, const std::string& group,
                                                    const Targets& targets) {
  auto frames = std::make_shared<SendFrames>();
  frames->shape = shape;
  frames->run = run;
  const std::vector<std::string> tags = shape.tags.empty() ? std::vector<std::string>{""} : shape.tags;
  for (const auto& tag : tags) {
    SendFrames::PerTag built;
    built.bodies = build_bodies(shape, run, tag);
    built.heads.resize(targets.brokers.size());
    for (const auto& queue : targets.queues)
      built.heads[queue.broker].push_back(build_send_head(shape, run, tag, group, queue.topic, queue.queue,
                                                          targets.brokers[queue.broker].name,
                                                          built.bodies.bytes.size()));
    frames->tags.push_back(std::move(built));
  }
  return frames;
}

SendLoad::SendLoad(Worker& worker, Problems& problems, RequestPlan plan, std::shared_ptr<const SendFrames> frames,
                   std::vector<size_t> brokers, bool keep_acked)
    : RequestLoad(worker, problems, std::move(plan)),
      frames_(std::move(frames)),
      brokers_(std::move(brokers)),
      keep_acked_(keep_acked),
      acked_(keep_acked ? lanes().size() : 0) {}

void SendLoad::write_request(Lane& lane, uint32_t opaque, uint64_t first_sequence, int64_t intended, int64_t now) {
  const auto index = static_cast<size_t>(&lane - lanes().data());
  const size_t turn = lane.cursor++;
  const size_t queues = frames_->tags[0].heads[brokers_[index]].size();
  const auto& tag = frames_->tags[turn / queues % frames_->tags.size()];
  const auto& head = tag.heads[brokers_[index]][turn % queues];
  const auto& request = head.request;
  const auto& bodies = tag.bodies;
  char* to = lane.link->append(request.bytes, bodies.bytes);
  char* body = to + request.bytes.size();
  patch_opaque(to, request.opaque_at, request.type, opaque);
  std::memcpy(to + head.born_at, worker().wall_digits(now), 13);
  const auto write_key = [&lane](char* at, uint64_t sequence) {
    write_hex(at, lane.number, 8);
    write_hex(at + 8, sequence, 16);
  };
  for (size_t at : head.keys_at) write_key(to + at, first_sequence);
  Stamp stamp;
  stamp.run = frames_->run;
  stamp.producer = lane.number;
  stamp.body_bytes = static_cast<uint32_t>(frames_->shape.body_bytes);
  stamp.sequence = first_sequence;
  stamp.intended_ns = intended;
  for (const auto& part : bodies.parts) {
    write_stamp(stamp, bodies.filler_hash, body + part.body_at);
    for (size_t at : part.keys_at) write_key(body + at, stamp.sequence);
    ++stamp.sequence;
  }
}

void SendLoad::answered(Lane& lane, uint64_t first_sequence, int code) {
  if (!keep_acked_ || code != 0) return;
  auto& acked = acked_[static_cast<size_t>(&lane - lanes().data())];
  for (uint64_t i = 0; i < plan().messages_per_request; ++i) acked.add(first_sequence + i);
}

void SendLoad::add_acked(Ledger& ledger) const {
  for (size_t i = 0; i < acked_.size(); ++i)
    ledger[producer_key(frames_->run, plan().first_connection + static_cast<uint32_t>(i))].merge(acked_[i]);
}

}  // namespace mqbench
