#include "common/remoting/remoting_connection.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "common/remoting/command_codec.h"

namespace apogee::remoting {

namespace {
constexpr size_t kSmallChunkBytes = 4 * 1024;
constexpr size_t kLargeChunkBytes = 64 * 1024;
/// The header word and an empty header.
constexpr size_t kFrameBytesMin = 4;
}  // namespace

RemotingConnection::RemotingConnection(loop::EventLoop& loop, std::unique_ptr<loop::TcpConnection> tcp, Limits limits,
                                       std::shared_ptr<TransportCounters> counters)
    : loop_(loop), tcp_(std::move(tcp)), limits_(limits), counters_(std::move(counters)), peer_(tcp_->peer_address()) {
  counters_->connections_open.fetch_add(1, std::memory_order_relaxed);
}

RemotingConnection::~RemotingConnection() {
  *alive_ = false;
  close(Error(Errc::kClosed, "the connection to " + peer_ + " was closed"));
  counters_->connections_open.fetch_sub(1, std::memory_order_relaxed);
  counters_->inflight_bytes.fetch_sub(inflight_bytes_, std::memory_order_relaxed);
}

void RemotingConnection::start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  tcp_->start({[this] { return room_to_read(); }, [this](size_t bytes) { on_read(bytes); },
               [this](const Error& reason) { fail(reason); }, [this] { tell_written(); }});
}

std::pair<char*, size_t> RemotingConnection::room_to_read() {
  if (!chunk_) {
    chunk_bytes_ = next_chunk_bytes_;
    chunk_ = std::shared_ptr<char[]>(new char[chunk_bytes_]);
    begin_ = end_ = 0;
  }
  if (end_ == chunk_bytes_) {
    // The chunk is full within a frame. It grows by doubling as bytes arrive, so that an announced length
    // alone takes no memory; cut frames may still share the old one.
    size_t kept = end_ - begin_;
    size_t bytes = std::max(kLargeChunkBytes, kept * 2);
    std::shared_ptr<char[]> next(new char[bytes]);
    std::memcpy(next.get(), chunk_.get() + begin_, kept);
    chunk_ = std::move(next);
    chunk_bytes_ = bytes;
    begin_ = 0;
    end_ = kept;
  }
  return {chunk_.get() + end_, chunk_bytes_ - end_};
}

void RemotingConnection::on_read(size_t bytes) {
  last_activity_ = Clock::now();
  end_ += bytes;
  if (bytes > 0) next_chunk_bytes_ = end_ == chunk_bytes_ ? kLargeChunkBytes : kSmallChunkBytes;
  auto alive = alive_;
  if (cutting_) return;
  cutting_ = true;
  while (*alive && cut_frame()) {
  }
  if (!*alive) return;
  cutting_ = false;
  if (begin_ == end_) {
    chunk_ = nullptr;
    begin_ = end_ = chunk_bytes_ = 0;
  }
}

bool RemotingConnection::cut_frame() {
  if (!tcp_ || paused_ || end_ - begin_ < kFrameLengthBytes) return false;
  auto announced = load_be<int32_t>(chunk_.get() + begin_);
  if (announced < static_cast<int32_t>(kFrameBytesMin)) {
    counters_->bad_frames.fetch_add(1, std::memory_order_relaxed);
    fail(Error(Errc::kCorrupt, fmt::format("{}: a frame of {} bytes is shorter than its header", peer_, announced)));
    return false;
  }
  auto frame_bytes = static_cast<size_t>(announced);
  if (frame_bytes > limits_.frame_bytes_max) {
    counters_->oversize_frames.fetch_add(1, std::memory_order_relaxed);
    fail(Error(Errc::kTooLarge,
               fmt::format("{}: a frame of {} bytes, the limit is {}", peer_, frame_bytes, limits_.frame_bytes_max)));
    return false;
  }
  if (end_ - begin_ - kFrameLengthBytes < frame_bytes) return false;
  SharedBytes frame(chunk_, std::string_view(chunk_.get() + begin_ + kFrameLengthBytes, frame_bytes));
  begin_ += kFrameLengthBytes + frame_bytes;
  counters_->frames_in.fetch_add(1, std::memory_order_relaxed);
  auto command = decode_frame(frame);
  if (!command) {
    counters_->bad_frames.fetch_add(1, std::memory_order_relaxed);
    fail(Error(command.error().code, peer_ + ": " + command.error().message));
    return false;
  }
  frame = {};
  if (command->is_response()) {
    auto found = pending_.find(command->opaque);
    if (found == pending_.end()) return true;  // it came after its deadline
    auto done = std::move(found->second.done);
    pending_.erase(found);
    done(std::move(*command));
    return true;
  }
  inflight_bytes_ += frame_bytes;
  counters_->inflight_bytes.fetch_add(frame_bytes, std::memory_order_relaxed);
  if (over_budget()) {
    paused_ = true;
    tcp_->pause_reading();
  }
  auto on_request = callbacks_.on_request;
  on_request(std::move(*command), frame_bytes);
  return true;
}

bool RemotingConnection::over_budget() const {
  return inflight_bytes_ > limits_.inflight_bytes_max ||
         counters_->inflight_bytes.load(std::memory_order_relaxed) > limits_.total_inflight_bytes_max;
}

void RemotingConnection::release(size_t frame_bytes) {
  inflight_bytes_ -= frame_bytes;
  counters_->inflight_bytes.fetch_sub(frame_bytes, std::memory_order_relaxed);
  // With nothing of its own in flight a connection may always go on: no other one would wake it.
  if (!paused_ || !tcp_ || (over_budget() && inflight_bytes_ > 0)) return;
  paused_ = false;
  tcp_->resume_reading();
  on_read(0);  // whole frames may wait in the chunk
}

void RemotingConnection::send(const Command& command, Written written) {
  if (!tcp_) {
    if (written) written(Error(Errc::kClosed, "the connection to " + peer_ + " is closed"));
    return;
  }
  counters_->frames_out.fetch_add(1, std::memory_order_relaxed);
  last_activity_ = Clock::now();
  tcp_->write(encode_frame(command));
  if (written) unwritten_.emplace_back(tcp_->written_bytes() + tcp_->unsent_bytes(), std::move(written));
  if (tcp_ && tcp_->unsent_bytes() > limits_.unsent_bytes_max) {
    // Not from within the caller's turn: it may still use this connection.
    loop_.post([this, alive = alive_] {
      if (*alive && tcp_)
        fail(Error(Errc::kBusy, fmt::format("{} does not read: {} bytes wait for it", peer_, tcp_->unsent_bytes())));
    });
  }
}

void RemotingConnection::call(Command request, int64_t timeout_ms, ReplyCallback done) {
  if (!tcp_) return done(Error(Errc::kClosed, "the connection to " + peer_ + " is closed"));
  do {
    request.opaque = next_opaque_;
    next_opaque_ = next_opaque_ == INT32_MAX ? 1 : next_opaque_ + 1;
  } while (pending_.contains(request.opaque));
  auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  pending_.emplace(request.opaque, Pending{deadline, std::move(done)});
  arm_deadline(deadline);
  send(request);
}

void RemotingConnection::arm_deadline(Clock::time_point deadline) {
  if (deadline_timer_ != 0) {
    if (armed_for_ <= deadline) return;
    loop_.cancel(deadline_timer_);
  }
  armed_for_ = deadline;
  auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  deadline_timer_ = loop_.run_after(std::max(wait, std::chrono::milliseconds(0)), [this] { expire(); });
}

void RemotingConnection::expire() {
  deadline_timer_ = 0;
  auto now = Clock::now();
  std::vector<ReplyCallback> late;
  auto earliest = Clock::time_point::max();
  for (auto it = pending_.begin(); it != pending_.end();) {
    if (it->second.deadline <= now) {
      late.push_back(std::move(it->second.done));
      it = pending_.erase(it);
    } else {
      earliest = std::min(earliest, it->second.deadline);
      ++it;
    }
  }
  if (earliest != Clock::time_point::max()) arm_deadline(earliest);
  std::string peer = peer_;  // a callback may destroy this
  for (auto& done : late) done(Error(Errc::kTimeout, "no answer from " + peer + " in time"));
}

void RemotingConnection::tell_written() {
  auto alive = alive_;
  while (*alive && tcp_ && !unwritten_.empty() && unwritten_.front().first <= tcp_->written_bytes()) {
    auto written = std::move(unwritten_.front().second);
    unwritten_.pop_front();
    written(Status());
  }
}

void RemotingConnection::fail_pending(const Error& reason) {
  if (deadline_timer_ != 0) loop_.cancel(deadline_timer_);
  deadline_timer_ = 0;
  auto pending = std::move(pending_);
  pending_.clear();
  auto unwritten = std::move(unwritten_);
  unwritten_.clear();
  for (auto& [opaque, call] : pending) call.done(reason);
  for (auto& [end, written] : unwritten) written(reason);
}

void RemotingConnection::fail(const Error& reason) {
  if (!tcp_) return;
  auto tcp = std::move(tcp_);
  tcp->close();
  auto on_close = std::move(callbacks_.on_close);
  fail_pending(Error(Errc::kNetwork, reason.message));
  if (on_close) on_close(reason);
}

void RemotingConnection::close(const Error& reason) {
  callbacks_.on_close = nullptr;  // the flush may find the peer gone; then nobody may destroy this in here
  if (tcp_) {
    tcp_->flush();
    auto tcp = std::move(tcp_);
    if (tcp) tcp->close();
  }
  fail_pending(reason);
}

int64_t RemotingConnection::idle_ms() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - last_activity_).count();
}

}  // namespace apogee::remoting
