#include "store/ha/record_assembler.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
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
/// Room is made for so much at once.
constexpr size_t kRoomBytes = 256 << 10;
/// Two of these are all that a stream of records of usual lengths needs.
constexpr size_t kBlockBytes = 2 << 20;
}  // namespace

void RecordAssembler::begin_at(LogOffset at) {
  taken_ = filled_;
  if (block_) move_to_block_of(0);
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
  if (!block_ || block_->capacity - filled_ < wanted) move_to_block_of(buffered() + wanted);
  return {block_->data.get() + filled_, wanted};
}

/// What has not been taken goes to the front of a block of at least so many bytes: this one when nobody reads it.
void RecordAssembler::move_to_block_of(size_t bytes) {
  const size_t left = buffered();
  if (!given_ && block_ && block_->capacity >= bytes) {
    std::memmove(block_->data.get(), block_->data.get() + taken_, left);
  } else {
    auto from = std::move(block_);
    // A record that is longer than all there is grows by doubling.
    if (bytes > kBlockBytes) {
      block_ = std::make_shared<Block>(2 * bytes);
    } else {
      block_ = spare_ ? std::move(spare_) : std::make_shared<Block>(kBlockBytes);
      spare_ = nullptr;
    }
    if (left > 0) std::memcpy(block_->data.get(), from->data.get() + taken_, left);
    if (given_) lent_ = std::move(from);
    given_ = false;
  }
  taken_ = 0;
  filled_ = left;
}

void RecordAssembler::runs_released() {
  given_ = false;
  if (lent_ && lent_->capacity == kBlockBytes) spare_ = std::move(lent_);
  lent_ = nullptr;
  if (buffered() > 0) return;
  taken_ = filled_ = 0;
  if (block_ && block_->capacity > kBlockBytes) block_ = nullptr;
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
  Run run{at_, rest().substr(0, bytes), damaged, block_};
  given_ = true;
  taken_ += bytes;
  at_ += static_cast<LogOffset>(bytes);
  searched_ -= std::min(searched_, bytes);
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
