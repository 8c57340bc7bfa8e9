#pragma once

#include <optional>

#include "broker/request_table.h"

namespace apogee::broker {

/// What a slave does not serve: whatever would give messages, topics, groups or offsets that its master does not know.
/// For RequestTable::set_gate.
[[nodiscard]] std::optional<RequestTable::Refusal> refused_by_slave(remoting::RequestCode code);

}  // namespace apogee::broker
