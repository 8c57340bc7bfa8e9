#include "test/support/ha_classic_peer.h"

#include <algorithm>

#include "test/support/wait.h"

namespace apogee::test {

namespace {

constexpr std::chrono::milliseconds kStep{5};

std::string number(uint64_t value, int bytes) {
  std::string text;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) text += static_cast<char>(value >> shift);
  return text;
}

uint64_t number_of(std::string_view bytes) {
  uint64_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

}  // namespace

ClassicMaster::ClassicMaster(Options options, int64_t begin, std::string log)
    : options_(options), begin_(begin), log_(std::move(log)), thread_([this] { run(); }) {}

ClassicMaster::~ClassicMaster() {
  stopping_ = true;
  thread_.join();
}

void ClassicMaster::append(const std::string& bytes) {
  std::lock_guard lock(mutex_);
  log_ += bytes;
}

std::vector<int64_t> ClassicMaster::first_reports() const {
  std::lock_guard lock(mutex_);
  return first_reports_;
}

void ClassicMaster::run() {
  while (!stopping_) {
    int descriptor = listener_.accept(std::chrono::milliseconds(20));
    if (descriptor < 0) continue;
    StreamSocket socket(descriptor);
    serve(socket);
  }
}

std::string ClassicMaster::next_frame(int64_t at, bool heartbeat) const {
  std::lock_guard lock(mutex_);
  const int64_t end = begin_ + static_cast<int64_t>(log_.size());
  const int64_t file_left = options_.file_bytes - at % options_.file_bytes;
  const int64_t size = heartbeat ? 0 : std::min({end - at, static_cast<int64_t>(options_.frame_bytes), file_left});
  if (size <= 0 && !heartbeat) return {};
  return number(static_cast<uint64_t>(at), 8) + number(static_cast<uint64_t>(size), 4) +
         log_.substr(static_cast<size_t>(at - begin_), static_cast<size_t>(size));
}

void ClassicMaster::serve(StreamSocket& socket) {
  int64_t at = -1, sent_bytes = 0;
  const bool cut = options_.cut_after_bytes >= 0 && cuts_ < options_.cuts;
  cuts_ += cut ? 1 : 0;
  std::string reported;
  auto spoke = std::chrono::steady_clock::now();
  while (!stopping_) {
    auto some = socket.receive_some(8 - reported.size(), at < 0 ? kStep : std::chrono::milliseconds(1));
    if (!some) return;
    reported += *some;
    if (reported.size() == 8) {
      auto offset = static_cast<int64_t>(number_of(reported));
      reported.clear();
      ++reports_;
      acknowledged_ = offset;
      if (at < 0) {
        std::lock_guard lock(mutex_);
        first_reports_.push_back(offset);
        const int64_t end = begin_ + static_cast<int64_t>(log_.size());
        at = offset != 0 ? offset : std::max(begin_, end - end % options_.file_bytes);
      }
    }
    if (at < 0) continue;
    const bool heartbeat = std::chrono::steady_clock::now() - spoke >= options_.heartbeat;
    auto frame = next_frame(at, false);
    if (frame.empty() && heartbeat) frame = next_frame(at, true);
    if (frame.empty()) continue;
    at += static_cast<int64_t>(frame.size()) - 12;
    if (cut && sent_bytes + static_cast<int64_t>(frame.size()) > options_.cut_after_bytes) {
      (void)socket.send(std::string_view(frame).substr(0, static_cast<size_t>(options_.cut_after_bytes - sent_bytes)));
      return;
    }
    sent_bytes += static_cast<int64_t>(frame.size());
    spoke = std::chrono::steady_clock::now();
    if (!socket.send(frame)) return;
  }
}

ClassicSlave::ClassicSlave(uint16_t master_port, Options options)
    : options_(std::move(options)), socket_(master_port), begin_(options_.begin), log_(options_.log) {
  thread_ = std::thread([this] { run(); });
}

ClassicSlave::~ClassicSlave() {
  stopping_ = true;
  socket_.stop();
  thread_.join();
}

std::string ClassicSlave::log() const {
  std::lock_guard lock(mutex_);
  return log_;
}
int64_t ClassicSlave::begin() const {
  std::lock_guard lock(mutex_);
  return begin_;
}
int64_t ClassicSlave::end() const {
  std::lock_guard lock(mutex_);
  return begin_ + static_cast<int64_t>(log_.size());
}
std::string ClassicSlave::complaint() const {
  std::lock_guard lock(mutex_);
  return complaint_;
}
bool ClassicSlave::frame_crossed(int64_t file_bytes) const {
  std::lock_guard lock(mutex_);
  return std::any_of(frames_.begin(), frames_.end(), [&](const auto& frame) {
    return frame.second > 0 && frame.first / file_bytes != (frame.first + frame.second - 1) / file_bytes;
  });
}

void ClassicSlave::report() { (void)socket_.send(number(static_cast<uint64_t>(log().empty() ? 0 : end()), 8)); }

void ClassicSlave::run() {
  pause(options_.first_report_after);
  report();
  auto spoke = std::chrono::steady_clock::now();
  std::string header;
  while (!stopping_) {
    auto some = socket_.receive_some(12 - header.size(), kStep);
    if (!some) break;
    header += *some;
    if (header.size() == 12) {
      const auto at = static_cast<int64_t>(number_of(header.substr(0, 8)));
      const auto size = static_cast<int64_t>(number_of(header.substr(8)));
      header.clear();
      auto bytes = size == 0 ? std::string() : socket_.receive(static_cast<size_t>(size)).value_or("");
      if (static_cast<int64_t>(bytes.size()) != size) break;
      {
        std::lock_guard lock(mutex_);
        if (log_.empty()) begin_ = at;
        if (at != begin_ + static_cast<int64_t>(log_.size())) {
          complaint_ = "a frame at " + std::to_string(at) + " where the log ends at " +
                       std::to_string(begin_ + static_cast<int64_t>(log_.size()));
          break;
        }
        log_ += bytes;
        frames_.emplace_back(at, size);
      }
      longest_frame_ = std::max(longest_frame_.load(), size);
      if (size == 0) ++heartbeats_;
      if (size > 0) report();
    }
    if (std::chrono::steady_clock::now() - spoke >= options_.heartbeat) {
      spoke = std::chrono::steady_clock::now();
      report();
    }
  }
  socket_.stop();
  ended_ = true;
}

}  // namespace apogee::test
