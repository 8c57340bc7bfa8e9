#include "tools/mqbench/net/control_client.h"

#include <fmt/core.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "common/base/bytes.h"
#include "common/loop/tcp_connection.h"

namespace mqbench {

namespace {
constexpr int kConnectMs = 10'000;
constexpr int kAnswerMs = 30'000;

std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.is_null() ? std::string() : value.dump();
}
}  // namespace

ControlClient::ControlClient(std::string address) : address_(std::move(address)) {
  auto parts = apogee::loop::split_host_port(address_);
  if (!parts) throw std::runtime_error(parts.error().message);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = ::getaddrinfo(parts->first.c_str(), std::to_string(parts->second).c_str(), &hints, &found);
      failed != 0)
    throw std::runtime_error(fmt::format("{}: {}", address_, ::gai_strerror(failed)));
  descriptor_ = ::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int failed = 0;
  if (descriptor_ < 0 || (::connect(descriptor_, found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS)) {
    failed = errno;
  } else {
    pollfd writable{descriptor_, POLLOUT, 0};
    socklen_t bytes = sizeof failed;
    if (::poll(&writable, 1, kConnectMs) == 1)
      ::getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &failed, &bytes);
    else
      failed = ETIMEDOUT;
  }
  ::freeaddrinfo(found);
  if (failed != 0) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw std::runtime_error(
        fmt::format("cannot connect to {}: {}", address_, std::generic_category().message(failed)));
  }
  const int on = 1;
  ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

ControlClient::~ControlClient() { ::close(descriptor_); }

void ControlClient::read_exactly(char* to, size_t bytes) {
  while (bytes > 0) {
    pollfd readable{descriptor_, POLLIN, 0};
    if (::poll(&readable, 1, kAnswerMs) != 1) throw std::runtime_error(address_ + " does not answer");
    const ssize_t got = ::recv(descriptor_, to, bytes, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) throw std::runtime_error(address_ + " closed the connection");
    to += got;
    bytes -= static_cast<size_t>(got);
  }
}

ControlClient::Reply ControlClient::call(int code, const Fields& fields, const std::string& body) {
  auto request = build_request(HeaderType::kJson, code, false, fields, body.size());
  const uint32_t opaque = ++opaque_;
  patch_opaque(request.bytes.data(), request.opaque_at, request.type, opaque);
  request.bytes += body;
  for (size_t sent = 0; sent < request.bytes.size();) {
    const ssize_t n = ::send(descriptor_, request.bytes.data() + sent, request.bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) throw std::runtime_error(address_ + " closed the connection");
    if (n > 0) sent += static_cast<size_t>(n);
    pollfd writable{descriptor_, POLLOUT, 0};
    if (n < 0 && ::poll(&writable, 1, kAnswerMs) != 1) throw std::runtime_error(address_ + " takes no request");
  }
  for (;;) {
    char head[8];
    read_exactly(head, sizeof head);
    const auto length = apogee::load_be<uint32_t>(head);
    const auto header_bytes = apogee::load_be<uint32_t>(head + 4) & 0xFFFFFF;
    if (length < 4 || length > (256U << 20) || header_bytes > length - 4)
      throw std::runtime_error(address_ + " does not speak the remoting protocol");
    std::string rest(length - 4, '\0');
    read_exactly(rest.data(), rest.size());
    const auto header = nlohmann::json::parse(rest.substr(0, header_bytes), nullptr, false);
    if (!header.is_object()) throw std::runtime_error(address_ + " answered with a header that is not JSON");
    if (header.value("opaque", int64_t{0}) != opaque) continue;  // a request of the broker's own
    Reply reply;
    reply.code = header.value("code", -1);
    if (header.contains("remark")) reply.remark = text_of(header["remark"]);
    if (header.contains("extFields") && header["extFields"].is_object())
      for (const auto& [name, value] : header["extFields"].items()) reply.fields[name] = text_of(value);
    reply.body = rest.substr(header_bytes);
    return reply;
  }
}

ControlClient::Reply ControlClient::need(const std::string& what, int code, const Fields& fields,
                                         const std::string& body) {
  auto reply = call(code, fields, body);
  if (reply.code != 0)
    throw std::runtime_error(fmt::format("{}: {} answered {} {}", what, address_, reply.code, reply.remark));
  return reply;
}

}  // namespace mqbench
