#include "tools/mqbench/net/echo_server.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "common/base/bytes.h"
#include "tools/mqbench/measure/recorder.h"
#include "tools/mqbench/net/link.h"
#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

namespace {

std::string failure(const std::string& what) {
  return fmt::format("{}: {}", what, std::generic_category().message(errno));
}

/// What a broker answers to a send.
std::string answer_of(HeaderType type, size_t body_bytes, size_t& opaque_at) {
  const Fields fields{{"queueId", "0"},
                      {"queueOffset", "1234567"},
                      {"msgId", "7F00000100002A9F0000000000001234"},
                      {"MSG_REGION", "DefaultRegion"},
                      {"TRACE_ON", "true"}};
  auto frame = build_request(type, 0, false, fields, body_bytes);
  opaque_at = frame.opaque_at;
  // An answer has the flag 1.
  if (type == HeaderType::kJson)
    frame.bytes[frame.bytes.find("\"flag\":0") + 7] = '1';
  else
    frame.bytes[8 + 12] = 1;
  return frame.bytes + std::string(body_bytes, 'e');
}

class EchoServer : public LinkUser {
 public:
  explicit EchoServer(const EchoOptions& options) : options_(options) {
    for (auto type : {HeaderType::kJson, HeaderType::kBinary}) {
      const auto index = static_cast<size_t>(type);
      answers_[index] = answer_of(type, options.answer_body, opaque_at_[index]);
    }
  }
  ~EchoServer() override {
    if (listener_ >= 0) ::close(listener_);
  }

  uint16_t listen() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(options_.port));
    if (::inet_pton(AF_INET, options_.bind.c_str(), &address.sin_addr) != 1)
      throw std::runtime_error(options_.bind + ": not an IPv4 address");
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 4'096) != 0)
      throw std::runtime_error(failure(fmt::format("cannot listen on {}:{}", options_.bind, options_.port)));
    socklen_t bytes = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &bytes);
    return ntohs(address.sin_port);
  }

  void run() {
    poll_.data = this;
    uv_poll_init(worker_.raw(), &poll_, listener_);
    uv_poll_start(&poll_, UV_READABLE,
                  [](uv_poll_t* handle, int, int) { static_cast<EchoServer*>(handle->data)->accept_all(); });
    // Signals wake a thread of their own, which stops the loop.
    std::thread waiter([this] {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, SIGTERM);
      sigaddset(&set, SIGINT);
      int number = 0;
      sigwait(&set, &number);
      worker_.stop();
    });
    worker_.run();
    waiter.join();
    links_.clear();
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_), nullptr);
  }

 private:
  void accept_all() {
    for (;;) {
      const int descriptor = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor < 0) return;
      size_t index = links_.size();
      if (free_.empty()) {
        links_.emplace_back();
      } else {
        index = free_.back();
        free_.pop_back();
      }
      links_[index] = std::make_unique<Link>(worker_, *this, index);
      links_[index]->adopt(descriptor);
    }
  }
  void on_open(Link& /*link*/) override {}
  void on_closed(Link& link, const std::string& /*reason*/) override {
    const size_t index = link.index();
    worker_.post([this, index] {
      links_[index].reset();
      free_.push_back(index);
    });
  }
  void on_frame(Link& link, const Frame& frame, int64_t now) override {
    if (options_.stall_ms > 0 && now >= stall_at_) stall();
    if (frame.type > 1) return link.close();
    Answer request;
    if (!scan_answer(frame, false, request) || is_one_way(frame)) return;
    const auto& answer = answers_[frame.type];
    char* to = link.append(answer);
    // Opaques of this tool have ten digits; others would not fit in place.
    if (frame.type == 1 || request.opaque >= kOpaqueFirst)
      patch_opaque(to, opaque_at_[frame.type], static_cast<HeaderType>(frame.type), request.opaque);
  }
  static bool is_one_way(const Frame& frame) {
    return frame.type == 0 ? frame.header.find("\"flag\":2") != std::string_view::npos
                           : (apogee::load_be<uint32_t>(frame.header.data() + 9) & 2) != 0;
  }
  [[nodiscard]] int64_t next_stall(int64_t now) const {
    return now + std::max<int64_t>(1, options_.stall_every_ms - options_.stall_ms) * 1'000'000;
  }
  void stall() {
    std::this_thread::sleep_for(std::chrono::milliseconds(options_.stall_ms));
    stall_at_ = next_stall(now_ns());
  }

  const EchoOptions options_;
  std::string answers_[2];
  size_t opaque_at_[2] = {};
  Worker worker_;
  uv_poll_t poll_{};
  int listener_ = -1;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<size_t> free_;
  int64_t stall_at_ = 0;
};

}  // namespace

void serve_echo(const EchoOptions& options, const std::function<void(uint16_t port)>& listening) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  EchoServer server(options);
  listening(server.listen());
  server.run();
}

EchoChild::EchoChild(const EchoOptions& options, const std::string& cpus) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error(failure("no pipe"));
  std::vector<std::string> arguments{"mqbench",
                                     "echo",
                                     "--serve",
                                     "--bind",
                                     options.bind,
                                     "--port",
                                     std::to_string(options.port),
                                     "--with-parent",
                                     "--answer-body",
                                     std::to_string(options.answer_body),
                                     "--stall-ms",
                                     std::to_string(options.stall_ms),
                                     "--stall-every-ms",
                                     std::to_string(options.stall_every_ms)};
  if (!cpus.empty()) arguments.insert(arguments.end(), {"--cpus", cpus});
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::error_code unread;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", unread).string();
  const int failed =
      ::posix_spawn(&pid_, unread ? "/proc/self/exe" : self.c_str(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string line;
  char byte = 0;
  while (failed == 0 && ::read(ends[0], &byte, 1) == 1 && byte != '\n') line += byte;
  ::close(ends[0]);
  const size_t space = line.rfind(' ');
  if (failed != 0 || space == std::string::npos) throw std::runtime_error("the echo server does not start");
  address_ = line.substr(space + 1);
}

EchoChild::~EchoChild() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace mqbench
