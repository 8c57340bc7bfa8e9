#pragma once

#include <string>

#include "apogee/message.h"
#include "tools/mqadmin/output.h"

namespace mqadmin {

/// The message on one line, without its body.
std::string message_line(const apogee::ReceivedMessage& message);
/// An object with everything that is known of the message; the body only when `with_body`.
void write_message(JsonWriter& json, const apogee::ReceivedMessage& message, bool with_body);

}  // namespace mqadmin
