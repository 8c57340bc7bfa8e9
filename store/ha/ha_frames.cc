#include "store/ha/ha_frames.h"

#include <fmt/core.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>

#include "common/base/bytes.h"

namespace apogee::store {

namespace {

// RocketMQ 5's states, and two that it has not.
constexpr int32_t kStateHandshake = 1;
constexpr int32_t kStateTransfer = 2;
constexpr int32_t kStateShutdown = 4;
constexpr int32_t kStateWelcome = 101;
constexpr int32_t kStateProof = 102;

constexpr size_t kStateAndSizeBytes = 8;
constexpr size_t kWelcomeBytes = 16;
constexpr size_t kReasonBytesMax = 4 << 10;
constexpr size_t kReplyHeaderBytes = 20;
constexpr size_t kEpochBytes = 12;
constexpr size_t kEpochsMax = 100'000;
constexpr size_t kTransferHeaderBytes = 36;
constexpr size_t kClassicHeaderBytes = 12;

Error garbage(std::string what) { return {Errc::kCorrupt, std::move(what)}; }

void append_nonce(std::string& to, const std::array<char, 32>& bytes) { to.append(bytes.data(), bytes.size()); }

/// An array of 32 bytes; the caller looks at the reader's ok().
std::array<char, 32> take_32(ByteReader& reader) {
  std::array<char, 32> taken{};
  auto bytes = reader.take(taken.size());
  std::copy(bytes.begin(), bytes.end(), taken.begin());
  return taken;
}

HaMac mac_of(std::string_view secret, std::string_view text) {
  HaMac mac{};
  unsigned int bytes = 0;
  // A null key would mean another thing than an empty one.
  HMAC(EVP_sha256(), secret.empty() ? "" : secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), reinterpret_cast<unsigned char*>(mac.data()),
       &bytes);
  return mac;
}

template <typename Frame, typename As = Frame>
ParseResult<As> complete(const ByteReader& reader, Frame frame) {
  if (!reader.ok()) return std::optional<Parsed<As>>();
  return std::optional<Parsed<As>>(Parsed<As>{As(std::move(frame)), reader.position()});
}

template <typename As>
ParseResult<As> parse_refusal(std::string_view bytes) {
  ByteReader reader(bytes);
  reader.read<int32_t>();
  auto size = reader.read<int32_t>();
  if (!reader.ok()) return std::optional<Parsed<As>>();
  if (size < 0 || static_cast<size_t>(size) > kReasonBytesMax)
    return garbage(fmt::format("a reason of {} bytes", size));
  HaRefusal refusal{std::string(reader.take(static_cast<size_t>(size)))};
  return complete<HaRefusal, As>(reader, std::move(refusal));
}

ParseResult<HaMasterFrame> parse_reply(std::string_view bytes) {
  ByteReader reader(bytes);
  HaHandshakeReply reply;
  reader.read<int32_t>();
  auto size = reader.read<int32_t>();
  reply.end = reader.read<int64_t>();
  reply.epoch = reader.read<int32_t>();
  if (!reader.ok()) return std::optional<Parsed<HaMasterFrame>>();
  if (size < 0 || size % kEpochBytes != 0 || static_cast<size_t>(size) / kEpochBytes > kEpochsMax || reply.end < 0)
    return garbage(fmt::format("a handshake with {} bytes of epochs, log end {}", size, reply.end));
  if (reader.remaining() < static_cast<size_t>(size)) return std::optional<Parsed<HaMasterFrame>>();
  for (size_t i = 0; i < static_cast<size_t>(size) / kEpochBytes; ++i) {
    Epoch epoch;
    epoch.number = reader.read<int32_t>();
    epoch.begin = reader.read<int64_t>();
    if (epoch.begin < 0 ||
        (i > 0 && (epoch.begin < reply.epochs.back().begin || epoch.number <= reply.epochs.back().number)))
      return garbage(fmt::format("epoch {} that begins at {} is out of order", epoch.number, epoch.begin));
    reply.epochs.push_back(epoch);
  }
  return complete<HaHandshakeReply, HaMasterFrame>(reader, std::move(reply));
}

ParseResult<HaMasterFrame> parse_transfer(std::string_view bytes) {
  ByteReader reader(bytes);
  HaTransfer transfer;
  reader.read<int32_t>();
  transfer.bytes = reader.read<int32_t>();
  transfer.begin = reader.read<int64_t>();
  transfer.epoch.number = reader.read<int32_t>();
  transfer.epoch.begin = reader.read<int64_t>();
  transfer.confirmed = reader.read<int64_t>();
  if (!reader.ok()) return std::optional<Parsed<HaMasterFrame>>();
  if (transfer.bytes < 0 || transfer.bytes > kHaFrameBytesMax || transfer.begin < 0 || transfer.epoch.number < 0 ||
      transfer.epoch.begin < 0 || transfer.confirmed < 0)
    return garbage(fmt::format("a transfer of {} bytes at {} of epoch {} from {} on, confirmed {}", transfer.bytes,
                               transfer.begin, transfer.epoch.number, transfer.epoch.begin, transfer.confirmed));
  return complete<HaTransfer, HaMasterFrame>(reader, transfer);
}

ParseResult<HaMasterFrame> parse_welcome(std::string_view bytes) {
  ByteReader reader(bytes);
  HaWelcome welcome;
  reader.read<int32_t>();
  auto size = reader.read<int32_t>();
  welcome.begin = reader.read<int64_t>();
  welcome.file_bytes = reader.read<int64_t>();
  if (!reader.ok()) return std::optional<Parsed<HaMasterFrame>>();
  if (size != static_cast<int32_t>(kWelcomeBytes) || welcome.begin < 0 || welcome.file_bytes <= 0)
    return garbage(
        fmt::format("a welcome of {} bytes, log begin {}, files of {}", size, welcome.begin, welcome.file_bytes));
  return complete<HaWelcome, HaMasterFrame>(reader, welcome);
}

}  // namespace

Result<HaNonce> make_nonce() {
  HaNonce nonce{};
  if (RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size())) != 1)
    return Error(Errc::kInternal, "the system gives no random bytes");
  return nonce;
}

HaMac mac_of_master(std::string_view secret, const HaNonce& slaves, const HaNonce& masters,
                    std::string_view broker_name) {
  std::string text = "apogee ha master";
  append_nonce(text, slaves);
  append_nonce(text, masters);
  text += broker_name;
  return mac_of(secret, text);
}

HaMac mac_of_slave(std::string_view secret, const HaNonce& slaves, const HaNonce& masters, std::string_view broker_name,
                   int64_t broker_id) {
  std::string text = "apogee ha slave";
  append_nonce(text, slaves);
  append_nonce(text, masters);
  append_be<int64_t>(text, broker_id);
  text += broker_name;
  return mac_of(secret, text);
}

bool same_mac(const HaMac& a, const HaMac& b) { return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

std::string encode(const HaHello& hello) {
  std::string bytes;
  append_be<uint64_t>(bytes, kHaHello);
  append_nonce(bytes, hello.nonce);
  return bytes;
}

ParseResult<HaHello> parse_hello(std::string_view bytes) {
  ByteReader reader(bytes);
  auto hello = reader.read<uint64_t>();
  if (reader.ok() && hello != kHaHello) return garbage(fmt::format("{:016X} is no hello that is known here", hello));
  HaHello frame;
  frame.nonce = take_32(reader);
  return complete(reader, frame);
}

std::string encode(const HaIdentity& identity) {
  std::string bytes;
  append_nonce(bytes, identity.mac);
  append_be<int64_t>(bytes, identity.broker_id);
  append_be<uint16_t>(bytes, static_cast<uint16_t>(identity.broker_name.size()));
  return bytes + identity.broker_name;
}

ParseResult<HaIdentity> parse_identity(std::string_view bytes) {
  ByteReader reader(bytes);
  HaIdentity identity;
  identity.mac = take_32(reader);
  identity.broker_id = reader.read<int64_t>();
  auto size = reader.read<uint16_t>();
  if (reader.ok() && size > kHaBrokerNameBytesMax) return garbage(fmt::format("a broker name of {} bytes", size));
  identity.broker_name = reader.take(size);
  return complete(reader, std::move(identity));
}

std::string encode(const HaHandshake& handshake) {
  std::string bytes;
  append_be<int32_t>(bytes, kStateHandshake);
  append_be<int32_t>(bytes, 0);
  append_be<int64_t>(bytes, handshake.broker_id);
  return bytes;
}

ParseResult<HaHandshake> parse_handshake(std::string_view bytes) {
  ByteReader reader(bytes);
  auto state = reader.read<int32_t>();
  if (reader.ok() && state != kStateHandshake) return garbage(fmt::format("state {} in place of a handshake", state));
  reader.read<int32_t>();
  HaHandshake handshake;
  handshake.broker_id = reader.read<int64_t>();
  return complete(reader, handshake);
}

std::string encode(const HaProof& proof) {
  std::string bytes;
  append_be<int32_t>(bytes, kStateProof);
  append_be<int64_t>(bytes, proof.end);
  append_be<int64_t>(bytes, proof.acknowledged);
  append_be<int32_t>(bytes, proof.bytes);
  append_be<uint32_t>(bytes, proof.crc);
  return bytes;
}

ParseResult<HaProof> parse_proof(std::string_view bytes) {
  ByteReader reader(bytes);
  auto state = reader.read<int32_t>();
  if (reader.ok() && state != kStateProof) return garbage(fmt::format("state {} in place of a proof", state));
  HaProof proof;
  proof.end = reader.read<int64_t>();
  proof.acknowledged = reader.read<int64_t>();
  proof.bytes = reader.read<int32_t>();
  proof.crc = reader.read<uint32_t>();
  if (!reader.ok()) return std::optional<Parsed<HaProof>>();
  if (proof.end < -1 || proof.acknowledged < -1 || proof.acknowledged > proof.end || proof.bytes < 0 ||
      static_cast<size_t>(proof.bytes) > kHaProofBytesMax || proof.bytes > std::max<int64_t>(proof.end, 0))
    return garbage(
        fmt::format("a proof of {} bytes in front of {}, acknowledged {}", proof.bytes, proof.end, proof.acknowledged));
  return complete(reader, proof);
}

std::string encode(const HaAck& ack) {
  std::string bytes;
  append_be<int32_t>(bytes, kStateTransfer);
  append_be<int64_t>(bytes, ack.end);
  return bytes;
}

ParseResult<HaAck> parse_ack(std::string_view bytes) {
  ByteReader reader(bytes);
  auto state = reader.read<int32_t>();
  if (reader.ok() && state != kStateTransfer) return garbage(fmt::format("state {} in place of an offset", state));
  HaAck ack;
  ack.end = reader.read<int64_t>();
  if (reader.ok() && ack.end < 0) return garbage(fmt::format("offset {}", ack.end));
  return complete(reader, ack);
}

std::string encode(const HaChallenge& challenge) {
  std::string bytes;
  append_be<uint64_t>(bytes, kHaHello);
  append_nonce(bytes, challenge.nonce);
  append_nonce(bytes, challenge.mac);
  append_be<uint16_t>(bytes, static_cast<uint16_t>(challenge.broker_name.size()));
  return bytes + challenge.broker_name;
}

std::string encode(const HaWelcome& welcome) {
  std::string bytes;
  append_be<int32_t>(bytes, kStateWelcome);
  append_be<int32_t>(bytes, kWelcomeBytes);
  append_be<int64_t>(bytes, welcome.begin);
  append_be<int64_t>(bytes, welcome.file_bytes);
  return bytes;
}

std::string encode(const HaRefusal& refusal) {
  std::string_view reason = std::string_view(refusal.reason).substr(0, kReasonBytesMax);
  std::string bytes;
  append_be<int32_t>(bytes, kStateShutdown);
  append_be<int32_t>(bytes, static_cast<int32_t>(reason.size()));
  bytes += reason;
  return bytes;
}

std::string encode(const HaHandshakeReply& reply) {
  std::string bytes;
  bytes.reserve(kReplyHeaderBytes + reply.epochs.size() * kEpochBytes);
  append_be<int32_t>(bytes, kStateHandshake);
  append_be<int32_t>(bytes, static_cast<int32_t>(reply.epochs.size() * kEpochBytes));
  append_be<int64_t>(bytes, reply.end);
  append_be<int32_t>(bytes, reply.epoch);
  for (const auto& epoch : reply.epochs) {
    append_be<int32_t>(bytes, epoch.number);
    append_be<int64_t>(bytes, epoch.begin);
  }
  return bytes;
}

std::string encode(const HaTransfer& header) {
  std::string bytes;
  bytes.reserve(kTransferHeaderBytes);
  append_be<int32_t>(bytes, kStateTransfer);
  append_be<int32_t>(bytes, header.bytes);
  append_be<int64_t>(bytes, header.begin);
  append_be<int32_t>(bytes, header.epoch.number);
  append_be<int64_t>(bytes, header.epoch.begin);
  append_be<int64_t>(bytes, header.confirmed);
  return bytes;
}

ParseResult<std::variant<HaChallenge, HaRefusal>> parse_challenge(std::string_view bytes) {
  using Frame = std::variant<HaChallenge, HaRefusal>;
  if (bytes.size() < kStateAndSizeBytes) return std::optional<Parsed<Frame>>();
  if (load_be<int32_t>(bytes.data()) == kStateShutdown) return parse_refusal<Frame>(bytes);
  ByteReader reader(bytes);
  if (auto hello = reader.read<uint64_t>(); hello != kHaHello)
    return garbage(fmt::format("{:016X} in place of a hello", hello));
  HaChallenge challenge;
  challenge.nonce = take_32(reader);
  challenge.mac = take_32(reader);
  auto size = reader.read<uint16_t>();
  if (reader.ok() && size > kHaBrokerNameBytesMax) return garbage(fmt::format("a broker name of {} bytes", size));
  challenge.broker_name = reader.take(size);
  return complete<HaChallenge, Frame>(reader, std::move(challenge));
}

ParseResult<HaMasterFrame> parse_master_frame(std::string_view bytes) {
  if (bytes.size() < kStateAndSizeBytes) return std::optional<Parsed<HaMasterFrame>>();
  switch (auto state = load_be<int32_t>(bytes.data())) {
    case kStateHandshake: return parse_reply(bytes);
    case kStateTransfer: return parse_transfer(bytes);
    case kStateShutdown: return parse_refusal<HaMasterFrame>(bytes);
    case kStateWelcome: return parse_welcome(bytes);
    default: return garbage(fmt::format("a frame of state {}", state));
  }
}

std::string encode_classic_report(LogOffset end) {
  std::string bytes;
  append_be<int64_t>(bytes, end);
  return bytes;
}

ParseResult<LogOffset> parse_classic_report(std::string_view bytes) {
  ByteReader reader(bytes);
  auto end = reader.read<int64_t>();
  if (reader.ok() && end < 0) return garbage(fmt::format("offset {}", end));
  return complete(reader, end);
}

std::string encode(const ClassicTransfer& header) {
  std::string bytes;
  bytes.reserve(kClassicHeaderBytes);
  append_be<int64_t>(bytes, header.begin);
  append_be<int32_t>(bytes, header.bytes);
  return bytes;
}

ParseResult<ClassicTransfer> parse_classic_transfer(std::string_view bytes) {
  ByteReader reader(bytes);
  ClassicTransfer transfer;
  transfer.begin = reader.read<int64_t>();
  transfer.bytes = reader.read<int32_t>();
  if (!reader.ok()) return std::optional<Parsed<ClassicTransfer>>();
  if (transfer.begin < 0 || transfer.bytes < 0 || transfer.bytes > kClassicFrameBytesMax)
    return garbage(fmt::format("{} bytes at {}", transfer.bytes, transfer.begin));
  return complete(reader, transfer);
}

}  // namespace apogee::store
