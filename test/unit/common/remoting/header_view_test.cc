#include "common/remoting/header_view.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "common/base/bytes.h"
#include "common/remoting/command_codec.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::remoting;

namespace {

std::string frame_of(const std::string& header, const std::string& body = "") {
  std::string frame;
  append_be<uint32_t>(frame, static_cast<uint32_t>(header.size()));
  return frame + header + body;
}

/// What the scanner makes of a frame, where it reads it at all, is what the general reader makes of it.
bool check_same(const std::string& frame) {
  const auto word = load_be<uint32_t>(frame.data());
  HeaderView view;
  if (word >> 24 != 0 || !scan_header(std::string_view(frame).substr(4, word & 0xFFFFFF), view)) return false;
  const SharedBytes bytes = SharedBytes::from(frame);
  const auto quick = decode_scanned(view, bytes);
  if (!quick) return false;
  const auto slow = decode_frame(bytes);
  REQUIRE(slow);
  CHECK(quick->code == slow->code);
  CHECK(quick->flag == slow->flag);
  CHECK(quick->opaque == slow->opaque);
  CHECK(quick->version == slow->version);
  CHECK(quick->language == slow->language);
  CHECK(quick->remark == slow->remark);
  CHECK(quick->body.bytes == slow->body.bytes);
  REQUIRE(quick->ext.size() == slow->ext.size());
  for (size_t i = 0; i < slow->ext.size(); ++i) {
    CHECK(quick->ext.name(i) == slow->ext.name(i));
    CHECK(quick->ext.value(i) == slow->ext.value(i));
  }
  return true;
}

}  // namespace

TEST_CASE("a scanned header is the decoded one", "[header_view]") {
  int scanned = 0, all = 0;
  for (const auto& file :
       std::filesystem::directory_iterator(std::string(APOGEE_SOURCE_DIR) + "/test/compat/remoting/frames/json")) {
    std::ifstream in(file.path(), std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(in), {}};
    if (bytes.size() < 8 || file.path().extension() != ".bin") continue;
    INFO(file.path().filename().string());
    ++all;
    if (check_same(bytes.substr(4))) ++scanned;
  }
  CHECK(all > 20);
  CHECK(scanned * 10 > all * 8);  // the scanner reads what clients write

  for (
      const char* header :
      {R"({"code":310,"extFields":{"a":"x","n":null,"i":"A\u0001b\u0002\\\"\n/","t":true,"num":-5},"flag":2,"opaque":-7})",
       R"({"code":1,"extFields":{"a":"1","a":"2"},"language":"JAVA","remark":"it \"is\"","version":3})",
       R"({"code":1,"language":7,"opaque":2})", R"({"code":2147483647,"opaque":1234567890,"version":0009})",
       R"({"extFields":{},"code":12})", R"({"code":1,"remark":null})"}) {
    INFO(header);
    CHECK(check_same(frame_of(header, "body")));
  }
}

TEST_CASE("texts of every length are scanned to their end", "[header_view]") {
  for (size_t before = 0; before < 20; ++before) {
    for (size_t behind = 0; behind < 20; ++behind) {
      const std::string value = std::string(before, 'x') + "\\\"\\\\" + std::string(behind, '!') + "#]";
      const std::string header =
          R"({"code":1,"extFields":{"a":")" + value + R"(","b":")" + std::string(before, ']') + R"("},"opaque":2})";
      HeaderView view;
      REQUIRE(scan_header(header, view));
      REQUIRE(view.field_count == 2);
      CHECK(view.fields[0].value == value);
      CHECK(view.fields[0].escaped);
      CHECK(view.fields[1].value == std::string(before, ']'));
      CHECK_FALSE(view.fields[1].escaped);
      CHECK(check_same(frame_of(header)));
      for (size_t cut = 0; cut < header.size(); ++cut)
        if (scan_header(std::string_view(header).substr(0, cut), view)) FAIL("half a header was read");
    }
  }
}

TEST_CASE("a scanned binary header is the decoded one, and no part of it is one", "[header_view]") {
  Command request;
  request.serialize = SerializeType::kRocketMq;
  request.code = 310;
  request.version = 435;
  request.opaque = -7;
  request.flag = kOnewayFlag;
  request.ext.set("a", "x");
  request.ext.set("i", std::string_view("A\x01\\\"\0\x02", 6));
  request.ext.set("empty", "");
  const std::string header = encode_header(request);
  HeaderView view;
  REQUIRE(scan_binary_header(header, view));
  CHECK(view.binary);
  CHECK(view.code == 310);
  CHECK(view.version == 435);
  CHECK(view.opaque == -7);
  CHECK(view.flag == kOnewayFlag);
  REQUIRE(view.field_count == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(view.fields[i].name == request.ext.name(i));
    CHECK(view.fields[i].value == request.ext.value(i));
    CHECK_FALSE(view.fields[i].escaped);
  }
  for (size_t cut = 0; cut < header.size(); ++cut) CHECK_FALSE(scan_binary_header(header.substr(0, cut), view));
  for (size_t at = 13; at < header.size(); ++at) {
    std::string wild = header;
    wild[at] = '\xff';
    (void)scan_binary_header(wild, view);  // lengths that lie lead nowhere
  }
  REQUIRE(scan_header(R"({"code":1})", view));
  CHECK_FALSE(view.binary);
}

TEST_CASE("unusual headers are left to the general reader", "[header_view]") {
  HeaderView view;
  std::string many = R"({"code":1,"extFields":{)";
  for (int i = 0; i < 40; ++i) many += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":\"x\"";
  for (const std::string& header : {std::string(""),
                                    std::string("{"),
                                    std::string("{}"),
                                    std::string("[]"),
                                    std::string("{ \"code\":1}"),
                                    std::string("{\"code\":1} "),
                                    std::string("{code:1}"),
                                    std::string("{'code':1}"),
                                    std::string("{\"code\":1,}"),
                                    std::string("{\"code\":99999999999}"),
                                    std::string("{\"code\":2147483648}"),
                                    std::string("{\"code\":1.5}"),
                                    std::string("{\"code\":\"x\"}"),
                                    std::string("{\"a\\u0041\":1}"),
                                    std::string("{\"extFields\":{\"a\":{}}}"),
                                    std::string("{\"extFields\":null}"),
                                    std::string("{\"extFields\":{\"a\":\"b\"},\"extFields\":{}}"),
                                    std::string("{\"code\":1,\"remark\":\"\\"),
                                    std::string("{\"code\":1,\"remark\":\"x"),
                                    std::string("{\"code\":truex}"),
                                    many + "}}"}) {
    INFO(header);
    CHECK_FALSE(scan_header(header, view));
  }
  std::string text;
  for (const char* value : {"\\", "\\u00", "\\u0", "\\ud83d\\ude00", "\\u00e4", "\\x41", "\\u00zz"}) {
    INFO(value);
    CHECK_FALSE(unescape(value, text));
  }
}
