#include "store/retention.h"

#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "common/message/message_record.h"
#include "store/file_names.h"
#include "store/recovery.h"

namespace apogee::store {

namespace {

/// As in Apache RocketMQ.
constexpr int kManualRounds = 20;

int32_t local_hour(int64_t ms) {
  const auto seconds = static_cast<std::time_t>(ms / 1'000);
  std::tm local{};
  localtime_r(&seconds, &local);
  return local.tm_hour;
}

int64_t system_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

const char* to_string(CleanReason reason) {
  switch (reason) {
    case CleanReason::kNone: return "none";
    case CleanReason::kHour: return "expired, and it is an hour of deleteWhen";
    case CleanReason::kDiskUse: return "expired, and the disk is used above diskMaxUsedSpaceRatio";
    case CleanReason::kManual: return "expired, and asked for";
    case CleanReason::kForced: return "oldest, and the disk is used above diskSpaceCleanForciblyRatio";
  }
  return "unknown";
}

CleanReason clean_reason(const RetentionOptions& options, int64_t now_ms, double used, bool manual) {
  if (options.clean_forcibly && used > options.clean_forcibly_above) return CleanReason::kForced;
  if (manual) return CleanReason::kManual;
  if (used > options.clean_above) return CleanReason::kDiskUse;
  const auto& hours = options.delete_hours;
  if (std::find(hours.begin(), hours.end(), local_hour(now_ms)) != hours.end()) return CleanReason::kHour;
  return CleanReason::kNone;
}

bool writes_refused(const RetentionOptions& options, double refuse_above, double used, bool refused) {
  return used > (refused ? std::min(options.clean_forcibly_above, refuse_above) : refuse_above);
}

Retention::Retention(Parts parts, RetentionOptions options)
    : parts_(std::move(parts)),
      options_(std::move(options)),
      next_round_(Clock::now() + std::chrono::milliseconds(options_.first_after_ms)) {}

void Retention::set_options(const RetentionOptions& options) {
  std::lock_guard lock(mutex_);
  options_ = options;
}

RetentionOptions Retention::options() const {
  std::lock_guard lock(mutex_);
  return options_;
}

void Retention::clean_now() {
  std::lock_guard lock(mutex_);
  manual_rounds_ = kManualRounds;
  run_now_ = true;
}

double Retention::disk_used() const {
  return std::max(parts_.files.used_ratio(parts_.log_directory), parts_.files.used_ratio(parts_.queues_directory));
}

void Retention::look_at_disk() {
  const auto options = this->options();
  const double used = disk_used();
  const bool refuse = writes_refused(options, parts_.refuse_above, used, refused_);
  if (refuse == std::exchange(refused_, refuse)) return;
  if (refuse) {
    auto why = fmt::format("the disk is full: {:.0f} % used, writes are taken again at {:.0f} %", used * 100,
                           std::min(options.clean_forcibly_above, parts_.refuse_above) * 100);
    parts_.logger.error("{}", why);
    parts_.log.refuse_writes(CommitLog::Refusal::kDiskUse, std::move(why));
  } else {
    parts_.logger.info("there is room on the disk again: {:.0f} % used", used * 100);
    parts_.log.take_writes(CommitLog::Refusal::kDiskUse);
  }
}

Retention::Round Retention::run(LogOffset removable, const std::function<bool(int64_t ms)>& pause) {
  bool manual = false;
  RetentionOptions options;
  {
    std::lock_guard lock(mutex_);
    if (!run_now_ && Clock::now() < next_round_) return {};
    run_now_ = false;
    manual = manual_rounds_ > 0;
    options = options_;
  }
  next_round_ = Clock::now() + std::chrono::milliseconds(options.interval_ms);
  const auto reason = clean_reason(options, now(), disk_used(), manual);
  if (reason == CleanReason::kNone) {
    told_no_room_ = false;
    return {};
  }
  auto round = remove_files(reason, removable, options, pause);
  if (round.held_back) {
    std::lock_guard lock(mutex_);
    run_now_ = true;
  } else if (manual) {
    std::lock_guard lock(mutex_);
    manual_rounds_ = std::max(0, manual_rounds_ - 1);
  }
  const bool wants_room = reason == CleanReason::kForced || reason == CleanReason::kDiskUse;
  if (!wants_room || round.removed > 0) {
    told_no_room_ = false;
  } else if (!round.held_back && !std::exchange(told_no_room_, true)) {
    parts_.logger.warn("the disk is {:.0f} % used, but no file of the log may go", disk_used() * 100);
  }
  return round;
}

int64_t Retention::now() const { return parts_.now_ms ? parts_.now_ms() : system_ms(); }

std::optional<int64_t> Retention::full_since(const Files& files, size_t index) const {
  // A later file begins with a hole when that place was damaged; then the one behind it tells.
  for (size_t next = index + 1; next < files.size(); ++next) {
    auto rest = parts_.log.read_up_to(files[next]->begin, parts_.log.end());
    if (!rest) return std::nullopt;
    if (look_at(rest->bytes, files[next]->begin, false).kind != LogPosition::Kind::kRecord) continue;
    if (auto record = message::decode_record(rest->bytes)) return record->store_timestamp_ms;
  }
  return std::nullopt;
}

Retention::Round Retention::remove_files(CleanReason reason, LogOffset removable, const RetentionOptions& options,
                                         const std::function<bool(int64_t ms)>& pause) {
  Round round;
  const auto files = parts_.log.files().list();
  for (size_t i = 0; i + 1 < files.size() && round.removed < options.files_max; ++i) {
    if (reason == CleanReason::kForced && round.removed > 0 && disk_used() <= options.clean_forcibly_above) break;
    if (reason != CleanReason::kForced) {
      auto full = full_since(files, i);
      if (!full || now() < *full + options.reserved_ms) break;
    }
    const LogOffset end = files[i]->end();
    if (end > removable) {
      round.held_back = true;
      break;
    }
    if (may_remove_ && !may_remove_(end)) {
      if (std::exchange(told_held_, end) != end)
        parts_.logger.info("file {} of the log would go ({}), but waits for what is still needed of it",
                           file_name_of(files[i]->begin), to_string(reason));
      round.held_back = true;
      break;
    }
    if (round.removed > 0 && !pause(options.file_pause_ms)) break;
    auto removed = parts_.log.remove_files_before(end);
    if (!removed) {
      parts_.logger.error("{}", removed.error().message);
      break;
    }
    if (*removed == 0) break;
    ++round.removed;
    parts_.logger.info("file {} of the log removed: {}", file_name_of(files[i]->begin), to_string(reason));
  }
  return round;
}

}  // namespace apogee::store
