#include "common/message/recall_handle.h"

#include "common/base/base64.h"
#include "test/support/catch.h"

namespace apogee {

TEST_CASE("base 64 of URLs: what is written can be read, other texts cannot", "[message][base64]") {
  // The vectors of RFC 4648.
  CHECK(to_base64url("").empty());
  CHECK(to_base64url("f") == "Zg==");
  CHECK(to_base64url("fo") == "Zm8=");
  CHECK(to_base64url("foo") == "Zm9v");
  CHECK(to_base64url("foob") == "Zm9vYg==");
  CHECK(to_base64url("fooba") == "Zm9vYmE=");
  CHECK(to_base64url("foobar") == "Zm9vYmFy");
  CHECK(to_base64url("\xfb\xff\xfe") == "-__-");
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    CHECK(from_base64url(to_base64url(bytes)) == bytes);
    bytes.push_back(static_cast<char>(i * 7));
  }
  CHECK(from_base64url("Zg") == "f");
  for (const char* bad : {"Z", "Zg=", "Zg===", "=", "====", "Zm9v+", "Zm9v/w==", "Zm 9v", "Zg==Zg=="}) {
    INFO(bad);
    CHECK_FALSE(from_base64url(bad));
  }
}

TEST_CASE("recall handles are RocketMQ's", "[message][recall]") {
  const message::RecallHandle handle{"Orders", "broker-a", 1'700'000'000'000, "7F0000010001"};
  const std::string text = message::encode_recall_handle(handle);
  CHECK(from_base64url(text) == "v1 Orders broker-a 1700000000000 7F0000010001");
  const auto read = message::decode_recall_handle(text);
  REQUIRE(read);
  CHECK(read->topic == handle.topic);
  CHECK(read->broker_name == handle.broker_name);
  CHECK(read->due_ms == handle.due_ms);
  CHECK(read->unique_id == handle.unique_id);
  CHECK(message::decode_recall_handle(to_base64url("v1 T b soon id"))->due_ms == -1);
  CHECK(message::encode_recall_handle({"T", "b", 1, "an id"}).empty());
  CHECK(message::encode_recall_handle({"T", "", 1, "id"}).empty());
  for (const auto& bad : {std::string(), std::string("*"), to_base64url("v2 T b 1 id"), to_base64url("v1 T b 1"),
                          to_base64url("v1  b 1 id"), to_base64url("v1 T b 1 "), to_base64url(" ")}) {
    INFO(bad);
    CHECK(message::decode_recall_handle(bad).error().code == Errc::kInvalidArgument);
  }
}

}  // namespace apogee
