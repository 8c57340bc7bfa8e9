#include "common/remoting/remoting_connection.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "common/loop/loop_buffers.h"
#include "common/remoting/command_codec.h"

namespace apogee::remoting {

namespace {
constexpr size_t kSmallChunkBytes = 4 * 1024;
constexpr size_t kLargeChunkBytes = 64 * 1024;
/// What is left of a frame is copied to the front of the next read up to this size.
constexpr size_t kCopiedRestMax = 16 * 1024;
/// The header word and an empty header.
constexpr size_t kFrameBytesMin = 4;
constexpr size_t kHeadRoomMax = 4 * 1024;
}  // namespace

RemotingConnection::RemotingConnection(loop::EventLoop& loop, std::unique_ptr<loop::TcpConnection> tcp, Limits limits,
                                       std::shared_ptr<TransportCounters> counters)
    : loop_(loop),
      tcp_(std::move(tcp)),
      limits_(limits),
      counters_(std::move(counters)),
      peer_(tcp_->peer_address()),
      last_activity_ms_(loop.turn_time_ms()) {
  counters_->connections_open.fetch_add(1, std::memory_order_relaxed);
}

RemotingConnection::~RemotingConnection() {
  *alive_ = false;
  close(Error(Errc::kClosed, "the connection to " + peer_ + " was closed"));
  counters_->connections_open.fetch_sub(1, std::memory_order_relaxed);
  counters_->inflight_bytes.fetch_sub(inflight_bytes_, std::memory_order_relaxed);
}

void RemotingConnection::start(Callbacks callbacks) {
  *callbacks_ = std::move(callbacks);
  tcp_->start({[this] { return room_to_read(); }, [this](size_t bytes) { on_read(bytes); },
               [this](const Error& reason) { fail(reason); }, [this] { tell_written(); }});
}

std::pair<char*, size_t> RemotingConnection::room_to_read() {
  const size_t rest = end_ - begin_;
  reads_to_room_ = rest <= kCopiedRestMax;
  if (reads_to_room_) {
    auto room = loop_.buffers().read_room();
    return {room.chunk.get() + room.begin + rest, room.size - rest};
  }
  if (end_ == chunk_bytes_) {
    // It grows by doubling as bytes arrive, so that an announced length alone takes no memory; cut frames may still
    // share the old one.
    size_t bytes = std::max(kLargeChunkBytes, rest * 2);
    std::shared_ptr<char[]> next(new char[bytes]);
    std::memcpy(next.get(), chunk_.get() + begin_, rest);
    chunk_ = std::move(next);
    chunk_bytes_ = bytes;
    begin_ = 0;
    end_ = rest;
  }
  return {chunk_.get() + end_, chunk_bytes_ - end_};
}

void RemotingConnection::on_read(size_t bytes) {
  last_activity_ms_ = loop_.turn_time_ms();
  if (bytes > 0 && reads_to_room_) {
    // Nobody else has asked for room since room_to_read().
    auto room = loop_.buffers().room_given();
    const size_t rest = end_ - begin_;
    if (rest > 0) std::memcpy(room.chunk.get() + room.begin, chunk_.get() + begin_, rest);
    begin_ = room.begin;
    end_ = room.begin + rest;
    chunk_bytes_ = room.begin + room.size;
    chunk_ = std::move(room.chunk);
    loop_.buffers().read_up_to(end_ + bytes);
  }
  end_ += bytes;
  auto alive = alive_;
  if (cutting_) return;
  cutting_ = true;
  while (*alive && cut_frame()) {
  }
  if (!*alive) return;
  cutting_ = false;
  keep_rest();
}

/// Gives the room back, after what is left of a frame was copied from it.
void RemotingConnection::keep_rest() {
  const size_t rest = end_ - begin_;
  if (rest == 0) {
    chunk_ = nullptr;
    begin_ = end_ = chunk_bytes_ = 0;
  } else if (reads_to_room_) {
    const size_t own_bytes = std::max(kSmallChunkBytes, rest);
    std::shared_ptr<char[]> own(new char[own_bytes]);
    std::memcpy(own.get(), chunk_.get() + begin_, rest);
    chunk_ = std::move(own);
    chunk_bytes_ = own_bytes;
    begin_ = 0;
    end_ = rest;
  }
  reads_to_room_ = false;
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
  const std::string_view bytes(chunk_.get() + begin_ + kFrameLengthBytes, frame_bytes);
  begin_ += kFrameLengthBytes + frame_bytes;
  counters_->frames_in.fetch_add(1, std::memory_order_relaxed);
  auto callbacks = callbacks_;
  const auto word = load_be<uint32_t>(bytes.data());
  const size_t header_bytes = word & 0xFFFFFF;
  static thread_local HeaderView header;  // kept for its room; this is not entered again while it is looked at
  const bool binary = word >> 24 == static_cast<uint32_t>(SerializeType::kRocketMq);
  const bool scanned = (binary || word >> 24 == static_cast<uint32_t>(SerializeType::kJson)) &&
                       header_bytes <= frame_bytes - sizeof word &&
                       (binary ? scan_binary_header(bytes.substr(sizeof word, header_bytes), header)
                               : scan_header(bytes.substr(sizeof word, header_bytes), header));
  if (scanned && callbacks->on_frame && (header.flag & kResponseFlag) == 0 &&
      callbacks->on_frame(header, bytes.substr(sizeof word + header_bytes), frame_bytes))
    return true;
  SharedBytes frame(chunk_, bytes);
  auto read = scanned && !binary ? decode_scanned(header, frame) : std::nullopt;
  Result<Command> command = read ? Result<Command>(std::move(*read)) : decode_frame(frame);
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
  hold(frame_bytes);
  callbacks->on_request(std::move(*command), frame_bytes);
  return true;
}

void RemotingConnection::hold(size_t frame_bytes) {
  inflight_bytes_ += frame_bytes;
  counters_->inflight_bytes.fetch_add(frame_bytes, std::memory_order_relaxed);
  if (!tcp_ || !over_budget()) return;
  paused_ = true;
  tcp_->pause_reading();
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
  last_activity_ms_ = loop_.turn_time_ms();
  static thread_local std::string head;  // kept for its room, by the loop's thread: connections are many
  head.clear();
  append_frame_head(head, command);
  tcp_->write_copy(head);
  if (head.capacity() > kHeadRoomMax) head = {};
  if (!command.body.empty() || !command.body_tail.empty()) {
    std::vector<SharedBytes> body;
    body.reserve(1 + command.body_tail.size());
    body.push_back(command.body);
    body.insert(body.end(), command.body_tail.begin(), command.body_tail.end());
    tcp_->write(std::move(body));
  }
  if (written) unwritten_.emplace_back(tcp_->written_bytes() + tcp_->unsent_bytes(), std::move(written));
  check_unsent();
}

void RemotingConnection::send_frame(std::string_view frame, std::vector<SharedBytes>* body) {
  if (!tcp_) return;
  counters_->frames_out.fetch_add(1, std::memory_order_relaxed);
  last_activity_ms_ = loop_.turn_time_ms();
  tcp_->write_copy(frame);
  if (body != nullptr)
    for (auto& part : *body) tcp_->write(std::move(part));
  check_unsent();
}

void RemotingConnection::check_unsent() {
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
  auto on_close = std::exchange(callbacks_->on_close, nullptr);
  fail_pending(Error(Errc::kNetwork, reason.message));
  if (on_close) on_close(reason);
}

void RemotingConnection::close(const Error& reason) {
  callbacks_->on_close = nullptr;  // the flush may find the peer gone; then nobody may destroy this in here
  if (tcp_) {
    tcp_->flush();
    auto tcp = std::move(tcp_);
    if (tcp) tcp->close();
  }
  fail_pending(reason);
}

int64_t RemotingConnection::idle_ms() const { return loop_.turn_time_ms() - last_activity_ms_; }

}  // namespace apogee::remoting
