#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tools/mqbench/net/worker.h"
#include "tools/mqbench/wire/answer.h"

struct uv_poll_s;

namespace mqbench {

class Link;

/// Whoever uses links. Calls come on the worker's thread.
class LinkUser {
 public:
  virtual ~LinkUser() = default;
  virtual void on_open(Link& link) = 0;
  /// now: when the bytes were read.
  virtual void on_frame(Link& link, const Frame& frame, int64_t now) = 0;
  /// Called at the end of each read, after its frames.
  virtual void on_read_end(Link& /*link*/, int64_t /*now*/) {}
  /// Only with call_when_writable().
  virtual void on_writable(Link& /*link*/) {}
  /// The link is closed; once. The link may not be destroyed in the call.
  virtual void on_closed(Link& link, const std::string& reason) = 0;
};

/// One TCP connection that carries frames. Frames are written into its buffer and leave with one system call before
/// the loop waits. Thread: the worker's; destroyed there too, or after the loop has ended.
class Link {
 public:
  Link(Worker& worker, LinkUser& user, size_t index);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// Starts to connect to the IPv4 or IPv6 address (as of resolve_address); on_open or on_closed follows.
  void connect(const std::string& address);
  /// Takes an accepted descriptor.
  void adopt(int descriptor);
  void close();
  [[nodiscard]] bool is_open() const { return state_ == State::kOpen; }
  [[nodiscard]] size_t index() const { return index_; }

  /// Room for so many bytes behind what is still to be written; they count as written to it.
  char* append(size_t bytes);
  /// The same with the bytes of both; returns where the first begins.
  char* append(std::string_view first, std::string_view second = {});
  [[nodiscard]] size_t unsent() const { return out_end_ - out_begin_; }
  /// Calls on_writable whenever the socket takes more.
  void call_when_writable(bool on);
  /// Reads no more while true.
  void pause(bool on);

  // For the worker.
  void flush_now();

 private:
  enum class State : uint8_t { kNew, kConnecting, kOpen, kClosed };
  void open_handle(int descriptor);
  void watch();
  void on_event(int status, int events);
  void read_some();
  /// Hands the whole frames over; returns the bytes used, or -1 when the link was closed.
  ssize_t take_frames(const char* from, size_t bytes, int64_t now);
  void keep_rest(const char* from, size_t bytes);
  void fail(const std::string& reason);

  Worker& worker_;
  LinkUser& user_;
  const size_t index_;
  uv_poll_s* poll_ = nullptr;  // freed by its close callback
  int descriptor_ = -1;
  State state_ = State::kNew;
  bool dirty_ = false, blocked_ = false, call_writable_ = false, paused_ = false;
  int watched_ = 0;
  std::unique_ptr<char[]> out_;
  size_t out_begin_ = 0, out_end_ = 0, out_room_ = 0;
  std::unique_ptr<char[]> in_;  // the beginning of a frame whose rest has not come
  size_t in_bytes_ = 0, in_room_ = 0;
};

/// "host:port" as "ip:port" (brackets around IPv6). Throws what is wrong.
[[nodiscard]] std::string resolve_address(const std::string& host_port);

}  // namespace mqbench
