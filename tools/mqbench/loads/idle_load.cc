#include "tools/mqbench/loads/idle_load.h"

#include <fmt/core.h>

#include <algorithm>

#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

namespace {
constexpr int kHeartBeat = 34;
}

IdleLoad::IdleLoad(Worker& worker, Problems& problems, IdlePlan plan)
    : worker_(worker), problems_(problems), plan_(std::move(plan)), since_(plan_.addresses.size()) {
  links_.reserve(plan_.addresses.size());
}

void IdleLoad::open() {
  if (plan_.addresses.empty()) {
    set_ready();
    set_finished();
    return;
  }
  alarm_ = std::make_unique<Worker::Alarm>(worker_, [this] { beat(); });
  begun_ = now_ns();
  for (size_t i = 0; i < plan_.opening; ++i) open_next();
}

void IdleLoad::open_next() {
  const size_t index = links_.size();
  if (index == plan_.addresses.size()) return;
  since_[index] = now_ns();
  links_.push_back(std::make_unique<Link>(worker_, *this, index));
  links_.back()->connect(plan_.addresses[index]);
}

void IdleLoad::on_open(Link& link) {
  all_open_ = now_ns();
  connects_.latency.record(all_open_ - since_[link.index()]);
  ++connects_.messages;
  ++connects_.frames;
  ++open_;
  open_next();
  if (open_ + gone_ == plan_.addresses.size()) set_ready();
}

void IdleLoad::on_closed(Link& link, const std::string& reason) {
  if (stopped_) return;
  problems_.add(fmt::format("connections: to {}: {}", plan_.addresses[link.index()], reason));
  if (running_) {
    ++lost_;
    return;
  }
  ++gone_;
  ++connects_.failed[-1];
  worker_.post([this] { open_next(); });
  if (open_ + gone_ >= plan_.addresses.size()) set_ready();
}

void IdleLoad::start(const Window& window) {
  heartbeats_.open(window);
  running_ = true;
  if (links_.empty()) return;
  beat_gap_ = static_cast<int64_t>(plan_.heartbeat_seconds * 1e9 / static_cast<double>(links_.size()));
  next_beat_at_ = window.start + beat_gap_;
  alarm_->set(next_beat_at_);
}

void IdleLoad::beat() {
  const int64_t now = now_ns();
  for (; next_beat_at_ <= now; next_beat_at_ += beat_gap_) {
    const size_t index = next_beat_++ % links_.size();
    auto& link = *links_[index];
    if (!link.is_open()) continue;
    const auto body =
        fmt::format("{{\"clientID\":\"{}{}\",\"consumerDataSet\":[],\"producerDataSet\":[{{\"groupName\":\"{}\"}}]}}",
                    plan_.client_prefix, index, plan_.group);
    const auto request = build_request(HeaderType::kJson, kHeartBeat, false, {}, body.size());
    link.append(request.bytes, body);
    since_[index] = now;
  }
  alarm_->set(next_beat_at_);
}

void IdleLoad::on_frame(Link& link, const Frame& frame, int64_t now) {
  Answer answer;
  if (!scan_answer(frame, false, answer) || answer.request) return;
  if (answer.code == 0) {
    heartbeats_.record(since_[link.index()], now, 1, 0);
  } else {
    heartbeats_.fail(since_[link.index()], answer.code, 1);
    problems_.add(fmt::format("heartbeat: refused with {} {}", answer.code, remark_of(frame)));
  }
}

void IdleLoad::stop(int64_t end) {
  heartbeats_.close_at(end);
  stopped_ = true;
  alarm_.reset();
  set_finished();
}

std::vector<LoadResult> IdleLoad::results() {
  std::vector<LoadResult> all(2);
  all[0].name = "connect";
  all[0].recorded = std::move(connects_);
  all[0].whole_run = true;
  all[0].figures["open"] = static_cast<double>(open_);
  all[0].figures["lost"] = static_cast<double>(lost_);
  all[0].figures["open_seconds"] = static_cast<double>(std::max<int64_t>(0, all_open_ - begun_)) / 1e9;
  all[1].name = "heartbeat";
  all[1].recorded = heartbeats_.take();
  return all;
}

}  // namespace mqbench
