#include "store/ha/ha_session.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/crc32.h"
#include "store/ha/log_crc.h"

namespace apogee::store {

namespace {

/// Beyond this the kernel's buffer is full, and on_written goes on.
constexpr size_t kUnsentBytesMax = 1 << 20;
/// A slave that lags more gets its log when producers have theirs.
constexpr int64_t kFarBehindBytes = 8 << 20;
constexpr std::chrono::milliseconds kGrowthTime{100};
/// Between two pieces of what a rate lets go.
constexpr int64_t kPieceMs = 5;
/// A refused peer has so long to read why.
constexpr std::chrono::milliseconds kRefusalTime{2'000};

std::string ip_of(const std::string& address) {
  auto parts = loop::split_host_port(address);
  return parts ? parts->first : address;
}

bool is_loopback(const std::string& ip) { return ip.starts_with("127.") || ip == "::1"; }

}  // namespace

HaSession::HaSession(Server& server, std::unique_ptr<loop::TcpConnection> connection)
    : server_(server), connection_(std::move(connection)), ip_(ip_of(connection_->peer_address())) {
  opened_at_ = heard_at_ = spoke_at_ = tokens_at_ = Clock::now();
}

void HaSession::start() {
  auto self = weak_from_this();
  connection_->start({
      .read_buffer = [this] { return std::pair(inbox_.data() + inbox_bytes_, inbox_.size() - inbox_bytes_); },
      .on_read =
          [self](size_t bytes) {
            auto session = self.lock();
            if (!session) return;
            session->inbox_bytes_ += bytes;
            session->on_read();
          },
      .on_close =
          [self](const Error& reason) {
            if (auto session = self.lock()) session->end(reason.message);
          },
      .on_written =
          [self] {
            if (auto session = self.lock()) session->pump();
          },
  });
}

std::string HaSession::description() const {
  if (classic_) return fmt::format("the classic slave {}", address());
  if (broker_id_ < 0) return fmt::format("the peer {}", address());
  return fmt::format("the slave {} with brokerId {}", address(), broker_id_);
}

void HaSession::end(const std::string& reason) {
  if (phase_ == Phase::kEnded) return;
  auto self = shared_from_this();
  const bool had_a_place = proven();
  const bool told = phase_ == Phase::kRefused;
  phase_ = Phase::kEnded;
  if (slave_) server_.log.acks().disconnected(*slave_);
  if (!told && server_.lines.admit(ip_ + reason.substr(0, 24)))
    server_.logger.warn("replication: {} is disconnected{}: {}", description(),
                        had_a_place ? fmt::format(", acknowledged up to {}, sent up to {}", acknowledged_, next_) : "",
                        reason);
  connection_->close();
  server_.ended(*this);
}

void HaSession::refuse(const std::string& reason) {
  if (server_.lines.admit(ip_ + reason.substr(0, 24)))
    server_.logger.error("replication: {} is refused: {}", description(), reason);
  phase_ = Phase::kRefused;
  opened_at_ = Clock::now();
  send(encode(HaRefusal{reason}));
}

void HaSession::send(std::string bytes) {
  spoke_at_ = Clock::now();
  std::vector<SharedBytes> parts;
  parts.push_back(SharedBytes::from(std::move(bytes)));
  connection_->write(std::move(parts));
}

void HaSession::on_read() {
  heard_at_ = Clock::now();
  size_t taken = 0;
  while (phase_ != Phase::kEnded && taken < inbox_bytes_) {
    if (phase_ == Phase::kRefused) {
      taken = inbox_bytes_;  // nothing that it says matters any more
      break;
    }
    size_t bytes = take_frame(std::string_view(inbox_.data(), inbox_bytes_).substr(taken));
    if (bytes == 0) break;
    taken += bytes;
  }
  std::copy(inbox_.begin() + static_cast<ptrdiff_t>(taken), inbox_.begin() + static_cast<ptrdiff_t>(inbox_bytes_),
            inbox_.begin());
  inbox_bytes_ -= taken;
  pump();
}

size_t HaSession::take_frame(std::string_view bytes) {
  auto take = [&](auto parsed, auto&& then) -> size_t {
    if (!parsed) return end("garbage: " + parsed.error().message), size_t{0};
    if (!*parsed) return 0;
    then((*parsed)->frame);
    return (*parsed)->bytes;
  };
  switch (phase_) {
    case Phase::kHello: return take_first(bytes);
    case Phase::kIdentity:
      return take(parse_identity(bytes), [&](const HaIdentity& identity) { on_identity(identity); });
    case Phase::kHandshake:
      return take(parse_handshake(bytes), [&](const HaHandshake& handshake) { on_handshake(handshake); });
    case Phase::kProof: return take(parse_proof(bytes), [&](const HaProof& proof) { on_proof(proof); });
    case Phase::kTransfer:
      if (classic_) return take(parse_classic_report(bytes), [&](LogOffset end) { on_acknowledged(end); });
      return take(parse_ack(bytes), [&](const HaAck& ack) { on_acknowledged(ack.end); });
    case Phase::kRefused:
    case Phase::kEnded: break;
  }
  return 0;
}

size_t HaSession::take_first(std::string_view bytes) {
  if (bytes.size() < sizeof(uint64_t)) return 0;
  if ((static_cast<unsigned char>(bytes.front()) & 0x80U) != 0) {
    auto hello = parse_hello(bytes);
    if (!hello) return end("garbage: " + hello.error().message), 0;
    if (!*hello) return 0;
    on_hello((*hello)->frame);
    return (*hello)->bytes;
  }
  const auto& listed = server_.options.classic_peers;
  if (std::find(listed.begin(), listed.end(), ip_) == listed.end()) {
    end("it begins with the classic stream, or with garbage, and haClassicPeers does not list its address");
    return 0;
  }
  classic_ = true;
  on_classic_start(load_be<int64_t>(bytes.data()));
  return sizeof(uint64_t);
}

void HaSession::on_hello(const HaHello& hello) {
  const auto& options = server_.options;
  if (options.secret.empty() && !is_loopback(ip_) && !(options.peer_allowed && options.peer_allowed(ip_)))
    return refuse(
        fmt::format("this master has no haSecret, and no NameServer lists {} for its broker group; set the "
                    "same haSecret at both",
                    ip_));
  auto nonce = make_nonce();
  if (!nonce) return end(nonce.error().message);
  slaves_nonce_ = hello.nonce;
  masters_nonce_ = *nonce;
  phase_ = Phase::kIdentity;
  send(encode(HaChallenge{masters_nonce_,
                          mac_of_master(options.secret, slaves_nonce_, masters_nonce_, options.broker_name),
                          options.broker_name}));
}

void HaSession::on_identity(const HaIdentity& identity) {
  const auto& options = server_.options;
  if (!same_mac(identity.mac,
                mac_of_slave(options.secret, slaves_nonce_, masters_nonce_, identity.broker_name, identity.broker_id)))
    return refuse("it does not know this master's haSecret");
  if (identity.broker_name != options.broker_name)
    return refuse(
        fmt::format("it is of the broker group {}, this master is of {}", identity.broker_name, options.broker_name));
  if (identity.broker_id <= 0)
    return refuse(fmt::format("its brokerId {} is not a slave's: two brokers of the group {} want to be its master",
                              identity.broker_id, options.broker_name));
  broker_id_ = identity.broker_id;
  if (auto why = server_.admit(*this)) return refuse(*why);
  phase_ = Phase::kHandshake;
  send(encode(HaWelcome{server_.log.begin(), server_.log.file_bytes()}));
}

void HaSession::on_handshake(const HaHandshake& handshake) {
  if (handshake.broker_id != broker_id_)
    return end(fmt::format("garbage: its handshake tells brokerId {}", handshake.broker_id));
  epochs_ = server_.log.epochs().all();
  phase_ = Phase::kProof;
  send(encode(HaHandshakeReply{server_.log.end(), epochs_.empty() ? 0 : epochs_.back().number, epochs_}));
}

std::optional<std::string> HaSession::objection(const HaProof& proof) const {
  const auto& log = server_.log;
  if (proof.end > log.end())
    return fmt::format("its log ends at {}, the master's at {}: it is ahead", proof.end, log.end());
  if (proof.end < log.begin())
    return fmt::format(
        "its log ends at {}, the master's begins at {}: what lies between is gone, so that this slave "
        "must begin with an empty store",
        proof.end, log.begin());
  if (proof.bytes == 0 && proof.end > log.begin()) return "it proves nothing about its log";
  const LogOffset from = proof.end - proof.bytes;
  if (from < log.begin()) return fmt::format("its proof begins at {}, the master's log at {}", from, log.begin());
  auto crc = crc_of_log(log, from, proof.end);
  if (!crc) return "the master cannot read its log: " + crc.error().message;
  if (*crc != proof.crc)
    return fmt::format("the bytes [{}, {}) of its log are not those of the master's: {}", from, proof.end, kHaParted);
  return std::nullopt;
}

void HaSession::on_proof(const HaProof& proof) {
  if (proof.end < 0) {
    const LogOffset begin = server_.log.begin();
    return begin_transfer(begin, begin);
  }
  if (auto why = objection(proof)) return refuse(*why);
  begin_transfer(proof.end, std::max<LogOffset>(proof.acknowledged, 0));
}

void HaSession::on_classic_start(LogOffset wanted) {
  const auto& log = server_.log;
  began_empty_ = wanted == 0;
  if (wanted == 0) {
    // As Apache RocketMQ serves a slave that has nothing: from the start of the newest file.
    LogOffset newest = log.end() - log.end() % log.file_bytes();
    wanted = std::max(log.begin(), newest);
  }
  if (wanted > log.end() || wanted < log.begin())
    return end(
        fmt::format("it reports {}, this master's log is [{}, {}): it is no slave of this log, or must begin "
                    "with an empty store",
                    wanted, log.begin(), log.end()));
  if (auto why = server_.admit(*this)) return end(*why);
  begin_transfer(wanted, wanted);
}

void HaSession::begin_transfer(LogOffset from, LogOffset acknowledged) {
  next_ = from;
  acknowledged_ = acknowledged;
  phase_ = Phase::kTransfer;
  auto& acks = server_.log.acks();
  slave_ = acks.connected(address(), broker_id_, classic_, acknowledged);
  acks.sent(*slave_, from);
  if (server_.lines.admit(ip_ + " follows"))
    server_.logger.info("replication: {} follows from {} on, {} bytes behind", description(), from,
                        server_.log.end() - from);
  tokens_at_ = grown_at_ = Clock::now();
  grown_end_ = server_.log.end();
  grows_by_ = 1;  // until it is known: a burst at once would be what producers notice most
  // The first frame tells where the stream goes on.
  send_log({});
}

void HaSession::on_acknowledged(LogOffset end_reported) {
  // A classic slave goes on to report 0 until it has got something.
  if (began_empty_ && end_reported == 0) return;
  began_empty_ = false;
  if (auto counted = server_.log.acks().acknowledged(*slave_, end_reported); !counted)
    return end(fmt::format("it acknowledges {}: {}", end_reported, counted.error().message));
  acknowledged_ = end_reported;
}

int64_t HaSession::allowance() {
  const auto& options = server_.options;
  if (connection_->unsent_bytes() >= kUnsentBytesMax) return 0;
  int64_t allowed = std::min(options.batch_bytes, options.window_bytes - (next_ - acknowledged_));
  if (classic_) allowed = std::min(allowed, kClassicBatchBytesMax);
  if (allowed <= 0) return allowed;
  const auto now = Clock::now();
  const int64_t rate = bytes_per_second(now);
  const auto since = std::chrono::duration<double>(now - std::exchange(tokens_at_, now)).count();
  if (rate <= 0) {
    tokens_ = 0;
    return allowed;
  }
  // What was not used is kept for a moment.
  const double piece = static_cast<double>(rate) * kPieceMs / 1e3 + 1;
  tokens_ = std::min(tokens_ + static_cast<double>(rate) * since, 4 * piece);
  if (tokens_ >= std::min(piece, static_cast<double>(allowed))) return std::min(allowed, static_cast<int64_t>(tokens_));
  if (!pump_planned_) {
    pump_planned_ = true;
    server_.loop.run_after(loop::Milliseconds(kPieceMs), [self = weak_from_this()] {
      auto session = self.lock();
      if (!session) return;
      session->pump_planned_ = false;
      session->pump();
    });
  }
  return 0;
}

int64_t HaSession::bytes_per_second(Clock::time_point now) {
  const auto& options = server_.options;
  const int64_t limit = options.bytes_per_second ? options.bytes_per_second() : 0;
  const LogOffset end = server_.log.end();
  if (const auto since = now - grown_at_; since >= kGrowthTime) {
    grows_by_ = static_cast<double>(end - grown_end_) / std::chrono::duration<double>(since).count();
    grown_end_ = end;
    grown_at_ = now;
  }
  const int64_t others_first = options.catch_up_bytes_per_second ? options.catch_up_bytes_per_second() : 0;
  if (others_first <= 0 || grows_by_ <= 0 || end - next_ < kFarBehindBytes) return limit;
  const int64_t catch_up = std::max(others_first, static_cast<int64_t>(2 * grows_by_));
  return limit > 0 ? std::min(limit, catch_up) : catch_up;
}

LogOffset HaSession::send_end() const {
  const auto& log = server_.log;
  return server_.options.flushed_only ? std::min(log.flushed(), log.end()) : log.end();
}

Epoch HaSession::epoch_at(LogOffset at, LogOffset* end) const {
  auto behind = std::upper_bound(epochs_.begin(), epochs_.end(), at,
                                 [](LogOffset offset, const Epoch& epoch) { return offset < epoch.begin; });
  *end = behind == epochs_.end() ? INT64_MAX : behind->begin;
  return behind == epochs_.begin() ? Epoch() : *std::prev(behind);
}

void HaSession::pump() {
  if (phase_ != Phase::kTransfer) return;
  const auto& log = server_.log;
  if (!classic_ && next_ < send_end()) {
    auto last = server_.log.epochs().last();
    if (last && (epochs_.empty() || !(epochs_.back() == *last))) epochs_ = server_.log.epochs().all();
  }
  for (LogOffset stop = send_end(); next_ < stop; stop = send_end()) {
    int64_t allowed = std::min(allowance(), stop - next_);
    if (allowed <= 0) return;
    if (!classic_) {
      LogOffset epoch_end = 0;
      (void)epoch_at(next_, &epoch_end);
      allowed = std::min(allowed, epoch_end - next_);
    }
    auto bytes = log.read(next_, allowed);
    if (!bytes) return end("the log cannot be read where it is to go on: " + bytes.error().message);
    if (bytes->empty()) return;
    send_log(std::move(*bytes));
  }
}

void HaSession::send_log(SharedBytes bytes) {
  const auto size = static_cast<int32_t>(bytes.size());
  std::string header;
  if (classic_) {
    header = encode(ClassicTransfer{next_, size});
  } else {
    LogOffset epoch_end = 0;
    told_confirmed_ = server_.log.acks().confirmed();
    header = encode(HaTransfer{size, next_, epoch_at(next_, &epoch_end), told_confirmed_});
  }
  next_ += size;
  if (size > 0) {
    server_.log.acks().sent(*slave_, next_);
    tokens_ -= size;
  }
  spoke_at_ = Clock::now();
  std::vector<SharedBytes> parts;
  parts.push_back(SharedBytes::from(std::move(header)));
  parts.push_back(std::move(bytes));
  connection_->write(std::move(parts));
}

void HaSession::tick() {
  auto elapsed_ms = [now = Clock::now()](Clock::time_point since) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - since).count();
  };
  const auto& options = server_.options;
  switch (phase_) {
    case Phase::kEnded: return;
    case Phase::kRefused:
      if (elapsed_ms(opened_at_) >= kRefusalTime.count()) end("it was refused");
      return;
    case Phase::kTransfer: break;
    default:
      if (elapsed_ms(opened_at_) >= options.handshake_ms_max)
        end(fmt::format("it has not proven itself within {} ms", options.handshake_ms_max));
      return;
  }
  if (elapsed_ms(heard_at_) >= options.silence_ms_max)
    return end(fmt::format("nothing was heard of it for {} ms", elapsed_ms(heard_at_)));
  // Not behind what the kernel does not take: those bytes keep the connection alive, or their silence ends it.
  const bool news = !classic_ && server_.log.acks().confirmed() != told_confirmed_;
  if (connection_->unsent_bytes() == 0 && (news || elapsed_ms(spoke_at_) >= options.heartbeat_ms)) send_log({});
  pump();
}

}  // namespace apogee::store
