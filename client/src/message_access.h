#pragma once

#include <map>
#include <string>
#include <utility>

#include "apogee/message.h"

namespace apogee {

/// What the SDK alone sets in a Message.
struct MessageAccess {
  /// Properties with reserved names, such as those of a reply; they go over the wire with the application's own.
  static void set_system_property(Message& message, std::string name, std::string value) {
    message.system_properties_[std::move(name)] = std::move(value);
  }
  static const std::map<std::string, std::string>& system_properties(const Message& message) {
    return message.system_properties_;
  }
  /// The broker to be tried first, where the message may go to any.
  static void set_preferred_broker(Message& message, std::string name) { message.preferred_broker_ = std::move(name); }
  static const std::string& preferred_broker(const Message& message) { return message.preferred_broker_; }
};

/// Whether the message is to be delivered at an instant.
[[nodiscard]] inline bool has_instant(const Message& message) {
  return message.deliver_at_ms().has_value() || message.deliver_after().has_value();
}

}  // namespace apogee
