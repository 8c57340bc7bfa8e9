#include "common/remoting/command_codec.h"

#include <tuple>

#include "common/base/hex.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::remoting;

namespace {

std::string frame_of(char type, std::string_view header, std::string_view body = "") {
  std::string frame;
  append_be<uint32_t>(frame, static_cast<uint32_t>(static_cast<uint32_t>(type) << 24 | header.size()));
  frame += header;
  frame += body;
  return frame;
}

Result<Command> decode(std::string frame) { return decode_frame(SharedBytes::from(std::move(frame))); }

Command decode_json(std::string_view header) {
  auto command = decode(frame_of(0, header));
  if (!command) FAIL(header << ": " << command.error().message);
  return *command;
}

}  // namespace

TEST_CASE("the JSON header is written as Java writes it") {
  auto command = Command::request(static_cast<RequestCode>(105));
  command.opaque = 7;
  command.language = LanguageCode::kJava;
  command.version = 409;
  command.ext.set("topic", "T");
  CHECK(encode_header(command) == R"({"code":105,"extFields":{"topic":"T"},"flag":0,"language":"JAVA","opaque":7,)"
                                  R"("serializeTypeCurrentRPC":"JSON","version":409})");
  auto reply = Command::response_to(command, 17, "No \"topic\"\n\x01");
  CHECK(encode_header(reply) == R"({"code":17,"flag":1,"language":"CPP","opaque":7,"remark":"No \"topic\"\n\u0001",)"
                                R"("serializeTypeCurrentRPC":"JSON","version":479})");
}

TEST_CASE("the binary header is written as documented") {
  auto command = Command::request(static_cast<RequestCode>(105));
  command.opaque = 7;
  command.version = 409;
  command.serialize = SerializeType::kRocketMq;
  command.ext.set("topic", "T");
  CHECK(to_hex(encode_frame_to_string(command)) ==
        "0000002501000021006901019900000007000000000000000000"
        "00000C0005746F7069630000000154");
  CHECK(Command::response_to(command, 0).serialize == SerializeType::kRocketMq);
}

TEST_CASE("what C++ and Go clients write in JSON headers is read") {
  auto command = decode_json(
      "{\"code\":310,\"extFields\":{\"e\":3,\"g\":1700000000000,\"k\":false,\"i\":\"a\\u0001b\\u0002\",\"n\":null,"
      "\"x\":1.5},"
      "\"flag\":2,\"language\":\"CPP\",\"opaque\":9,\"remark\":\"\",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":"
      "333,"
      "\"more\":[{\"a\":1}]}\n");
  CHECK(command.code == 310);
  CHECK(command.is_oneway());
  CHECK(command.ext.get_int<int32_t>("e") == 3);
  CHECK(command.ext.get_int<int64_t>("g") == 1700000000000);
  CHECK(command.ext.get_int<int32_t>("g") == std::nullopt);
  CHECK(command.ext.get("k") == "false");
  CHECK(command.ext.get_bool("k") == false);
  CHECK(command.ext.get("i") ==
        "a\x01"
        "b\x02");
  CHECK_FALSE(command.ext.get("n"));
  CHECK(command.ext.get("x") == "1.5");
  CHECK(command.remark == "");
  CHECK(decode_json("{\"language\":9}").language == LanguageCode::kGo);
  CHECK(decode_json("{\"language\":\"COBOL\"}").language == LanguageCode::kOther);
  CHECK(decode_json("{\"extFields\":null,\"remark\":null}").ext.empty());
  CHECK(decode_json("{\"code\":\"34\"}").code == 34);
  CHECK(decode_json("{}").code == 0);
}

TEST_CASE("every code and text comes back from both serializations") {
  for (auto type : {SerializeType::kJson, SerializeType::kRocketMq}) {
    Command command;
    command.serialize = type;
    command.code = 11;
    command.opaque = -5;
    command.remark = "蓝 \xF0\x9F\x98\x80 \"quoted\" \\ \x7F";
    command.ext.set("properties", "KEYS\x01k\x02");
    command.ext.set("long", std::string(100'000, 'x'));
    command.ext.set("n", int64_t{-9'000'000'000});
    command.ext.set("yes", true);
    command.body = SharedBytes::from("body");
    command.body_tail.push_back(SharedBytes::from(" and tail"));
    auto again = decode(encode_frame_to_string(command).substr(4));
    REQUIRE(again);
    CHECK(again->code == 11);
    CHECK(again->opaque == -5);
    CHECK(again->remark == command.remark);
    CHECK(again->ext.size() == 4);
    CHECK(again->ext.get("properties") == command.ext.get("properties"));
    CHECK(again->ext.get("long") == command.ext.get("long"));
    CHECK(again->ext.get_int<int64_t>("n") == -9'000'000'000);
    CHECK(again->ext.get_bool("yes") == true);
    CHECK(again->body.bytes == "body and tail");
  }
}

TEST_CASE("POP codes survive the sixteen bits of the binary header") {
  for (int32_t code : {200050, 200051, 200052, 200053, 200054, 200055, 200056, 200151, 11, 310}) {
    auto command = Command::request(static_cast<RequestCode>(code));
    command.serialize = SerializeType::kRocketMq;
    CHECK(decode(encode_frame_to_string(command).substr(4))->code == code);
  }
}

TEST_CASE("a later value of a name replaces the earlier one") {
  ExtFields ext;
  ext.set("a", "1");
  ext.set("b", "2");
  ext.set("a", *ext.get("b"));
  CHECK(ext.size() == 2);
  CHECK(ext.get("a") == "2");
  CHECK(ext.get_int<int32_t>("none") == std::nullopt);
  ext.set("bad", "12x");
  CHECK(ext.get_int<int32_t>("bad") == std::nullopt);
  ext.set("TRUE", "TrUe");
  CHECK(ext.get_bool("TRUE") == true);
}

TEST_CASE("frames that cannot be are refused by the field") {
  auto refused = [](std::string frame, const char* word) {
    auto command = decode(std::move(frame));
    REQUIRE_FALSE(command);
    CHECK(command.error().code == Errc::kCorrupt);
    INFO(command.error().message);
    CHECK(command.error().message.find(word) != std::string::npos);
  };
  refused("", "shorter");
  refused(std::string(3, '\0'), "shorter");
  refused(std::string("\x00\x00\x00\x05{}", 6), "longer");
  refused(frame_of(2, "{}"), "serialize type");
  refused(frame_of(0, ""), "header");
  refused(frame_of(0, "{"), "header");
  refused(frame_of(0, "[]"), "header");
  refused(frame_of(0, "{}{}"), "header");
  refused(frame_of(0, "{\"code\":true}"), "code");
  refused(frame_of(0, "{\"opaque\":99999999999}"), "opaque");
  refused(frame_of(0, "{\"extFields\":[]}"), "extFields");
  refused(frame_of(0, "{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}"), "header");
  refused(frame_of(1, std::string(10, '\0')), "fixed part");
  auto fixed = std::string(13, '\0');
  refused(frame_of(1, fixed + "\x7F\xFF\xFF\xFF" + std::string(4, '\0')), "remark");
  refused(frame_of(1, fixed + std::string(4, '\0') + "\xFF\xFF\xFF\xFF"), "extFields");
  refused(frame_of(1, fixed + std::string("\0\0\0\0\0\0\0\3\0\5a", 11)), "extField");
  std::string many = "{\"extFields\":{";
  for (int i = 0; i < 2000; ++i) many += "\"" + std::to_string(i) + "\":1,";
  refused(frame_of(0, many + "}}"), "too many");
}

TEST_CASE("languages and response codes have their names") {
  for (int i = 0; i < 14; ++i) {
    auto language = static_cast<LanguageCode>(i);
    CHECK(language_from_name(to_string(language)) == language);
  }
  CHECK(std::string(to_string(LanguageCode::kNodeJs)) == "NODE_JS");
  CHECK(std::string(response_code_name(17)) == "TOPIC_NOT_EXIST");
  CHECK(std::string(response_code_name(-7)) == "UNKNOWN");
}
