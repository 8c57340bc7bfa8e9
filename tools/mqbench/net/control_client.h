#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

/// One request at a time on a blocking connection: for what is asked before and after a load. Thread: one.
class ControlClient {
 public:
  struct Reply {
    int code = -1;
    std::string remark;
    std::map<std::string, std::string> fields;
    std::string body;
  };
  /// Throws when it cannot connect within 10 s.
  explicit ControlClient(std::string address);
  ~ControlClient();
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;
  /// Throws when no answer comes within 30 s. One-way requests are not its business.
  Reply call(int code, const Fields& fields, const std::string& body = {});
  /// The same; throws unless the code is 0. what: the beginning of the message.
  Reply need(const std::string& what, int code, const Fields& fields, const std::string& body = {});
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  void read_exactly(char* to, size_t bytes);
  const std::string address_;
  int descriptor_ = -1;
  uint32_t opaque_ = kOpaqueFirst;
};

}  // namespace mqbench
