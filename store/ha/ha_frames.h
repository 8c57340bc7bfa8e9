#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "apogee/result.h"
#include "store/ha/epoch_file.h"

// The bytes on the HA port (store/ha/README.md). All integers are big-endian.
namespace apogee::store {

/// The first eight bytes of our slaves and masters: the top bit, which no offset of a classic slave has, "APOGEE" and a
/// version.
inline constexpr uint64_t kHaHello = 0xC141504F47454501ULL;
inline constexpr size_t kHaNonceBytes = 32;
inline constexpr size_t kHaBrokerNameBytesMax = 255;
inline constexpr size_t kHaProofBytesMax = 64 << 10;       ///< of log in front of a slave's end
inline constexpr int64_t kHaFrameBytesMax = 64 << 20;      ///< of log in one transfer frame that is taken
inline constexpr int64_t kClassicFrameBytesMax = 4 << 20;  ///< the same of a classic one
inline constexpr int64_t kClassicBatchBytesMax = 32 << 10;

/// What a refusal says where the slave's proof does not fit the master's log; the slave looks for it.
inline constexpr std::string_view kHaParted = "the logs have parted";

using HaNonce = std::array<char, kHaNonceBytes>;
using HaMac = std::array<char, 32>;

/// Random bytes that nobody can guess. Error: kInternal (the system has none).
[[nodiscard]] Result<HaNonce> make_nonce();
/// HMAC-SHA256 under the secret, which may be empty. The two differ in a label, so that neither answers the other.
[[nodiscard]] HaMac mac_of_master(std::string_view secret, const HaNonce& slaves, const HaNonce& masters,
                                  std::string_view broker_name);
[[nodiscard]] HaMac mac_of_slave(std::string_view secret, const HaNonce& slaves, const HaNonce& masters,
                                 std::string_view broker_name, int64_t broker_id);
/// In a time that does not tell where they differ.
[[nodiscard]] bool same_mac(const HaMac& a, const HaMac& b);

/// A frame at the beginning of some bytes, and how many it takes.
template <typename Frame>
struct Parsed {
  Frame frame;
  size_t bytes = 0;
};
/// nullopt: the frame goes on behind the bytes. Error: kCorrupt, these bytes begin no such frame; the message says why.
template <typename Frame>
using ParseResult = Result<std::optional<Parsed<Frame>>>;

// Slave to master, in this order.

struct HaHello {
  HaNonce nonce{};
};
struct HaIdentity {
  HaMac mac{};
  int64_t broker_id = 0;
  std::string broker_name;
};
/// Of RocketMQ 5: state 1, two flags (not used here), the broker's id.
struct HaHandshake {
  int64_t broker_id = 0;
};
/// The slave's log and the master's are the same up to `end`: the CRC-32 of the last `bytes` in front of it.
struct HaProof {
  LogOffset end = -1;           ///< -1: the slave's log is empty
  LogOffset acknowledged = -1;  ///< what it acknowledges already: `end`, or what it has on disk
  int32_t bytes = 0;
  uint32_t crc = 0;
};
/// Of RocketMQ 5: state 2, offset.
struct HaAck {
  LogOffset end = 0;
};

[[nodiscard]] std::string encode(const HaHello& hello);
[[nodiscard]] std::string encode(const HaIdentity& identity);
[[nodiscard]] std::string encode(const HaHandshake& handshake);
[[nodiscard]] std::string encode(const HaProof& proof);
[[nodiscard]] std::string encode(const HaAck& ack);
[[nodiscard]] ParseResult<HaHello> parse_hello(std::string_view bytes);
[[nodiscard]] ParseResult<HaIdentity> parse_identity(std::string_view bytes);
[[nodiscard]] ParseResult<HaHandshake> parse_handshake(std::string_view bytes);
[[nodiscard]] ParseResult<HaProof> parse_proof(std::string_view bytes);
[[nodiscard]] ParseResult<HaAck> parse_ack(std::string_view bytes);

// Master to slave.

/// The master's answer to a hello.
struct HaChallenge {
  HaNonce nonce{};
  HaMac mac{};
  std::string broker_name;
};
/// The slave is who it says it is.
struct HaWelcome {
  LogOffset begin = 0;     ///< of the master's log
  int64_t file_bytes = 0;  ///< of its files, which must be the slave's
};
/// Why the master serves this slave no further; the connection ends behind it.
struct HaRefusal {
  std::string reason;
};
/// Of RocketMQ 5: state 1, the master's end and epochs.
struct HaHandshakeReply {
  LogOffset end = 0;
  int32_t epoch = 0;  ///< the last one's number; 0: there is none
  std::vector<Epoch> epochs;
};
/// Of RocketMQ 5: state 2; `bytes` of log of one epoch follow. 0: a heartbeat.
struct HaTransfer {
  int32_t bytes = 0;
  LogOffset begin = 0;
  Epoch epoch;  ///< number 0: in front of all epochs
  LogOffset confirmed = 0;
};
using HaMasterFrame = std::variant<HaWelcome, HaRefusal, HaHandshakeReply, HaTransfer>;

[[nodiscard]] std::string encode(const HaChallenge& challenge);
[[nodiscard]] std::string encode(const HaWelcome& welcome);
[[nodiscard]] std::string encode(const HaRefusal& refusal);
[[nodiscard]] std::string encode(const HaHandshakeReply& reply);
[[nodiscard]] std::string encode(const HaTransfer& header);
/// A challenge, or the refusal that comes in its place.
[[nodiscard]] ParseResult<std::variant<HaChallenge, HaRefusal>> parse_challenge(std::string_view bytes);
/// Any frame behind the challenge; of a transfer the header only.
[[nodiscard]] ParseResult<HaMasterFrame> parse_master_frame(std::string_view bytes);

// The classic stream. A slave sends offsets alone.

struct ClassicTransfer {
  LogOffset begin = 0;
  int32_t bytes = 0;  ///< of log that follow; 0: a heartbeat
};
[[nodiscard]] std::string encode_classic_report(LogOffset end);
[[nodiscard]] ParseResult<LogOffset> parse_classic_report(std::string_view bytes);
[[nodiscard]] std::string encode(const ClassicTransfer& header);
[[nodiscard]] ParseResult<ClassicTransfer> parse_classic_transfer(std::string_view bytes);

}  // namespace apogee::store
