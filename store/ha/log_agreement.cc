#include "store/ha/log_agreement.h"

#include <fmt/core.h>

#include <algorithm>

namespace apogee::store {

namespace {

/// The slave's log in front of what is known to have parted.
LogSide trusted(LogSide side) {
  side.end = std::min(side.end, side.parted_at);
  while (!side.epochs.empty() && side.epochs.back().begin >= side.end) side.epochs.pop_back();
  return side;
}

LogOffset end_in_front_of_epochs(const LogSide& side) {
  return side.epochs.empty() ? side.end : std::min(side.end, side.epochs.front().begin);
}

std::string last_epoch(const LogSide& side) {
  return side.epochs.empty() ? "no epoch" : fmt::format("epoch {}", side.epochs.back().number);
}

}  // namespace

LogAgreement agree(const LogSide& slave, const LogSide& master, bool truncate_ahead) {
  using Action = LogAgreement::Action;
  const auto both = fmt::format("this slave's log is [{}, {}) in {}, the master's [{}, {}) in {}", slave.begin,
                                slave.end, last_epoch(slave), master.begin, master.end, last_epoch(master));
  const auto shared = trusted(slave);
  auto common = common_end(shared.epochs, shared.end, master.epochs, master.end);
  if (!common) {
    LogOffset older = std::min(end_in_front_of_epochs(shared), end_in_front_of_epochs(master));
    if (older > std::max(slave.begin, master.begin)) common = older;
  }
  // Not even the first epoch is the same in both: an empty log has everything in common with any other.
  if (!common && slave.parted_at <= slave.begin) common = slave.begin;
  if (!common || *common < slave.begin)
    return {Action::kRefuse, 0,
            both +
                ": they have nothing in common. Remedy: see which of them has the messages that matter, and let the "
                "other one begin with an empty store"};
  const LogOffset end = *common;
  if (end < master.begin && end > slave.begin)
    return {
        Action::kRefuse, end,
        both + fmt::format(": they are one up to {}, and what follows is gone at the master. Remedy: let this slave "
                           "begin with an empty store",
                           end)};
  if (end >= slave.end) return {Action::kFollow, slave.end, {}};
  if (!truncate_ahead)
    return {Action::kRefuse, end,
            both + fmt::format(": this slave is ahead of what they share by [{}, {}), which may have been acknowledged "
                               "to producers. Remedy: make this slave the master, or set haTruncateAhead=true here "
                               "to throw these bytes away",
                               end, slave.end)};
  return {Action::kTruncate, end, {}};
}

}  // namespace apogee::store
