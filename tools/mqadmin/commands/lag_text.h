#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tools/mqadmin/command.h"

namespace mqadmin {

/// "450ms", "7.5s", "3m20s", "2h05m", "4d03h"
std::string human_duration(int64_t ms);
/// A cell with a duration for people, and its ms for programs.
Cell lag_time_cell(int64_t ms);
/// How long the oldest message that waits for the group has been waiting, in ms, for queues where messages wait.
Result<std::map<apogee::MessageQueue, int64_t>> lag_times(Invocation& in, const std::string& group,
                                                          const apogee::admin::GroupProgress& progress);
/// Whether two members subscribe to the same.
bool same_subscriptions(const apogee::admin::ConsumerState& a, const apogee::admin::ConsumerState& b);

}  // namespace mqadmin
