#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/remoting/remoting_server.h"
#include "test/support/catch.h"

namespace apogee::test {

/// Answers each request code as the test says, and keeps what it was asked.
class FakeServer {
 public:
  using Answer = std::function<remoting::Command(const remoting::Command& request)>;

  FakeServer() : server_(options(), logger_) {
    server_.set_handler([this](const remoting::Caller&, remoting::Command request, remoting::Responder respond) {
      Answer answer;
      {
        std::lock_guard lock(mutex_);
        seen_.push_back(request);
        auto found = answers_.find(request.code);
        if (found != answers_.end()) answer = found->second;
      }
      respond(answer ? answer(request)
                     : remoting::Command::response_to(request, remoting::response_code::kRequestCodeNotSupported,
                                                      "not here"));
    });
    REQUIRE(server_.start());
  }
  ~FakeServer() { server_.stop(); }

  void on(remoting::RequestCode code, Answer answer) {
    std::lock_guard lock(mutex_);
    answers_[static_cast<int32_t>(code)] = std::move(answer);
  }
  void on(remoting::RequestCode code, const std::string& body) {
    on(code, [body](const remoting::Command& request) {
      auto answer = remoting::Command::response_to(request, remoting::response_code::kSuccess);
      answer.body = SharedBytes::from(body);
      return answer;
    });
  }
  void refuse(remoting::RequestCode code, int32_t response_code, const std::string& remark) {
    on(code, [=](const remoting::Command& request) {
      return remoting::Command::response_to(request, response_code, remark);
    });
  }
  [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(server_.port()); }
  /// Requests with this code, in their order.
  [[nodiscard]] std::vector<remoting::Command> seen(remoting::RequestCode code) {
    std::lock_guard lock(mutex_);
    std::vector<remoting::Command> matching;
    for (const auto& request : seen_) {
      if (request.request_code() == code) matching.push_back(request);
    }
    return matching;
  }

 private:
  static remoting::RemotingServer::Options options() {
    remoting::RemotingServer::Options options;
    options.bind_address = "127.0.0.1";
    options.ports = {0};
    options.io_threads = 1;
    return options;
  }
  Logger logger_;
  std::mutex mutex_;
  std::map<int32_t, Answer> answers_;
  std::vector<remoting::Command> seen_;
  remoting::RemotingServer server_;
};

}  // namespace apogee::test
