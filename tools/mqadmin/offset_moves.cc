#include "tools/mqadmin/offset_moves.h"

#include <utility>

namespace mqadmin {

namespace {

constexpr const char* kTopic = "OFFSET_MOVED_EVENT";
constexpr size_t kMovesMax = 1'000;

apogee::PushConsumerConfig config_of(const std::string& name_servers) {
  apogee::PushConsumerConfig config;
  config.group = kMonitorGroup;
  config.name_servers = name_servers;
  config.consume_threads = 1;
  config.shutdown_timeout = std::chrono::milliseconds(3'000);
  return config;
}

}  // namespace

OffsetMoves::OffsetMoves(const std::string& name_servers) : consumer_(config_of(name_servers)) {}

apogee::Status OffsetMoves::start() {
  consumer_.set_concurrent_listener(
      [this](const std::vector<apogee::ReceivedMessage>& messages, apogee::ConcurrentContext&) {
        for (const auto& message : messages) {
          // What is no event somebody sent there by hand.
          auto event = apogee::remoting::decode_offset_moved_event(message.body());
          if (!event) continue;
          std::lock_guard lock(mutex_);
          if (moves_.size() == kMovesMax) moves_.erase(moves_.begin());
          moves_.push_back({message.store_time_ms(), std::move(*event)});
        }
        return apogee::ConsumeResult::kSuccess;
      });
  APOGEE_TRY(consumer_.subscribe(kTopic));
  return consumer_.start();
}

std::vector<OffsetMoves::Move> OffsetMoves::take() {
  std::lock_guard lock(mutex_);
  return std::exchange(moves_, {});
}

}  // namespace mqadmin
