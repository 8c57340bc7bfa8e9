#include "tools/mqbench/loads/request_load.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace mqbench {

namespace {
constexpr size_t kOneWayUnsentMax = 256 * 1024;
constexpr size_t kUnsentMax = 8UL << 20;
constexpr uint32_t kSlotsMax = 65'536;
constexpr uint32_t kGenerations = 16'000;
/// Sends due within this time are sent together.
constexpr int64_t kAlarmGapNs = 20'000;
}  // namespace

RequestLoad::RequestLoad(Worker& worker, Problems& problems, RequestPlan plan)
    : worker_(worker), problems_(problems), plan_(std::move(plan)), lanes_(plan_.addresses.size()) {
  for (size_t i = 0; i < lanes_.size(); ++i) {
    auto& lane = lanes_[i];
    lane.number = plan_.first_connection + static_cast<uint32_t>(i);
    lane.cursor = lane.number;
    if (plan_.one_way) continue;
    lane.slots.resize(plan_.window);
    for (size_t slot = plan_.window; slot > 0; --slot) lane.free.push_back(static_cast<uint16_t>(slot - 1));
  }
}

void RequestLoad::open() {
  if (lanes_.empty()) {
    set_ready();
    set_finished();
    return;
  }
  alarm_ = std::make_unique<Worker::Alarm>(worker_, [this] {
    alarm_at_ = 0;
    pump_schedule(now_ns());
  });
  for (size_t i = 0; i < lanes_.size(); ++i) {
    lanes_[i].link = std::make_unique<Link>(worker_, *this, i);
    lanes_[i].link->connect(plan_.addresses[i]);
  }
}

void RequestLoad::on_open(Link& /*link*/) {
  if (++open_ + gone_ == lanes_.size()) set_ready();
}

void RequestLoad::on_closed(Link& link, const std::string& reason) {
  auto& lane = lanes_[link.index()];
  problems_.add(fmt::format("{}: connection to {}: {}", plan_.name, plan_.addresses[link.index()], reason));
  for (auto& slot : lane.slots)
    if (slot.opaque != 0) {
      recorder_.fail(slot.intended, -1, plan_.messages_per_request);
      slot.opaque = 0;
      --in_flight_;
    }
  lane.free.clear();
  ++gone_;
  if (running_) {
    if (gone_ == lanes_.size()) set_finished();
    finish_when_done();
  } else if (open_ + gone_ >= lanes_.size()) {
    set_ready();
    if (gone_ == lanes_.size()) set_finished();
  }
}

void RequestLoad::start(const Window& window) {
  if (finished()) return;
  recorder_.open(window);
  schedule_ =
      Schedule(plan_.rate / static_cast<double>(plan_.messages_per_request), window.start, plan_.share, plan_.shares);
  running_ = true;
  const int64_t now = now_ns();
  for (auto& lane : lanes_) {
    if (!lane.link->is_open()) continue;
    if (schedule_.open_loop()) {
      offer(lane);
    } else if (plan_.one_way) {
      lane.link->call_when_writable(true);
    } else {
      pump(lane, now);
    }
  }
  if (schedule_.open_loop()) pump_schedule(now);
}

void RequestLoad::stop(int64_t end) {
  recorder_.close_at(end);
  stopped_ = true;
  alarm_.reset();
  if (plan_.one_way)
    for (auto& lane : lanes_) lane.link->call_when_writable(true);
  finish_when_done();
}

bool RequestLoad::has_room(const Lane& lane) const {
  if (all_sent() || !lane.link->is_open()) return false;
  if (plan_.one_way) return lane.link->unsent() < kOneWayUnsentMax;
  return !lane.free.empty() && lane.link->unsent() < kUnsentMax;
}

void RequestLoad::offer(Lane& lane) {
  if (lane.queued || !has_room(lane)) return;
  lane.queued = true;
  with_room_.push_back(static_cast<uint32_t>(&lane - lanes_.data()));
}

void RequestLoad::send(Lane& lane, int64_t intended, int64_t now) {
  const uint64_t first = lane.next_sequence;
  lane.next_sequence += plan_.messages_per_request;
  sent_ += plan_.messages_per_request;
  if (plan_.one_way) {
    write_request(lane, kOpaqueFirst, first, intended, now);
    recorder_.record(intended, std::max(intended, now), plan_.messages_per_request, plan_.bytes_per_request);
    return;
  }
  const uint16_t number = lane.free.back();
  lane.free.pop_back();
  auto& slot = lane.slots[number];
  lane.generation = (lane.generation + 1) % kGenerations;
  slot = {kOpaqueFirst + lane.generation * kSlotsMax + number, intended, first};
  ++in_flight_;
  write_request(lane, slot.opaque, first, intended, now);
}

void RequestLoad::pump(Lane& lane, int64_t now) {
  if (stopped_ || !running_) return;
  while (has_room(lane)) send(lane, now, now);
}

void RequestLoad::pump_schedule(int64_t now) {
  if (stopped_ || !running_) return;
  int64_t intended = 0;
  while (!with_room_.empty()) {
    auto& lane = lanes_[with_room_.front()];
    if (has_room(lane)) {
      if (!schedule_.take(now, intended)) break;
      send(lane, intended, now);
    }
    with_room_.pop_front();
    lane.queued = false;
    offer(lane);
  }
  in_flight_shown_.store(in_flight_, std::memory_order_relaxed);
  // Without room, the next answer sends what is due by then.
  if (with_room_.empty() && !plan_.one_way) return;
  const int64_t due = schedule_.next();
  if (due == alarm_at_) return;
  if (alarm_at_ != 0 && alarm_at_ <= now + kAlarmGapNs && alarm_at_ > now && due >= alarm_at_ - kAlarmGapNs) return;
  alarm_at_ = std::max(due, now + kAlarmGapNs);
  alarm_->set(alarm_at_);
  if (with_room_.empty())
    for (auto& lane : lanes_) lane.link->call_when_writable(true);
}

void RequestLoad::on_frame(Link& link, const Frame& frame, int64_t now) {
  auto& lane = lanes_[link.index()];
  Answer answer;
  if (!scan_answer(frame, false, answer)) {
    problems_.add(fmt::format("{}: an answer whose header cannot be read", plan_.name));
    return;
  }
  if (answer.request) return;
  const uint32_t number = (answer.opaque - kOpaqueFirst) % kSlotsMax;
  if (answer.opaque < kOpaqueFirst || number >= lane.slots.size() || lane.slots[number].opaque != answer.opaque) {
    problems_.add(fmt::format("{}: an answer to a request that was not sent, or a second one", plan_.name));
    return;
  }
  auto& slot = lane.slots[number];
  slot.opaque = 0;
  lane.free.push_back(static_cast<uint16_t>(number));
  --in_flight_;
  answered_ += plan_.messages_per_request;
  answered(lane, slot.first_sequence, answer.code);
  if (answer.code == 0) {
    recorder_.record(slot.intended, now, plan_.messages_per_request, plan_.bytes_per_request);
  } else {
    if (recorder_.covers(slot.intended))
      problems_.add(fmt::format("{}: refused with {} {}", plan_.name, answer.code, remark_of(frame)));
    recorder_.fail(slot.intended, answer.code, plan_.messages_per_request);
  }
}

void RequestLoad::on_read_end(Link& link, int64_t now) {
  auto& lane = lanes_[link.index()];
  if (schedule_.open_loop()) {
    offer(lane);
    // The alarm sends what becomes due; only a lane that was waited for sends at once.
    if (alarm_at_ == 0 || schedule_.next() <= now) pump_schedule(now);
  } else {
    pump(lane, now);
  }
  finish_when_done();
  in_flight_shown_.store(in_flight_, std::memory_order_relaxed);
}

void RequestLoad::on_writable(Link& link) {
  auto& lane = lanes_[link.index()];
  if (stopped_ || all_sent()) {
    link.call_when_writable(false);
    finish_when_done();
    return;
  }
  const int64_t now = now_ns();
  if (!schedule_.open_loop()) {
    pump(lane, now);
    return;
  }
  link.call_when_writable(false);
  offer(lane);
  pump_schedule(now);
}

void RequestLoad::finish_when_done() {
  if (!(stopped_ || all_sent()) || in_flight_ > 0) return;
  if (plan_.one_way)
    for (auto& lane : lanes_)
      if (lane.link->is_open() && lane.link->unsent() > 0) return;
  set_finished();
}

std::vector<LoadResult> RequestLoad::results() {
  LoadResult result;
  result.name = plan_.name;
  result.recorded = recorder_.take();
  result.intended_rate = plan_.rate;
  result.with_latency = !plan_.one_way;
  result.figures["connections"] = static_cast<double>(lanes_.size());
  result.figures["sent"] = static_cast<double>(sent_);
  result.figures["answered"] = static_cast<double>(answered_);
  std::vector<LoadResult> all;
  all.push_back(std::move(result));
  return all;
}

}  // namespace mqbench
