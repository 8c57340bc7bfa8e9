#pragma once

#include <cstdint>

namespace apogee::message {

/// Bits of a message's system flag.
namespace sys_flag {
inline constexpr int32_t kCompressed = 0x1;
inline constexpr int32_t kMultiTags = 0x2;
inline constexpr int32_t kTransactionMask = 0xC;
inline constexpr int32_t kTransactionNot = 0x0;
inline constexpr int32_t kTransactionPrepared = 0x4;
inline constexpr int32_t kTransactionCommit = 0x8;
inline constexpr int32_t kTransactionRollback = 0xC;
inline constexpr int32_t kBornHostV6 = 0x10;
inline constexpr int32_t kStoreHostV6 = 0x20;
inline constexpr int32_t kNeedUnwrap = 0x40;
inline constexpr int32_t kInnerBatch = 0x80;
inline constexpr int32_t kCompressionMask = 0x700;
inline constexpr int32_t kCompressionLz4 = 0x100;
inline constexpr int32_t kCompressionZstd = 0x200;
inline constexpr int32_t kCompressionZlib = 0x300;
}  // namespace sys_flag

/// Bits of a pull request's sysFlag.
namespace pull_sys_flag {
inline constexpr int32_t kCommitOffset = 1;
inline constexpr int32_t kSuspend = 2;
inline constexpr int32_t kSubscription = 4;
inline constexpr int32_t kClassFilter = 8;
inline constexpr int32_t kLitePull = 16;
}  // namespace pull_sys_flag

}  // namespace apogee::message
