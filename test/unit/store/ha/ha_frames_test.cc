#include "store/ha/ha_frames.h"

#include <set>

#include "common/base/hex.h"
#include "test/support/catch.h"
#include "test/support/random.h"

using namespace apogee;
using namespace apogee::store;

namespace {

/// Every cut of a frame is incomplete, and the frame itself is whole, also with bytes behind it.
template <typename Parse>
void check_cuts(const std::string& frame, const Parse& parse) {
  for (size_t bytes = 0; bytes < frame.size(); ++bytes) {
    auto parsed = parse(std::string_view(frame).substr(0, bytes));
    REQUIRE(parsed.has_value());
    CHECK_FALSE(parsed->has_value());
  }
  for (const std::string& behind : {std::string(), std::string("\xFF\xFF"), std::string(64, '\0')}) {
    auto parsed = parse(frame + behind);
    REQUIRE(parsed.has_value());
    REQUIRE(parsed->has_value());
    CHECK((*parsed)->bytes == frame.size());
  }
}

HaNonce nonce_of(char byte) {
  HaNonce nonce;
  nonce.fill(byte);
  return nonce;
}

}  // namespace

TEST_CASE("the frames of RocketMQ 5's controller mode have its bytes", "[ha]") {
  CHECK(to_hex(encode(HaHandshake{7})) ==
        "00000001"
        "0000"
        "0000"
        "0000000000000007");
  CHECK(to_hex(encode(HaHandshakeReply{0x1234, 3, {{1, 0}, {3, 0x100}}})) ==
        "00000001"
        "00000018"
        "0000000000001234"
        "00000003"
        "00000001"
        "0000000000000000"
        "00000003"
        "0000000000000100");
  CHECK(to_hex(encode(HaTransfer{16, 0x200, {3, 0x100}, 0x1F0})) ==
        "00000002"
        "00000010"
        "0000000000000200"
        "00000003"
        "0000000000000100"
        "00000000000001F0");
  CHECK(to_hex(encode(HaAck{0x210})) ==
        "00000002"
        "0000000000000210");
  CHECK(to_hex(encode(HaRefusal{"no"})) ==
        "00000004"
        "00000002"
        "6E6F");
}

TEST_CASE("the frames of the classic stream have its bytes", "[ha]") {
  CHECK(to_hex(encode_classic_report(1730)) == "00000000000006C2");
  CHECK(to_hex(encode(ClassicTransfer{1730, 208})) ==
        "00000000000006C2"
        "000000D0");
}

TEST_CASE("our own frames keep their bytes", "[ha]") {
  CHECK(to_hex(encode(HaHello{nonce_of(1)})).substr(0, 20) == "C141504F474545010101");
  CHECK((kHaHello >> 63) == 1);
  CHECK(to_hex(encode(HaWelcome{0x100, 0x4000})) ==
        "00000065"
        "00000010"
        "0000000000000100"
        "0000000000004000");
  CHECK(to_hex(encode(HaProof{0x200, 0x1FF, 0x10, 0xAABBCCDD})) ==
        "00000066"
        "0000000000000200"
        "00000000000001FF"
        "00000010"
        "AABBCCDD");
  CHECK(to_hex(encode(HaIdentity{{}, 2, "ab"})).substr(64) ==
        "0000000000000002"
        "0002"
        "6162");
  CHECK(to_hex(encode(HaChallenge{{}, {}, "ab"})).substr(0, 16) == "C141504F47454501");
}

TEST_CASE("a frame may come in pieces", "[ha]") {
  check_cuts(encode(HaHello{nonce_of(2)}), parse_hello);
  check_cuts(encode(HaIdentity{nonce_of(3), 1, "broker-a"}), parse_identity);
  check_cuts(encode(HaHandshake{1}), parse_handshake);
  check_cuts(encode(HaProof{100, 90, 10, 5}), parse_proof);
  check_cuts(encode(HaProof{}), parse_proof);
  check_cuts(encode(HaAck{100}), parse_ack);
  check_cuts(encode(HaChallenge{nonce_of(4), nonce_of(5), "broker-a"}), parse_challenge);
  check_cuts(encode(HaRefusal{"because"}), parse_challenge);
  check_cuts(encode(HaRefusal{"because"}), parse_master_frame);
  check_cuts(encode(HaWelcome{0, 4096}), parse_master_frame);
  check_cuts(encode(HaHandshakeReply{100, 2, {{1, 0}, {2, 50}}}), parse_master_frame);
  check_cuts(encode(HaHandshakeReply{}), parse_master_frame);
  check_cuts(encode(HaTransfer{1, 2, {1, 0}, 2}), parse_master_frame);
  check_cuts(encode_classic_report(100), parse_classic_report);
  check_cuts(encode(ClassicTransfer{100, 7}), parse_classic_transfer);
}

TEST_CASE("a frame says what was put into it", "[ha]") {
  auto reply =
      std::get<HaHandshakeReply>((*parse_master_frame(encode(HaHandshakeReply{9, 2, {{1, 0}, {2, 5}}})))->frame);
  CHECK(reply.end == 9);
  CHECK(reply.epoch == 2);
  CHECK(reply.epochs == std::vector<Epoch>{{1, 0}, {2, 5}});
  auto transfer = std::get<HaTransfer>((*parse_master_frame(encode(HaTransfer{1, 2, {3, 4}, 5})))->frame);
  CHECK(transfer.bytes == 1);
  CHECK(transfer.begin == 2);
  CHECK(transfer.epoch == Epoch{3, 4});
  CHECK(transfer.confirmed == 5);
  auto identity = (*parse_identity(encode(HaIdentity{nonce_of(3), 4, "broker-a"})))->frame;
  CHECK(identity.broker_id == 4);
  CHECK(identity.broker_name == "broker-a");
  CHECK(same_mac(identity.mac, nonce_of(3)));
  auto proof = (*parse_proof(encode(HaProof{100, 90, 10, 0xFFFFFFFF})))->frame;
  CHECK(proof.end == 100);
  CHECK(proof.acknowledged == 90);
  CHECK(proof.bytes == 10);
  CHECK(proof.crc == 0xFFFFFFFF);
}

TEST_CASE("what cannot be is garbage", "[ha]") {
  CHECK_FALSE(parse_hello("\xC1"
                          "APOGEE\x02")
                  .has_value());
  CHECK_FALSE(parse_handshake(encode(HaAck{1})).has_value());
  CHECK_FALSE(parse_ack(encode(HaHandshake{1})).has_value());
  CHECK_FALSE(parse_ack(encode(HaAck{-1})).has_value());
  CHECK_FALSE(parse_proof(encode(HaProof{10, 11, 0, 0})).has_value());
  CHECK_FALSE(parse_proof(encode(HaProof{10, 10, 11, 0})).has_value());
  CHECK_FALSE(parse_proof(encode(HaProof{1 << 20, 1 << 20, (64 << 10) + 1, 0})).has_value());
  CHECK_FALSE(parse_proof(encode(HaProof{10, 10, -1, 0})).has_value());
  CHECK_FALSE(parse_master_frame(encode(HaTransfer{-1, 0, {}, 0})).has_value());
  CHECK_FALSE(parse_master_frame(encode(HaTransfer{0x7FFFFFFF, 0, {}, 0})).has_value());
  CHECK_FALSE(parse_master_frame(encode(HaTransfer{1, -5, {}, 0})).has_value());
  CHECK_FALSE(parse_master_frame(encode(HaHandshakeReply{9, 2, {{2, 0}, {1, 5}}})).has_value());
  CHECK_FALSE(parse_master_frame(encode(HaHandshakeReply{9, 2, {{1, 5}, {2, 0}}})).has_value());
  CHECK_FALSE(parse_master_frame(std::string(8, '\x7F')).has_value());
  CHECK_FALSE(parse_challenge(std::string(8, '\0')).has_value());
  CHECK_FALSE(parse_classic_report(encode_classic_report(-1)).has_value());
  CHECK_FALSE(parse_classic_transfer(encode(ClassicTransfer{0, -1})).has_value());
  CHECK_FALSE(parse_classic_transfer(encode(ClassicTransfer{0, (4 << 20) + 1})).has_value());
}

TEST_CASE("a long reason is cut, not refused", "[ha]") {
  auto parsed = parse_master_frame(encode(HaRefusal{std::string(100'000, 'x')}));
  REQUIRE(parsed.has_value());
  REQUIRE(parsed->has_value());
  CHECK(std::get<HaRefusal>((*parsed)->frame).reason.size() == 4096);
}

TEST_CASE("decoders bear any bytes", "[ha]") {
  test::Random random(11);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(static_cast<size_t>(random.below(80)), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.below(round % 2 == 0 ? 256 : 5));
    auto within = [&](const auto& parsed) { return !parsed || !*parsed || (*parsed)->bytes <= bytes.size(); };
    REQUIRE((within(parse_hello(bytes)) && within(parse_identity(bytes)) && within(parse_handshake(bytes)) &&
             within(parse_proof(bytes)) && within(parse_ack(bytes)) && within(parse_challenge(bytes)) &&
             within(parse_master_frame(bytes)) && within(parse_classic_report(bytes)) &&
             within(parse_classic_transfer(bytes))));
  }
}

TEST_CASE("a challenge is answered only by who knows the secret, for this challenge, this side and this name", "[ha]") {
  auto s = nonce_of(1), m = nonce_of(2);
  auto mac = mac_of_slave("secret", s, m, "broker-a", 1);
  CHECK(same_mac(mac, mac_of_slave("secret", s, m, "broker-a", 1)));
  CHECK_FALSE(same_mac(mac, mac_of_slave("Secret", s, m, "broker-a", 1)));
  CHECK_FALSE(same_mac(mac, mac_of_slave("", s, m, "broker-a", 1)));
  CHECK_FALSE(same_mac(mac, mac_of_slave("secret", s, nonce_of(3), "broker-a", 1)));
  CHECK_FALSE(same_mac(mac, mac_of_slave("secret", nonce_of(3), m, "broker-a", 1)));
  CHECK_FALSE(same_mac(mac, mac_of_slave("secret", s, m, "broker-b", 1)));
  CHECK_FALSE(same_mac(mac, mac_of_slave("secret", s, m, "broker-a", 2)));
  CHECK_FALSE(same_mac(mac, mac_of_master("secret", s, m, "broker-a")));
  // HMAC-SHA256 as everybody computes it.
  CHECK(to_hex({mac_of_master("k", nonce_of('a'), nonce_of('b'), "n").data(), 32}) ==
        "2B3156536891295DA8FCD3D3761C3FEA81F650E7534D72C70B0EA35201A6B727");
  std::set<HaNonce> nonces;
  for (int i = 0; i < 100; ++i) nonces.insert(*make_nonce());
  CHECK(nonces.size() == 100);
}
