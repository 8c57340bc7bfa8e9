#include "store/ha/record_assembler.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/crc32.h"
#include "common/message/message_record.h"
#include "store/recovery.h"

namespace apogee::store {

namespace {
constexpr size_t kHeaderBytes = 8;
/// A long stretch of damage is given out in pieces of this size.
constexpr size_t kDamageBytesMax = 8 << 20;
/// A stale front of the buffer is moved away when it is longer than this and than what lies behind it.
constexpr size_t kStaleBytesMax = 256 << 10;
/// Room is made for so much at once.
constexpr size_t kRoomBytes = 256 << 10;
/// A run of so many bytes leaves with the buffer when less is left behind it, which is copied.
constexpr size_t kMovedBytesMin = 64 << 10;
}  // namespace

void RecordAssembler::begin_at(LogOffset at) {
  taken_ = filled_ = 0;
  in_damage_ = in_damage_ && at == at_;
  searched_ = 0;
  at_ = at;
}

void RecordAssembler::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto [to, size] = room(bytes.size());
    std::copy_n(bytes.data(), size, to);
    received(size);
    bytes.remove_prefix(size);
  }
}

std::pair<char*, size_t> RecordAssembler::room(size_t wanted) {
  wanted = std::min(wanted, kRoomBytes);
  if (buffer_.size() - filled_ < wanted) {
    if (taken_ > 0) {
      buffer_.erase(0, taken_);
      filled_ -= taken_;
      taken_ = 0;
    }
    // A record that is longer than all there is grows by doubling.
    if (buffer_.size() - filled_ < wanted) buffer_.resize(filled_ + std::max(wanted, std::max(filled_, kRoomBytes)));
  }
  return {buffer_.data() + filled_, wanted};
}

RecordAssembler::Look RecordAssembler::look(std::string_view rest, LogOffset at) const {
  const int64_t left = file_left(at);
  if (left < static_cast<int64_t>(kHeaderBytes)) {
    if (static_cast<int64_t>(rest.size()) < left) return {};
    return {Verdict::kDamaged, static_cast<size_t>(left)};
  }
  if (rest.size() < kHeaderBytes) return {};
  const int64_t bytes = load_be<int32_t>(rest.data());
  const auto magic = load_be<int32_t>(rest.data() + 4);
  bool possible = false;
  if (magic == message::kBlankMagic) possible = bytes == left;
  if (magic == message::kRecordMagicV1 || magic == message::kRecordMagicV2)
    possible = bytes >= static_cast<int64_t>(message::kRecordBytesMin) && bytes <= std::min(left, kRecordBytesMax);
  if (!possible) return {Verdict::kDamaged, kHeaderBytes};
  // A stale length must not hold the stream up, so the record's own place is looked at early.
  if (magic != message::kBlankMagic) {
    if (rest.size() < message::kPhysicalOffsetPosition + sizeof(int64_t)) return {};
    if (load_be<int64_t>(rest.data() + message::kPhysicalOffsetPosition) != at)
      return {Verdict::kDamaged, message::kPhysicalOffsetPosition + sizeof(int64_t)};
  }
  const auto size = static_cast<size_t>(bytes);
  if (rest.size() < size) return {};
  auto position = look_at(rest.substr(0, size), at, true);
  const bool whole = position.kind != LogPosition::Kind::kNothing && position.bytes == bytes;
  return {whole ? Verdict::kWhole : Verdict::kDamaged, size};
}

RecordAssembler::Run RecordAssembler::cut(size_t bytes, bool damaged) {
  Run run{at_, {}, damaged};
  const size_t left = buffered() - bytes;
  if (taken_ == 0 && bytes >= kMovedBytesMin && left <= bytes) {
    std::string behind(buffer_, bytes, left);
    buffer_.resize(bytes);
    run.bytes = std::exchange(buffer_, std::move(behind));
    filled_ = left;
  } else {
    run.bytes.assign(buffer_, taken_, bytes);
    taken_ += bytes;
  }
  at_ += static_cast<LogOffset>(bytes);
  searched_ -= std::min(searched_, bytes);
  if (taken_ == filled_) {
    taken_ = filled_ = 0;
  } else if (taken_ > kStaleBytesMax && taken_ > buffered()) {
    buffer_.erase(0, taken_);
    filled_ -= taken_;
    taken_ = 0;
  }
  return run;
}

std::optional<RecordAssembler::Run> RecordAssembler::take_damage() {
  constexpr std::string_view kMagicStart = "\xDA\xA3\x20";
  constexpr size_t kLengthBytes = 4;
  const auto all = rest();
  const auto left = static_cast<size_t>(std::min<int64_t>(file_left(at_), INT32_MAX));
  const auto within = all.substr(0, std::min(all.size(), left));
  for (size_t from = std::max<size_t>(searched_, 1);;) {
    auto magic = within.find(kMagicStart, from + kLengthBytes);
    if (magic == std::string_view::npos) break;
    const size_t candidate = magic - kLengthBytes;
    auto found = look(all.substr(candidate), at_ + static_cast<LogOffset>(candidate));
    if (found.verdict == Verdict::kWhole) {
      in_damage_ = false;
      return cut(candidate, true);
    }
    searched_ = candidate;
    if (found.verdict == Verdict::kIncomplete) return std::nullopt;
    from = searched_ = candidate + 1;
  }
  if (within.size() == left) {
    in_damage_ = false;
    return cut(left, true);
  }
  // The last bytes may be the beginning of a record.
  const size_t kept = kLengthBytes + kMagicStart.size();
  searched_ = within.size() > kept ? within.size() - kept : 0;
  if (searched_ < kDamageBytesMax) return std::nullopt;
  return cut(searched_, true);
}

Result<std::optional<RecordAssembler::Run>> RecordAssembler::take(int64_t bytes_max) {
  if (in_damage_) return take_damage();
  const auto all = rest();
  const auto left = static_cast<size_t>(file_left(at_));
  const auto limit = static_cast<size_t>(std::max<int64_t>(bytes_max, 0));
  size_t whole = 0;
  while (whole < all.size() && whole < left) {
    auto found = look(all.substr(whole), at_ + static_cast<LogOffset>(whole));
    if (found.verdict == Verdict::kWhole) {
      if (whole > 0 && whole + found.bytes > limit) break;
      whole += found.bytes;
      continue;
    }
    if (whole > 0 || found.verdict == Verdict::kIncomplete) break;
    Suspect seen{at_, found.bytes, crc32(all.substr(0, found.bytes))};
    if (seen == suspect_) {
      in_damage_ = true;
      suspect_ = {};
      return take_damage();
    }
    suspect_ = seen;
    return Error(Errc::kCorrupt, fmt::format("at {} comes no whole record (looked at {} bytes)", at_, found.bytes));
  }
  if (whole == 0) return std::optional<Run>();
  return std::optional<Run>(cut(whole, false));
}

}  // namespace apogee::store
