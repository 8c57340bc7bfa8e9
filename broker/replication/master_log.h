#pragma once

#include "apogee/result.h"
#include "common/remoting/command.h"
#include "store/ha/ha_client.h"

namespace apogee::broker {

/// Where a master's log begins and ends, by its answer to GET_BROKER_RUNTIME_INFO. Errors: kIo (it answers with an
/// error), kCorrupt (it says nothing of its log).
[[nodiscard]] Result<store::MasterLog> master_log_in(const remoting::Command& answer);

}  // namespace apogee::broker
