#include "tools/mqbench/loads/pull_load.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/bytes.h"
#include "tools/mqbench/wire/record_walk.h"
#include "tools/mqbench/wire/stamp.h"

namespace mqbench {

namespace {
constexpr int kPullMessage = 11;
constexpr int kFound = 0, kNotFound = 19, kRetryAtOnce = 20, kOffsetMoved = 21, kNoSuchExpression = 23;
constexpr int kOffsetDigits = 18;
constexpr std::string_view kOffsetHole = "876543210987654321";
constexpr int kFailuresMax = 1'000;
constexpr int64_t kRetryNs = 100'000'000;
constexpr int kFlags = 2 | 4;  // suspend; the subscription is in the request
}  // namespace

PullLoad::PullLoad(Worker& worker, Problems& problems, PullPlan plan)
    : worker_(worker), problems_(problems), plan_(std::move(plan)) {
  cursors_.reserve(plan_.queues.size());
  std::vector<size_t> turn(plan_.brokers.size());
  for (const auto& queue : plan_.queues) {
    Cursor cursor;
    cursor.link = queue.target.broker * plan_.connections + turn[queue.target.broker]++ % plan_.connections;
    cursor.next = queue.from;
    cursor.until = queue.until;
    Fields fields{{"consumerGroup", plan_.group},
                  {"topic", queue.target.topic},
                  {"queueId", std::to_string(queue.target.queue)},
                  {"queueOffset", std::string(kOffsetHole)},
                  {"maxMsgNums", std::to_string(plan_.batch)},
                  {"sysFlag", std::to_string(kFlags)},
                  {"commitOffset", "0"},
                  {"suspendTimeoutMillis", std::to_string(plan_.suspend_ms)},
                  {"subscription", plan_.subscription},
                  {"subVersion", "1"},
                  {"expressionType", plan_.sql ? "SQL92" : "TAG"}};
    cursor.request = build_request(plan_.header, kPullMessage, false, fields, 0);
    cursor.offset_at = cursor.request.bytes.find(kOffsetHole);
    patch_opaque(cursor.request.bytes.data(), cursor.request.opaque_at, plan_.header,
                 kOpaqueFirst + static_cast<uint32_t>(cursors_.size()));
    cursors_.push_back(std::move(cursor));
  }
}

void PullLoad::open() {
  if (cursors_.empty()) {
    set_ready();
    set_finished();
    return;
  }
  alarm_ = std::make_unique<Worker::Alarm>(worker_, [this] { pull_those_due(); });
  for (size_t broker = 0; broker < plan_.brokers.size(); ++broker)
    for (size_t i = 0; i < plan_.connections; ++i) {
      links_.push_back(std::make_unique<Link>(worker_, *this, links_.size()));
      links_.back()->connect(plan_.brokers[broker].address);
    }
}

void PullLoad::on_open(Link& /*link*/) {
  if (++open_ + gone_ == plan_.brokers.size() * plan_.connections) set_ready();
}

void PullLoad::on_closed(Link& link, const std::string& reason) {
  problems_.add(fmt::format("{}: connection to {}: {}", plan_.name,
                            plan_.brokers[link.index() / plan_.connections].address, reason));
  ++gone_;
  for (auto& cursor : cursors_)
    if (cursor.link == link.index()) {
      cursor.waiting = false;
      cursor.done = true;
    }
  if (open_ + gone_ >= plan_.brokers.size() * plan_.connections) set_ready();
  finish_when_done();
}

void PullLoad::start(const Window& window) {
  pulls_.open(window);
  deliveries_.open(window);
  running_ = true;
  const int64_t now = now_ns();
  for (auto& cursor : cursors_) {
    settle(cursor);
    if (!cursor.done) pull(cursor, now);
  }
  finish_when_done();
}

void PullLoad::stop(int64_t end) {
  pulls_.close_at(end);
  deliveries_.close_at(end);
  stopped_ = true;
  // Queues with an end are read to it; the others are left where they are.
  for (auto& cursor : cursors_)
    if (cursor.until < 0 || plan_.repeat) cursor.done = true;
  finish_when_done();
}

void PullLoad::finish_at(const std::vector<int64_t>& ends) {
  for (size_t i = 0; i < cursors_.size(); ++i) {
    cursors_[i].until = ends[i];
    settle(cursors_[i]);
  }
  finish_when_done();
}

void PullLoad::settle(Cursor& cursor) {
  if (cursor.until < 0 || cursor.next < cursor.until) return;
  if (plan_.repeat && !stopped_)
    cursor.next = plan_.queues[static_cast<size_t>(&cursor - cursors_.data())].from;
  else
    cursor.done = true;
}

void PullLoad::finish_when_done() {
  if (!running_) return;
  if (std::all_of(cursors_.begin(), cursors_.end(), [](const Cursor& cursor) { return cursor.done; })) set_finished();
}

void PullLoad::pull(Cursor& cursor, int64_t now) {
  auto& link = *links_[cursor.link];
  if (!link.is_open()) return;
  write_digits(cursor.request.bytes.data() + cursor.offset_at, static_cast<uint64_t>(cursor.next), kOffsetDigits);
  link.append(cursor.request.bytes);
  cursor.sent_at = now;
  cursor.waiting = true;
  cursor.not_before = 0;
  ++counts_.pulls;
}

void PullLoad::pull_those_due() {
  const int64_t now = now_ns();
  bool later = false;
  for (auto& cursor : cursors_) {
    if (cursor.not_before == 0 || cursor.done || cursor.waiting) continue;
    if (cursor.not_before <= now)
      pull(cursor, now);
    else
      later = true;
  }
  if (later) alarm_->set(now + 1'000'000);
}

void PullLoad::on_frame(Link& /*link*/, const Frame& frame, int64_t now) {
  Answer answer;
  if (!scan_answer(frame, true, answer)) {
    problems_.add(fmt::format("{}: an answer whose header cannot be read", plan_.name));
    return;
  }
  if (answer.request) return;
  const size_t index = answer.opaque - kOpaqueFirst;
  if (answer.opaque < kOpaqueFirst || index >= cursors_.size() || !cursors_[index].waiting) {
    problems_.add(fmt::format("{}: an answer to a pull that was not sent, or a second one", plan_.name));
    return;
  }
  auto& cursor = cursors_[index];
  cursor.waiting = false;
  const int64_t begin = cursor.next;
  uint64_t body_bytes = 0;
  if (answer.code == kFound) {
    const uint64_t messages = take_messages(index, frame.body, now, body_bytes);
    if (!filters()) pulls_.record(cursor.sent_at, now, messages, body_bytes);
    if (messages == 0) wrong(index, cursor.next, "an answer without messages");
    cursor.failures = 0;
  } else if (answer.code == kNotFound || answer.code == kRetryAtOnce) {
    ++counts_.empty_pulls;
  } else if (answer.code == kOffsetMoved) {
    wrong(index, cursor.next, fmt::format("the broker moves on to {}", answer.next_offset));
  } else {
    pulls_.fail(cursor.sent_at, answer.code, 1);
    problems_.add(fmt::format("{}: refused with {} {}", plan_.name, answer.code, remark_of(frame)));
    if (++cursor.failures >= kFailuresMax || answer.code == kNoSuchExpression) cursor.done = true;
    cursor.not_before = now + kRetryNs;
    alarm_->set(cursor.not_before);
    finish_when_done();
    return;
  }
  if (answer.next_offset >= 0) cursor.next = answer.next_offset;
  if (filters() && cursor.next > begin)
    pulls_.record(cursor.sent_at, now, static_cast<uint64_t>(cursor.next - begin), body_bytes);
  settle(cursor);
  if (!cursor.done)
    pull(cursor, now);
  else
    finish_when_done();
}

uint64_t PullLoad::take_messages(size_t index, std::string_view body, int64_t now, uint64_t& body_bytes) {
  auto& cursor = cursors_[index];
  const auto& target = plan_.queues[index].target;
  int64_t expected = cursor.next;
  uint64_t messages = 0;
  Record record;
  while (!body.empty()) {
    if (!first_record(body, record)) {
      ++counts_.damaged;
      wrong(index, expected, "bytes that are no record");
      break;
    }
    body.remove_prefix(record.bytes);
    if (record.queue_id != target.queue || record.topic != target.topic || record.queue_offset < expected ||
        (record.queue_offset > expected && !filters())) {
      ++counts_.misplaced;
      wrong(index, expected,
            fmt::format("{} queue {} offset {} instead", record.topic, record.queue_id, record.queue_offset));
    }
    expected = record.queue_offset + 1;
    ++messages;
    body_bytes += record.body.size();
    ++counts_.messages;
    take_message(index, record.body, now);
  }
  if (messages > 0) cursor.next = expected;
  return messages;
}

void PullLoad::take_message(size_t index, std::string_view body, int64_t now) {
  Stamp stamp;
  const auto check = check_body(body, stamp);
  if (check != BodyCheck::kGood) {
    const bool damaged = check == BodyCheck::kDamaged;
    ++(damaged ? counts_.damaged : counts_.foreign);
    if (damaged) wrong(index, -1, "a damaged body");
    if (!damaged && plan_.foreign_is_wrong) wrong(index, -1, "a body that mqbench did not write");
    return;
  }
  if (plan_.keep_received) {
    const auto key = producer_key(stamp.run, stamp.producer);
    if (last_set_ == nullptr || key != last_producer_) {
      last_set_ = &received_[key];
      last_producer_ = key;
    }
    if (!last_set_->add(stamp.sequence)) {
      ++counts_.twice;
      wrong(index, -1, "a message that came before");
    }
  }
  if (!plan_.delivery_name.empty() && stamp.run == plan_.run)
    deliveries_.record(stamp.intended_ns, now, 1, body.size());
}

void PullLoad::wrong(size_t index, int64_t offset, const std::string& what) {
  const auto& target = plan_.queues[index].target;
  problems_.add(
      offset < 0 ? fmt::format("{}: {} queue {}: {}", plan_.name, target.topic, target.queue, what)
                 : fmt::format("{}: {} queue {} offset {}: {}", plan_.name, target.topic, target.queue, offset, what));
}

std::vector<LoadResult> PullLoad::results() {
  std::vector<LoadResult> all;
  LoadResult pulls;
  pulls.name = plan_.name;
  pulls.recorded = pulls_.take();
  pulls.with_latency = plan_.delivery_name.empty();  // live pulls are held until something comes
  const std::pair<const char*, uint64_t> figures[] = {{"received", counts_.messages},      {"foreign", counts_.foreign},
                                                      {"damaged", counts_.damaged},        {"twice", counts_.twice},
                                                      {"misplaced", counts_.misplaced},    {"pulls", counts_.pulls},
                                                      {"empty_pulls", counts_.empty_pulls}};
  for (const auto& [name, value] : figures) pulls.figures[name] = static_cast<double>(value);
  all.push_back(std::move(pulls));
  if (!plan_.delivery_name.empty()) {
    LoadResult deliveries;
    deliveries.name = plan_.delivery_name;
    deliveries.recorded = deliveries_.take();
    all.push_back(std::move(deliveries));
  }
  return all;
}

void PullLoad::add_received(Ledger& ledger) const {
  for (const auto& [producer, sequences] : received_) ledger[producer].merge(sequences);
}

}  // namespace mqbench
