#include "common/base/text.h"

#include "common/base/crc32.h"
#include "common/base/hash.h"
#include "common/base/hex.h"
#include "test/support/catch.h"

using namespace apogee;

TEST_CASE("java_string_hash is Java's String.hashCode") {
  CHECK(java_string_hash("") == 0);
  CHECK(java_string_hash("TagA") == 2598919);
  CHECK(java_string_hash("TagB") == 2598920);
  CHECK(java_string_hash("hello world") == 1794106052);
  CHECK(java_string_hash("polygenelubricants") == INT32_MIN);
  CHECK(java_string_hash("蓝") == 0x84DD);
  CHECK(java_string_hash("订单") == 0x8BA2 * 31 + 0x5355);
  CHECK(java_string_hash("\xF0\x9F\x98\x80") == 0xD83D * 31 + 0xDE00);
  CHECK(java_string_hash("é") == 0xE9);
  CHECK(java_string_hash("\xFF") == 0xFFFD);
  CHECK(java_string_hash("\xE4\xB8") == 0xFFFD * 31 + 0xFFFD);
}

TEST_CASE("is_utf8") {
  CHECK(is_utf8("plain 蓝 \xF0\x9F\x98\x80 \xEF\xBF\xBD"));
  for (const char* bad : {"\xFF", "\xC0\x80", "\xE4\xB8", "\xED\xA0\x80", "\xF5\x80\x80\x80", "a\x80"})
    CHECK_FALSE(is_utf8(bad));
}

TEST_CASE("to_valid_utf8 replaces what is none") {
  CHECK(to_valid_utf8("a蓝\xFF"
                      "b\xE4\xB8") ==
        "a蓝\xEF\xBF\xBD"
        "b\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("crc32 is the one of zlib") {
  CHECK(crc32("123456789") == 0xCBF43926U);
  CHECK(crc32("") == 0);
  CHECK(crc32("6789", crc32("12345")) == crc32("123456789"));
  CHECK(crc32_31("123456789") == 0x4BF43926);
}

TEST_CASE("hex goes both ways") {
  CHECK(to_hex(std::string_view("\x00\x7F\xFF", 3)) == "007FFF");
  CHECK(from_hex("007fFF") == std::string("\x00\x7F\xFF", 3));
  CHECK_FALSE(from_hex("0"));
  CHECK_FALSE(from_hex("0G"));
}

TEST_CASE("split, trim and comparing") {
  CHECK(split("a||b||", "||") == std::vector<std::string_view>{"a", "b", ""});
  CHECK(split("", ";") == std::vector<std::string_view>{""});
  CHECK(trim(" \t a b \r\n") == "a b");
  CHECK(trim("  ").empty());
  CHECK(equals_ignore_case("TrUe", "true"));
  CHECK_FALSE(equals_ignore_case("true", "tru"));
}

TEST_CASE("names of topics and groups") {
  CHECK(check_topic_name("Topic-1_%|x"));
  CHECK(check_topic_name(std::string(127, 'a')));
  CHECK(check_topic_name("%RETRY%" + std::string(248, 'a')));
  CHECK(check_group_name(std::string(120, 'g')));
  for (const std::string& bad : {std::string(), std::string("  "), std::string("a b"), std::string("a.b"),
                                 std::string("主题"), std::string("a\0b", 3), std::string(128, 'a')}) {
    auto status = check_topic_name(bad);
    REQUIRE_FALSE(status);
    CHECK(status.error().code == Errc::kInvalidArgument);
    CHECK(status.error().message.find("topic") != std::string::npos);
  }
  CHECK_FALSE(check_topic_name("%DLQ%" + std::string(251, 'a')));
  CHECK_FALSE(check_group_name(std::string(121, 'g')));
  CHECK(retry_topic_of("G") == "%RETRY%G");
  CHECK(is_retry_topic("%RETRY%G"));
  CHECK(is_dlq_topic(dlq_topic_of("G")));
  CHECK_FALSE(is_retry_topic("%RETRY"));
}
