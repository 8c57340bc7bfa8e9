#include "broker/filter/sql_expression.h"

#include <chrono>
#include <iostream>
#include <map>

#include "broker/filter/java_numbers.h"
#include "common/message/properties.h"
#include "test/support/catch.h"

using namespace apogee;
using broker::SqlExpression;
using broker::SqlTruth;

namespace {

using Properties = std::map<std::string, std::string>;

std::string text_of(const Properties& properties) {
  std::string text;
  for (const auto& [name, value] : properties) message::append_property(text, name, value);
  return text;
}

char truth_of(const std::string& sql, const Properties& properties) {
  auto compiled = SqlExpression::compile(sql);
  if (!compiled) {
    UNSCOPED_INFO(compiled.error().message);
    return '!';
  }
  switch ((*compiled)->evaluate(text_of(properties))) {
    case SqlTruth::kFalse: return 'F';
    case SqlTruth::kTrue: return 'T';
    case SqlTruth::kUnknown: return 'U';
    case SqlTruth::kError: return 'E';
  }
  return '?';
}

std::string error_of(const std::string& sql) {
  auto compiled = SqlExpression::compile(sql);
  return compiled ? "compiled" : compiled.error().message;
}

struct Row {
  const char* sql;
  char truth;  // T F U(nknown) E(rror at evaluation) ! (does not compile)
};

const Properties kMessage = {{"a", "5"},    {"b", "Hangzhou"},     {"f", "2.5"},     {"neg", "-7"},
                             {"t", "true"}, {"big", "5000000000"}, {"TAGS", "TagA"}, {"quote", "it's"},
                             {"$x_1", "1"}, {"zero", "-0.0"}};

}  // namespace

TEST_CASE("An expression says of a message what it says in RocketMQ", "[filter]") {
  const Row rows[] = {
      // Numbers: the text is converted to the literal's type.
      {"a = 5", 'T'},
      {"a <> 5", 'F'},
      {"a > 4", 'T'},
      {"a >= 5 and a <= 5", 'T'},
      {"a < 5", 'F'},
      {"a = 5L", 'T'},
      {"a > 4.5", 'T'},
      {"a = 5.0", 'T'},
      {"a = .5E1", 'T'},
      {"a = 5.", 'T'},
      {"a = 50e-1", 'T'},
      {"5 = a", 'T'},
      {"4 < a", 'T'},
      {"neg = -7", 'T'},
      {"neg < - 6", 'T'},
      {"neg = +-7", 'T'},
      {"neg = - -7", 'F'},
      {"f > 2", 'E'},  // 2.5 is no int
      {"f > 2.0", 'T'},
      {"f = 2.5", 'T'},
      {"big > 5", 'E'},  // 5000000000 is no int
      {"big > 4000000000", 'T'},
      {"big = 5000000000", 'T'},
      {"a < 3000000000", 'T'},
      {"zero < 0.1", 'T'},
      {"b > 5", 'E'},
      {"b = 5", 'E'},
      {"b <> 5", 'E'},
      {"1 = 1", 'T'},
      {"1 = 1.0", 'T'},
      {"2147483648 > 2147483647", 'T'},
      // Texts.
      {"b = 'Hangzhou'", 'T'},
      {"b = 'hangzhou'", 'F'},
      {"b <> 'Beijing'", 'T'},
      {"a = '5'", 'T'},
      {"a = '5.0'", 'F'},
      {"quote = 'it''s'", 'T'},
      {"TAGS = 'TagA'", 'T'},
      {"tags = 'TagA'", 'U'},
      {"$x_1 = 1", 'T'},
      {"a > neg", 'T'},  // two properties: both as double
      {"f < a", 'T'},
      {"a > b", 'E'},
      {"a = neg", 'F'},
      {"a = a", 'T'},
      {"-b = 5", 'U'},
      {"-'x' IS NULL", 'T'},
      // Truths.
      {"TRUE", 'T'},
      {"false", 'F'},
      {"NULL", 'U'},
      {"t = TRUE", 'T'},
      {"t = false", 'F'},
      {"b = false", 'T'},
      {"TRUE = t", 'E'},
      {"TRUE = TRUE", 'T'},
      {"1 = TRUE", 'F'},
      {"(a > 1) = TRUE", 'T'},
      {"(a > 1) = (a > 9)", 'F'},
      {"t", 'F'},
      {"NOT t", 'T'},
      {"missing", 'U'},
      {"NOT missing", 'U'},
      {"t OR a = 5", 'T'},
      // NOT binds tighter than a comparison.
      {"NOT a = 5", 'F'},
      {"NOT (a = 5)", 'F'},
      {"NOT (a = 6)", 'T'},
      {"NOT NOT (a = 5)", 'T'},
      // BETWEEN.
      {"a BETWEEN 1 AND 5", 'T'},
      {"a between 6 and 7", 'F'},
      {"a NOT BETWEEN 1 AND 5", 'F'},
      {"a NOT BETWEEN 6 AND 7", 'T'},
      {"neg BETWEEN -9 AND -7", 'T'},
      {"f BETWEEN 2.0 AND 3", 'E'},
      {"a BETWEEN neg AND a", 'T'},
      {"missing BETWEEN 1 AND 2", 'U'},
      {"missing NOT BETWEEN 1 AND 2", 'U'},
      {"a BETWEEN 1 AND 5 AND b = 'Hangzhou'", 'T'},
      {"b = 'Hangzhou' AND a BETWEEN 6 AND 9", 'F'},
      {"a BETWEEN missing AND 9", 'U'},
      // IN.
      {"b IN ('Beijing', 'Hangzhou')", 'T'},
      {"b IN ('Beijing')", 'F'},
      {"b NOT IN ('Beijing')", 'T'},
      {"b not in ('Hangzhou','x','y','z','0','9')", 'F'},
      {"a IN ('5')", 'T'},
      {"(a) IN ('5')", 'T'},
      {"missing IN ('5')", 'U'},
      {"missing NOT IN ('5')", 'U'},
      // NULL.
      {"missing IS NULL", 'T'},
      {"missing IS NOT NULL", 'F'},
      {"a IS NULL", 'F'},
      {"a is not null", 'T'},
      {"NULL IS NULL", 'T'},
      {"missing = 5", 'U'},
      {"missing <> 5", 'U'},
      {"5 = missing", 'F'},
      {"5 <> missing", 'T'},
      {"missing = gone", 'T'},
      {"missing > 5", 'U'},
      {"5 > missing", 'U'},
      {"missing <> 'x'", 'U'},
      // Three-valued logic; errors end it unless it was decided before.
      {"missing = 1 OR a = 5", 'T'},
      {"missing = 1 OR a = 6", 'U'},
      {"missing = 1 AND a = 5", 'U'},
      {"missing = 1 AND a = 6", 'F'},
      {"NOT (missing = 1)", 'U'},
      {"b > 1 OR a = 5", 'E'},
      {"a = 5 OR b > 1", 'T'},
      {"b > 1 AND a = 6", 'E'},
      {"a = 6 AND b > 1", 'F'},
      {"NOT (b > 1)", 'E'},
      {"a = 6 OR a = 5 AND b = 'Hangzhou'", 'T'},
      {"(a = 5 OR a = 6) AND b = 'x'", 'F'},
      {"a = 5 OR a = 6 AND b = 'x'", 'T'},
      {"a = 1 OR a = 2 OR a = 3 OR a = 5", 'T'},
      // Parts of texts.
      {"b CONTAINS 'ngz'", 'T'},
      {"b contains 'x'", 'F'},
      {"b NOT CONTAINS 'x'", 'T'},
      {"b NOT CONTAINS 'ngz'", 'F'},
      {"b STARTSWITH 'Hang'", 'T'},
      {"b STARTSWITH 'zhou'", 'F'},
      {"b NOT STARTSWITH 'zhou'", 'T'},
      {"b startswith 'Hangzhou and more'", 'F'},
      {"b ENDSWITH 'zhou'", 'T'},
      {"b NOT ENDSWITH 'Hang'", 'T'},
      {"b endswith 'Hang'", 'F'},
      {"missing CONTAINS 'x'", 'F'},
      {"missing NOT CONTAINS 'x'", 'F'},
      {"missing NOT STARTSWITH 'x'", 'F'},
      {"missing NOT ENDSWITH 'x'", 'F'},
      {"b CONTAINS ''", 'F'},
      {"b NOT CONTAINS ''", 'F'},
      {"5 CONTAINS '5'", 'F'},
      // Blanks and comments.
      {" a\t=\r\n5 ", 'T'},
      {"a /* the number */ = 5", 'T'},
      {"/***/a/* * / */=5", 'T'},
      {"a = 5 -- and that is all", 'T'},
      {"-- first\na = 5", 'T'},
      {"a=5AND b='Hangzhou'", 'T'},
      {"nothing = 5", 'U'},
      {"NOT(a=6)", 'T'},
      {"order = 5", 'U'},
      {"in_ = 5", 'U'},
  };
  for (const auto& row : rows) {
    INFO(row.sql);
    CHECK(std::string(1, truth_of(row.sql, kMessage)) == std::string(1, row.truth));
  }
}

TEST_CASE("What RocketMQ does not compile is refused with the place and the reason", "[filter]") {
  const std::pair<const char*, const char*> rows[] = {
      {"", "line 1, column 1: a property, a literal or ( is wanted, but the expression ends"},
      {"a >", "line 1, column 4: a property, a literal or ( is wanted, but the expression ends"},
      {"a > AND b", "line 1, column 5: a property, a literal or ( is wanted, near AND b"},
      {"a = 5 b", "line 1, column 7: AND, OR, an operator or the end is wanted, near b"},
      {"a = 5;", "line 1, column 6: AND, OR, an operator or the end is wanted, near ;"},
      {"a = 007", "line 1, column 6: AND, OR, an operator or the end is wanted, near 07"},
      {"a == 5", "line 1, column 4: a property, a literal or ( is wanted, near = 5"},
      {"(a = 5", "line 1, column 7: AND, OR, an operator or ) is wanted, but the expression ends"},
      {"a = 'x", "line 1, column 7: the text has no closing quote, but the expression ends"},
      {"a = 5 /* x", "line 1, column 11: the comment has no end, but the expression ends"},
      {"a\n  IN (5)", "line 2, column 7: a text in quotes is wanted, near 5)"},
      {"a IN 'x'", "line 1, column 6: ( is wanted, near 'x'"},
      {"a IN ('x'", "line 1, column 10: , or ) is wanted, but the expression ends"},
      {"a IN ('x',)", "line 1, column 11: a text in quotes is wanted, near )"},
      {"a IN ()", "line 1, column 7: a text in quotes is wanted, near )"},
      {"5 IN ('5')", "line 1, column 3: only a property can be IN a list, near IN ('5')"},
      {"NOT a IN ('x')", "line 1, column 7: only a property can be IN a list, near IN ('x')"},
      {"a NOT 5", "line 1, column 7: BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH is wanted, near 5"},
      {"a IS 5", "line 1, column 6: NULL or NOT NULL is wanted, near 5"},
      {"a IS NOT 5", "line 1, column 10: NULL or NOT NULL is wanted, near 5"},
      {"a BETWEEN 1 OR 2", "line 1, column 13: AND is wanted, near OR 2"},
      {"a BETWEEN 2 AND 1",
       "line 1, column 3: the lower limit of BETWEEN is above the upper one, near BETWEEN 2 AND 1"},
      {"a BETWEEN NULL AND 1", "line 1, column 3: the limits of BETWEEN cannot be NULL, near BETWEEN NULL AND"},
      {"a NOT BETWEEN NULL AND 1",
       "line 1, column 7: a condition, TRUE, FALSE or NULL has no order: = and <> only, near BETWEEN NULL AND"},
      {"a BETWEEN 'a' AND 'b'", "line 1, column 3: a text has no order: = and <> only, near BETWEEN 'a' AND "},
      {"a > 'b'", "line 1, column 3: a text has no order: = and <> only, near > 'b'"},
      {"a < TRUE", "line 1, column 3: a condition, TRUE, FALSE or NULL has no order: = and <> only, near < TRUE"},
      {"a > 1 > 2", "line 1, column 7: a condition, TRUE, FALSE or NULL has no order: = and <> only, near > 2"},
      {"NOT a > 1", "line 1, column 7: a condition, TRUE, FALSE or NULL has no order: = and <> only, near > 1"},
      {"a = NULL", "line 1, column 3: NULL cannot be compared; IS NULL asks for it, near = NULL"},
      {"a <> NULL", "line 1, column 3: NULL cannot be compared; IS NULL asks for it, near <> NULL"},
      {"TRUE = 1", "line 1, column 6: TRUE or FALSE cannot be compared with a number or a text, near = 1"},
      {"5", "line 1, column 1: a number or a text is no condition, near 5"},
      {"'x'", "line 1, column 1: a number or a text is no condition, near 'x'"},
      {"-a", "line 1, column 1: a number or a text is no condition, near -a"},
      {"NOT 5", "line 1, column 1: a number or a text is no condition, near NOT 5"},
      {"a = 5 AND 7", "line 1, column 7: a number or a text is no condition, near AND 7"},
      {"a = 0.0",
       "line 1, column 5: the number is too small: a number with a point or an exponent must be greater than 0, near "
       "0.0"},
      {"a = 1e-400",
       "line 1, column 5: the number is too small: a number with a point or an exponent must be greater than 0, near "
       "1e-400"},
      {"a = 1e400", "line 1, column 5: the number is too great, near 1e400"},
      {"a = 9223372036854775808", "line 1, column 5: the number does not fit into 64 bits, near 9223372036854775"},
      {"a LIKE 'x'", "line 1, column 3: AND, OR, an operator or the end is wanted, near LIKE 'x'"},
      {"a + 1 > 2", "line 1, column 3: AND, OR, an operator or the end is wanted, near + 1 > 2"},
      {"a CONTAINS b", "line 1, column 12: a text in quotes is wanted, near b"},
      {"a = \"x\"", "line 1, column 5: a property, a literal or ( is wanted, near \"x\""},
      {"a = 5 AND", "line 1, column 10: a property, a literal or ( is wanted, but the expression ends"},
      {"\xe4\xbd\xa0 = 5", "line 1, column 1: a property, a literal or ( is wanted"},
  };
  for (const auto& [sql, error] : rows) CHECK(error_of(sql) == error);
}

TEST_CASE("An expression that is too long or too deep is refused, and one just below is not", "[filter]") {
  auto nested = [](size_t depth) { return std::string(depth, '(') + "a = 5" + std::string(depth, ')'); };
  CHECK(truth_of(nested(broker::kSqlDepthMax), kMessage) == 'T');
  CHECK(error_of(nested(1'000)) == "line 1, column 129: nested deeper than 128 levels, near ((((((((((((((((");
  std::string nots, signs = "a = ", chain = "a = 5";
  for (int i = 0; i < 1'000; ++i) {
    nots += "NOT ";
    signs += "- ";
    chain += " = TRUE";
  }
  CHECK(error_of(nots + "a").find("nested deeper than 128 levels") != std::string::npos);
  CHECK(error_of(signs + "5").find("nested deeper than 128 levels") != std::string::npos);
  CHECK(error_of(chain).find("nested deeper than 128 levels") != std::string::npos);
  CHECK(error_of("a = '" + std::string(64 * 1024, 'x') + "'") == "the expression has 65542 bytes, 32768 are allowed");

  // Many terms are no depth.
  std::string terms = "a = 0";
  while (terms.size() + 16 < broker::kSqlBytesMax) terms += " OR a = 1";
  CHECK(truth_of(terms, kMessage) == 'F');
  CHECK(truth_of(terms + " OR a = 5", kMessage) == 'T');
  std::string list = "b IN ('x'";
  while (list.size() + 32 < broker::kSqlBytesMax) list += ",'" + std::to_string(list.size()) + "'";
  CHECK(truth_of(list + ",'Hangzhou')", kMessage) == 'T');
}

TEST_CASE("Numbers in texts are read as Java reads them", "[filter]") {
  CHECK(broker::java_integer<int32_t>("+5") == 5);
  CHECK(broker::java_integer<int32_t>("-2147483648") == INT32_MIN);
  CHECK_FALSE(broker::java_integer<int32_t>("2147483648"));
  for (const char* text : {"", "+", "-", "+-5", " 5", "5 ", "5.0", "0x5", "5L"})
    CHECK_FALSE(broker::java_integer<int64_t>(text));
  const std::pair<const char*, double> doubles[] = {{"5", 5},
                                                    {" 5.5 ", 5.5},
                                                    {"-.5", -0.5},
                                                    {"5.", 5},
                                                    {"1e3", 1000},
                                                    {"5d", 5},
                                                    {"5F", 5},
                                                    {"0x1p3", 8},
                                                    {"+1", 1},
                                                    {"1e-999", 0},
                                                    {"-Infinity", -HUGE_VAL},
                                                    {"1e999", HUGE_VAL}};
  for (const auto& [text, value] : doubles) {
    INFO(text);
    REQUIRE(broker::java_double(text));
    CHECK(*broker::java_double(text) == value);
  }
  REQUIRE(broker::java_double("NaN"));
  for (const char* text : {"", ".", "abc", "inf", "nan", "infinity", "+-1", "--1", "1e", "0x1", "1,5", "d", "5 5"}) {
    INFO(text);
    CHECK_FALSE(broker::java_double(text));
  }
}

TEST_CASE("How fast expressions are compiled and evaluated, printed", "[filter]") {
  const std::string sql = "(region IN ('cn','eu') OR level >= 3) AND amount BETWEEN 100 AND 5000 AND kind IS NOT NULL";
  const std::string properties = text_of({{"KEYS", "order-1"},
                                          {"TAGS", "TagA"},
                                          {"UNIQ_KEY", "7F0000010000000000000000000000AB"},
                                          {"amount", "4200"},
                                          {"kind", "web"},
                                          {"level", "2"},
                                          {"region", "eu"}});
  using Clock = std::chrono::steady_clock;
  auto per_second = [](int count, Clock::time_point begin) {
    return static_cast<int64_t>(count / std::chrono::duration<double>(Clock::now() - begin).count());
  };
  constexpr int kCompiles = 500, kEvaluations = 20'000;
  auto begin = Clock::now();
  std::shared_ptr<const SqlExpression> expression;
  for (int i = 0; i < kCompiles; ++i) {
    auto compiled = SqlExpression::compile(sql);
    REQUIRE(compiled);
    expression = *compiled;
  }
  const auto compiles = per_second(kCompiles, begin);
  begin = Clock::now();
  int matches = 0;
  for (int i = 0; i < kEvaluations; ++i) matches += expression->matches(properties) ? 1 : 0;
  CHECK(matches == kEvaluations);
  std::cout << "SQL filter: " << compiles << " compiles and " << per_second(kEvaluations, begin)
            << " evaluations a second on one thread\n";
}
