#include "store/ha/log_mender.h"

#include <algorithm>

#include "store/recovery.h"

namespace apogee::store {

void LogMender::round() {
  if (busy_) return;
  busy_ = true;
  if (!std::exchange(begun_, true)) {
    scrubbed_to_ = log_.begin();
    scrub_end_ = log_.end();  // what comes later is checked as it comes
  }
  struct Seen {
    LogOffset scrubbed_to = 0;
    std::vector<Damage> damaged;
  };
  auto seen = std::make_shared<Seen>();
  const LogOffset from = std::max(scrubbed_to_, log_.begin());
  const bool scrub = options_.scrub_bytes_per_round > 0 && !scrubbed_;
  options_.elsewhere(
      [this, seen, from, scrub]() -> Status {
        seen->scrubbed_to = scrub && from < log_.end() ? log_.scrub(from, options_.scrub_bytes_per_round) : from;
        seen->damaged = log_.damaged();
        return {};
      },
      [this, seen, scrub, self = shared_from_this()](const Status& looked) {
        if (!looked) {
          busy_ = false;
          return;
        }
        scrubbed_to_ = seen->scrubbed_to;
        if (scrub && scrubbed_to_ >= std::min(scrub_end_, log_.end())) {
          scrubbed_ = true;
          logger_.info("replication: every record of this slave's log up to {} has been looked at", scrubbed_to_);
        }
        damaged_ = seen->damaged;
        mend_next();
      });
}

void LogMender::mend_next() {
  const auto now = Clock::now();
  for (const auto& damage : damaged_) {
    auto found = not_before_.find(damage.begin);
    if (found == not_before_.end() || found->second <= now) return mend(damage.begin, damage);
  }
  busy_ = false;
}

void LogMender::mend(LogOffset at, Damage damage) {
  options_.ask_record(at, [this, at, damage, self = shared_from_this()](Result<std::string> record) {
    if (!record) return give_up(damage, "the master does not give it: " + record.error().message);
    auto position = look_at(*record, at, true);
    const auto bytes = static_cast<int64_t>(record->size());
    if (position.kind != LogPosition::Kind::kRecord || position.bytes != bytes)
      return give_up(damage, "what the master gives is damaged too");
    options_.elsewhere(
        [this, at, held = std::make_shared<std::string>(std::move(*record))] { return log_.mend(at, *held); },
        [this, at, damage, bytes, self](const Status& mended) {
          if (!mended) return give_up(damage, mended.error().message);
          if (at + bytes < damage.end) return mend(at + bytes, damage);
          ++mended_;
          logger_.warn("replication: [{}, {}) of this slave's log was damaged and has been fetched from the master",
                       damage.begin, damage.end);
          damaged_.erase(std::remove(damaged_.begin(), damaged_.end(), damage), damaged_.end());
          mend_next();
        });
  });
}

void LogMender::give_up(const Damage& damage, const std::string& why) {
  if (not_before_.size() > 1'000) not_before_.clear();
  not_before_[damage.begin] = Clock::now() + options_.retry;
  logger_.error("replication: [{}, {}) of this slave's log is damaged and cannot be mended now: {}", damage.begin,
                damage.end, why);
  mend_next();
}

}  // namespace apogee::store
