#include "store/ha/ha_follower.h"

#include <fmt/core.h>

#include <algorithm>

#include "store/ha/log_crc.h"

namespace apogee::store {

namespace {
constexpr size_t kInboxBytes = 512 << 10;
/// Of log, a header is read with no more of what follows it: the rest goes where it is to be.
constexpr size_t kBehindHeaderMax = 16 << 10;
constexpr size_t kInboxBytesMax = 2 << 20;  ///< a handshake with very many epochs
}  // namespace

HaFollower::HaFollower(const HaClient::Options& options, ReplicatedLog& log, Listener listener)
    : options_(options), log_(log), listener_(std::move(listener)), inbox_(kInboxBytes, '\0') {
  heard_at_ = spoke_at_ = Clock::now();
}

void HaFollower::start(std::unique_ptr<loop::TcpConnection> connection, LogOffset parted_at) {
  parted_at_ = parted_at;
  connection_ = std::move(connection);
  listen();
  auto nonce = make_nonce();
  if (!nonce) return end(End::kBroken, nonce.error().message);
  nonce_ = *nonce;
  send(encode(HaHello{nonce_}));
}

void HaFollower::start_classic(std::unique_ptr<loop::TcpConnection> connection, LogOffset from) {
  connection_ = std::move(connection);
  classic_ = true;
  phase_ = Phase::kTransfer;
  expected_ = from;
  acknowledged_ = from;
  listen();
  send(encode_classic_report(from));
  listener_.following(from);
}

void HaFollower::listen() {
  auto self = weak_from_this();
  connection_->start({
      .read_buffer = [this] { return read_buffer(); },
      .on_read =
          [self](size_t bytes) {
            if (auto follower = self.lock()) follower->on_read(bytes);
          },
      .on_close =
          [self](const Error& reason) {
            if (auto follower = self.lock()) follower->end(End::kBroken, reason.message);
          },
  });
}

void HaFollower::close() {
  phase_ = Phase::kEnded;
  if (connection_) connection_->close();
}

void HaFollower::end(End end, const std::string& why) {
  if (phase_ == Phase::kEnded) return;
  auto self = shared_from_this();
  close();
  if (!objection_.empty()) return listener_.ended(End::kRefused, objection_);
  listener_.ended(end, why);
}

void HaFollower::send(std::string bytes) {
  spoke_at_ = Clock::now();
  std::vector<SharedBytes> parts;
  parts.push_back(SharedBytes::from(std::move(bytes)));
  connection_->write(std::move(parts));
}

std::pair<char*, size_t> HaFollower::read_buffer() {
  direct_ = false;
  if (phase_ == Phase::kTransfer && inbox_bytes_ == 0 && frame_left_ > 0) {
    if (const auto room = listener_.room(static_cast<size_t>(frame_left_)); room.second > 0) {
      direct_ = true;
      return room;
    }
  }
  size_t size = inbox_.size() - inbox_bytes_;
  if (phase_ == Phase::kTransfer) size = std::min(size, kBehindHeaderMax);
  return {inbox_.data() + inbox_bytes_, size};
}

void HaFollower::on_read(size_t bytes) {
  auto self = shared_from_this();
  heard_at_ = Clock::now();
  if (direct_) {
    frame_left_ -= static_cast<int64_t>(bytes);
    listener_.received(bytes);
    if (phase_ == Phase::kEnded) return;
  } else {
    inbox_bytes_ += bytes;
    if (!take_inbox()) return;
  }
  if (!paused_ && listener_.full()) {
    paused_ = true;
    connection_->pause_reading();
  }
}

bool HaFollower::take_inbox() {
  size_t taken = 0;
  while (phase_ != Phase::kEnded && taken < inbox_bytes_) {
    size_t used = take(std::string_view(inbox_.data(), inbox_bytes_).substr(taken));
    if (used == 0) break;
    taken += used;
  }
  if (phase_ == Phase::kEnded) return false;
  std::copy(inbox_.begin() + static_cast<ptrdiff_t>(taken), inbox_.begin() + static_cast<ptrdiff_t>(inbox_bytes_),
            inbox_.begin());
  inbox_bytes_ -= taken;
  if (inbox_bytes_ == inbox_.size()) {
    if (inbox_.size() >= kInboxBytesMax) {
      end(End::kBroken, "garbage: a frame without an end");
      return false;
    }
    inbox_.resize(kInboxBytesMax);
  }
  return true;
}

void HaFollower::resume_reading() {
  if (!std::exchange(paused_, false) || phase_ == Phase::kEnded) return;
  heard_at_ = Clock::now();
  connection_->resume_reading();
}

size_t HaFollower::take(std::string_view bytes) {
  if (frame_left_ > 0) {
    auto part =
        bytes.substr(0, static_cast<size_t>(std::min<int64_t>(frame_left_, static_cast<int64_t>(bytes.size()))));
    frame_left_ -= static_cast<int64_t>(part.size());
    listener_.bytes(part);
    return part.size();
  }
  if (classic_) return take_classic(bytes);
  return phase_ == Phase::kChallenge ? take_challenge(bytes) : take_master_frame(bytes);
}

size_t HaFollower::take_challenge(std::string_view bytes) {
  auto parsed = parse_challenge(bytes);
  if (!parsed) {
    end(End::kRefused, "the master answers with " + parsed.error().message +
                           ": it does not speak this stream; a master of Apache RocketMQ is listed in haClassicPeers");
    return 0;
  }
  if (!*parsed) return 0;
  if (const auto* refusal = std::get_if<HaRefusal>(&(*parsed)->frame)) {
    on_frame(*refusal);
  } else {
    on_challenge(std::get<HaChallenge>((*parsed)->frame));
  }
  return (*parsed)->bytes;
}

void HaFollower::on_challenge(const HaChallenge& challenge) {
  HaIdentity identity{{}, options_.broker_id, options_.broker_name};
  // What stands against this master is told when it has answered, so that its log has a line too.
  if (!same_mac(challenge.mac, mac_of_master(options_.secret, nonce_, challenge.nonce, challenge.broker_name))) {
    objection_ = "the master does not know this slave's haSecret";
  } else {
    if (challenge.broker_name != options_.broker_name)
      objection_ = fmt::format("the master is of the broker group {}, this slave is of {}", challenge.broker_name,
                               options_.broker_name);
    identity.mac = mac_of_slave(options_.secret, nonce_, challenge.nonce, options_.broker_name, options_.broker_id);
  }
  phase_ = Phase::kWelcome;
  send(encode(identity));
}

size_t HaFollower::take_master_frame(std::string_view bytes) {
  auto parsed = parse_master_frame(bytes);
  if (!parsed) {
    end(End::kBroken, "garbage: " + parsed.error().message);
    return 0;
  }
  if (!*parsed) return 0;
  std::visit([this](const auto& frame) { on_frame(frame); }, (*parsed)->frame);
  return (*parsed)->bytes;
}

void HaFollower::on_frame(const HaRefusal& refusal) {
  const bool parted = proof_is_open_ && refusal.reason.find(kHaParted) != std::string::npos;
  end(parted ? End::kParted : End::kRefused, "the master says: " + refusal.reason);
}

void HaFollower::on_frame(const HaWelcome& welcome) {
  if (phase_ != Phase::kWelcome) return end(End::kBroken, "garbage: a welcome at a wrong time");
  if (!objection_.empty()) return end(End::kRefused, objection_);
  if (welcome.file_bytes != log_.file_bytes())
    return end(End::kRefused,
               fmt::format("the master's log files have {} bytes, this slave's {}: mappedFileSizeCommitLog "
                           "must be the same",
                           welcome.file_bytes, log_.file_bytes()));
  master_begin_ = welcome.begin;
  phase_ = Phase::kReply;
  send(encode(HaHandshake{options_.broker_id}));
}

void HaFollower::on_frame(const HaHandshakeReply& reply) {
  if (phase_ != Phase::kReply) return end(End::kBroken, "garbage: a handshake at a wrong time");
  if (!log_is_empty()) {
    auto agreed = agree({log_.begin(), log_.end(), log_.epochs().all(), parted_at_},
                        {master_begin_, reply.end, reply.epochs}, options_.truncate_ahead);
    if (agreed.action == LogAgreement::Action::kRefuse) return end(End::kRefused, agreed.why);
    if (agreed.action == LogAgreement::Action::kTruncate) {
      auto self = shared_from_this();
      close();
      return listener_.truncate(agreed.end, reply.end);
    }
  }
  prove(reply.end);
}

void HaFollower::prove(LogOffset master_end) {
  HaProof proof;
  if (!log_is_empty()) {
    proof.end = log_.end();
    proof.acknowledged = options_.acknowledge_on_disk ? std::min(log_.flushed(), proof.end) : proof.end;
    const LogOffset from =
        std::max({proof.end - static_cast<LogOffset>(kHaProofBytesMax), log_.begin(), master_begin_});
    auto crc = crc_of_log(log_, from, proof.end);
    if (!crc) return end(End::kBroken, "this slave cannot read its log: " + crc.error().message);
    proof.bytes = static_cast<int32_t>(proof.end - from);
    proof.crc = *crc;
    expected_ = proof.end;
    acknowledged_ = proof.acknowledged;
  }
  phase_ = Phase::kTransfer;
  proof_is_open_ = true;
  send(encode(proof));
  listener_.following(master_end);
}

void HaFollower::on_frame(const HaTransfer& transfer) {
  if (phase_ != Phase::kTransfer) return end(End::kBroken, "garbage: log at a wrong time");
  if (expected_.value_or(transfer.begin) != transfer.begin)
    return end(End::kBroken, fmt::format("the master sends {}, where {} was to come", transfer.begin, *expected_));
  proof_is_open_ = false;
  if (!expected_) acknowledged_ = transfer.begin;
  expected_ = transfer.begin + transfer.bytes;
  frame_left_ = transfer.bytes;
  listener_.frame(transfer);
}

size_t HaFollower::take_classic(std::string_view bytes) {
  auto parsed = parse_classic_transfer(bytes);
  if (!parsed) {
    end(End::kBroken, "garbage: " + parsed.error().message);
    return 0;
  }
  if (!*parsed) return 0;
  const auto& [begin, size] = (*parsed)->frame;
  on_frame(HaTransfer{size, begin, {}, -1});
  return (*parsed)->bytes;
}

void HaFollower::acknowledge(LogOffset end) {
  if (phase_ != Phase::kTransfer || end <= acknowledged_) return;
  acknowledged_ = end;
  send(classic_ ? encode_classic_report(end) : encode(HaAck{end}));
}

void HaFollower::tick() {
  if (phase_ == Phase::kEnded) return;
  auto elapsed_ms = [now = Clock::now()](Clock::time_point since) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now - since).count();
  };
  if (!paused_ && elapsed_ms(heard_at_) >= options_.silence_ms_max)
    return end(End::kBroken, fmt::format("nothing was heard of the master for {} ms", elapsed_ms(heard_at_)));
  // Before its first frame has told an empty slave where the log begins, there is nothing to acknowledge.
  if (phase_ == Phase::kTransfer && expected_ && connection_->unsent_bytes() == 0 &&
      elapsed_ms(spoke_at_) >= options_.heartbeat_ms)
    send(classic_ ? encode_classic_report(acknowledged_) : encode(HaAck{acknowledged_}));
}

}  // namespace apogee::store
