#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "apogee/result.h"
#include "store/message_store.h"

namespace apogee::store {

/// Makes whole, checked records of a stream that may be cut anywhere. What is no record is an error the first time,
/// and the stream is to begin again there; when the same bytes come again, the sender's own log is damaged, and they
/// are given out as a stretch of damage, up to the next whole record. Thread: one at a time.
class RecordAssembler {
 public:
  static constexpr int64_t kRecordBytesMax = 64 << 20;

  struct Run {
    LogOffset at = 0;
    std::string_view bytes;             ///< whole records and blanks; within one file
    bool damaged = false;               ///< none of them is a record, and what comes next is one, or further damage
    std::shared_ptr<const void> owner;  ///< of the bytes
  };

  explicit RecordAssembler(int64_t file_bytes) : file_bytes_(file_bytes) {}

  /// The stream goes on (or begins again) here; what has not been taken is forgotten.
  void begin_at(LogOffset at);
  void add(std::string_view bytes);
  /// The same without a copy: where the next bytes of the stream may be received to, at least one and at most `wanted`;
  /// then how many were. Nothing else in between.
  [[nodiscard]] std::pair<char*, size_t> room(size_t wanted);
  void received(size_t bytes) { filled_ += bytes; }
  /// The next run, of at most `bytes_max` bytes where one record is not longer; nullopt: more bytes are needed.
  /// Error: kCorrupt, at `at()` stands no record.
  [[nodiscard]] Result<std::optional<Run>> take(int64_t bytes_max);
  /// Nobody reads what take() has given any more: its memory is used again. Without this it is not.
  void runs_released();

  [[nodiscard]] LogOffset at() const { return at_; }  ///< of the first byte that has not been taken
  [[nodiscard]] LogOffset received_end() const { return at_ + static_cast<LogOffset>(buffered()); }
  [[nodiscard]] size_t buffered() const { return filled_ - taken_; }

 private:
  /// What was no record, to know it again.
  struct Suspect {
    LogOffset at = -1;
    size_t bytes = 0;
    uint32_t crc = 0;
    bool operator==(const Suspect&) const = default;
  };
  enum class Verdict : uint8_t { kWhole, kIncomplete, kDamaged };
  struct Look {
    Verdict verdict = Verdict::kIncomplete;
    size_t bytes = 0;  ///< of the record or blank; of what was looked at when it is damaged
  };
  [[nodiscard]] Look look(std::string_view rest, LogOffset at) const;
  [[nodiscard]] std::string_view rest() const {
    return block_ ? std::string_view(block_->data.get() + taken_, buffered()) : std::string_view();
  }
  void move_to_block_of(size_t bytes);
  [[nodiscard]] std::optional<Run> take_damage();
  [[nodiscard]] Run cut(size_t bytes, bool damaged);
  [[nodiscard]] int64_t file_left(LogOffset at) const { return file_bytes_ - at % file_bytes_; }

  const int64_t file_bytes_;
  /// Memory that the stream is received to, and that runs are given out of.
  struct Block {
    explicit Block(size_t bytes) : capacity(bytes), data(new char[bytes]) {}  // not filled with zeros
    const size_t capacity;
    const std::unique_ptr<char[]> data;
  };
  std::shared_ptr<Block> block_;
  std::shared_ptr<Block> lent_, spare_;  ///< in front of block_, with runs or free again
  bool given_ = false;                   ///< runs of block_ are in use
  size_t taken_ = 0, filled_ = 0;        ///< of block_: what has not been taken lies between
  LogOffset at_ = 0;
  Suspect suspect_;
  bool in_damage_ = false;
  size_t searched_ = 0;  ///< in damage: so many bytes behind at_ begin no record
};

}  // namespace apogee::store
