#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tao/pegtl.hpp>
#include <utility>

#include "broker/filter/java_numbers.h"
#include "broker/filter/sql_expression.h"

namespace apogee::broker {

namespace pegtl = tao::pegtl;

/// What the grammar's actions build: operands are put on a stack, operators take them from it. Throws parse_error,
/// which does not leave this file.
class SqlBuilder {
 public:
  using Kind = SqlExpression::Kind;
  using Node = SqlExpression::Node;

  SqlBuilder() : expression_(std::make_shared<SqlExpression>()) {}

  template <typename Input>
  void enter(const Input& in) {
    if (++depth_ > kSqlDepthMax) too_deep(in.position());
  }
  void leave() { --depth_; }

  void begin_unary() { prefix_marks_.push_back(prefixes_.size()); }
  template <typename Input>
  void prefix(char sign, const Input& in) {
    if (sign == '+') return;
    prefixes_.emplace_back(sign, in.position());
    if (prefixes_.size() > kSqlDepthMax) too_deep(in.position());
  }
  void end_unary() {
    while (prefixes_.size() > prefix_marks_.back()) {
      auto [sign, position] = std::move(prefixes_.back());
      prefixes_.pop_back();
      if (sign == 'N') as_condition(position);
      combine(sign == 'N' ? Kind::kNot : Kind::kNegate, 1, position);
    }
    prefix_marks_.pop_back();
  }

  void text(std::string_view quoted) {
    text_.clear();
    for (size_t i = 1; i + 1 < quoted.size(); ++i) {
      if (quoted[i] == '\'') ++i;
      text_ += quoted[i];
    }
  }
  void word() { words_.push_back(text_); }

  void property(std::string name) {
    Node node;
    node.kind = Kind::kProperty;
    node.text = std::move(name);
    push(std::move(node));
  }
  void text_constant() { push_constant(text_); }
  template <typename Constant>
  void push_constant(Constant value) {
    Node node;
    node.constant = std::move(value);
    push(std::move(node));
  }
  template <typename Input>
  void integer(const Input& in) {
    std::string digits = in.string();
    if (digits.back() == 'l' || digits.back() == 'L') digits.pop_back();
    const auto value = java_integer<int64_t>(digits);
    if (!value) fail("the number does not fit into 64 bits", in.position());
    if (*value <= std::numeric_limits<int32_t>::max()) return push_constant(static_cast<int32_t>(*value));
    push_constant(*value);
  }
  template <typename Input>
  void real(const Input& in) {
    const auto value = java_double(in.string_view());
    if (!value || std::isinf(*value)) fail("the number is too great", in.position());
    if (*value < std::numeric_limits<double>::denorm_min())
      fail("the number is too small: a number with a point or an exponent must be greater than 0", in.position());
    push_constant(*value);
  }

  void logic(Kind kind, const pegtl::position& position) {
    const uint32_t right = take_condition(position);
    const uint32_t left = take_condition(position);
    Node& first = node(left);
    if (first.kind != kind) {
      Node both;
      both.kind = kind;
      both.parts = {left, right};
      return push(std::move(both), position);
    }
    first.parts.push_back(right);
    first.height = std::max(first.height, node(right).height + 1);
    check_height(first.height, position);
    stack_.push_back(left);
  }
  void order(Kind kind, const pegtl::position& position) {
    for (const uint32_t side : {stack_[stack_.size() - 2], stack_.back()}) check_ordered(side, position);
    combine(kind, 2, position);
  }
  void equal(bool negated, const pegtl::position& position) {
    const Node &left = node(stack_[stack_.size() - 2]), &right = node(stack_.back());
    if (is_null(left) || is_null(right)) fail("NULL cannot be compared; IS NULL asks for it", position);
    if (std::holds_alternative<bool>(left.constant) && right.kind == Kind::kConstant &&
        !std::holds_alternative<bool>(right.constant))
      fail("TRUE or FALSE cannot be compared with a number or a text", position);
    combine(Kind::kEqual, 2, position);
    if (negated) combine(Kind::kNot, 1, position);
  }
  void is_null(bool negated, const pegtl::position& position) {
    combine(Kind::kIsNull, 1, position);
    if (negated) combine(Kind::kNot, 1, position);
  }
  void between(bool negated, const pegtl::position& position) {
    const uint32_t high = take(), low = take(), value = take();
    if (!negated) check_limits(node(low), node(high), position);
    auto one_side = [&](Kind kind, uint32_t limit) {
      stack_.push_back(value);
      stack_.push_back(limit);
      order(kind, position);
    };
    one_side(negated ? Kind::kLess : Kind::kGreaterEqual, low);
    one_side(negated ? Kind::kGreater : Kind::kLessEqual, high);
    // Not logic(): an AND in front must not swallow the two sides.
    combine(negated ? Kind::kOr : Kind::kAnd, 2, position);
  }
  void in_list(bool negated, const pegtl::position& position) {
    if (node(stack_.back()).kind != Kind::kProperty) fail("only a property can be IN a list", position);
    Node in;
    in.kind = negated ? Kind::kNotIn : Kind::kIn;
    in.parts = {take()};
    in.words = std::exchange(words_, {});
    std::sort(in.words.begin(), in.words.end());
    push(std::move(in), position);
  }
  void text_test(Kind kind, const pegtl::position& position) {
    Node test;
    test.kind = kind;
    test.text = text_;
    test.parts = {take()};
    push(std::move(test), position);
  }

  std::shared_ptr<const SqlExpression> finish(const pegtl::position& begin) {
    expression_->root_ = take_condition(begin);
    return std::move(expression_);
  }

 private:
  [[noreturn]] static void fail(const char* why, const pegtl::position& at) { throw pegtl::parse_error(why, at); }
  [[noreturn]] static void too_deep(const pegtl::position& at) {
    throw pegtl::parse_error("nested deeper than " + std::to_string(kSqlDepthMax) + " levels", at);
  }
  static void check_height(size_t height, const pegtl::position& at) {
    if (height > 2 * kSqlDepthMax) too_deep(at);
  }

  [[nodiscard]] Node& node(uint32_t at) { return expression_->nodes_[at]; }
  [[nodiscard]] static bool is_null(const Node& node) {
    return node.kind == Kind::kConstant && std::holds_alternative<std::monostate>(node.constant);
  }
  [[nodiscard]] static bool is_number(const Node& node) {
    return std::holds_alternative<int32_t>(node.constant) || std::holds_alternative<int64_t>(node.constant) ||
           std::holds_alternative<double>(node.constant);
  }
  [[nodiscard]] static bool is_condition(const Node& node) {
    if (node.kind == Kind::kConstant) return is_null(node) || std::holds_alternative<bool>(node.constant);
    return node.kind != Kind::kProperty && node.kind != Kind::kNegate;
  }

  void push(Node node) {
    expression_->nodes_.push_back(std::move(node));
    stack_.push_back(static_cast<uint32_t>(expression_->nodes_.size() - 1));
  }
  void push(Node made, const pegtl::position& at) {
    for (const uint32_t part : made.parts) made.height = std::max(made.height, node(part).height + 1);
    check_height(made.height, at);
    push(std::move(made));
  }
  uint32_t take() {
    const uint32_t top = stack_.back();
    stack_.pop_back();
    return top;
  }
  void combine(Kind kind, size_t count, const pegtl::position& at) {
    Node made;
    made.kind = kind;
    made.parts.assign(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    push(std::move(made), at);
  }
  /// Makes a condition of what is on top: a property alone is one, too.
  void as_condition(const pegtl::position& at) {
    const Node& top = node(stack_.back());
    if (is_condition(top)) return;
    if (top.kind != Kind::kProperty) fail("a number or a text is no condition", at);
    combine(Kind::kCast, 1, at);
  }
  uint32_t take_condition(const pegtl::position& at) {
    as_condition(at);
    return take();
  }
  void check_ordered(uint32_t side, const pegtl::position& at) {
    const Node& operand = node(side);
    if (is_condition(operand)) fail("a condition, TRUE, FALSE or NULL has no order: = and <> only", at);
    if (operand.kind == Kind::kConstant && !is_number(operand)) fail("a text has no order: = and <> only", at);
  }
  static void check_limits(const Node& low, const Node& high, const pegtl::position& at) {
    if (low.kind != Kind::kConstant || high.kind != Kind::kConstant) return;
    if (is_null(low) || is_null(high)) fail("the limits of BETWEEN cannot be NULL", at);
    if (!is_number(low) || !is_number(high)) return;  // is refused as a comparison
    auto value = [](const Node& node) {
      return std::visit(
          [](const auto& number) -> long double {
            if constexpr (std::is_arithmetic_v<std::decay_t<decltype(number)>>) {
              return number;
            } else {
              return 0;
            }
          },
          node.constant);
    };
    if (value(low) > value(high)) fail("the lower limit of BETWEEN is above the upper one", at);
  }

  std::shared_ptr<SqlExpression> expression_;
  std::vector<uint32_t> stack_;
  std::vector<std::pair<char, pegtl::position>> prefixes_;  // of the operands that are being read
  std::vector<size_t> prefix_marks_;
  std::string text_;
  std::vector<std::string> words_;
  size_t depth_ = 0;
};

namespace {

using pegtl::not_at;
using pegtl::one;
using pegtl::opt;
using pegtl::plus;
using pegtl::seq;
using pegtl::sor;
using pegtl::star;

// Rules are named like those of PEGTL, whose names stand between them.
// NOLINTBEGIN(readability-identifier-naming)
// clang-format off
struct line_comment : seq<pegtl::string<'-', '-'>, star<pegtl::not_one<'\n', '\r'>>> {};
struct comment_end : pegtl::until<pegtl::string<'*', '/'>> {};
struct block_comment : pegtl::if_must<pegtl::string<'/', '*'>, comment_end> {};
struct gap : star<sor<one<' ', '\t', '\n', '\r', '\f'>, line_comment, block_comment>> {};

struct name_first : sor<pegtl::alpha, one<'_', '$'>> {};
struct name_other : sor<name_first, pegtl::digit> {};
template <typename Letters> struct word : seq<Letters, not_at<name_other>, gap> {};

struct w_or : word<TAO_PEGTL_ISTRING("OR")> {};
struct w_and : word<TAO_PEGTL_ISTRING("AND")> {};
struct w_not : word<TAO_PEGTL_ISTRING("NOT")> {};
struct w_between : word<TAO_PEGTL_ISTRING("BETWEEN")> {};
struct w_in : word<TAO_PEGTL_ISTRING("IN")> {};
struct w_is : word<TAO_PEGTL_ISTRING("IS")> {};
struct w_null : word<TAO_PEGTL_ISTRING("NULL")> {};
struct w_true : word<TAO_PEGTL_ISTRING("TRUE")> {};
struct w_false : word<TAO_PEGTL_ISTRING("FALSE")> {};
struct w_contains : word<TAO_PEGTL_ISTRING("CONTAINS")> {};
struct w_starts_with : word<TAO_PEGTL_ISTRING("STARTSWITH")> {};
struct w_ends_with : word<TAO_PEGTL_ISTRING("ENDSWITH")> {};
struct reserved : sor<w_or, w_and, w_not, w_between, w_in, w_is, w_null, w_true, w_false, w_contains, w_starts_with,
                      w_ends_with> {};

struct name : seq<not_at<reserved>, name_first, star<name_other>> {};
struct exponent : seq<one<'e', 'E'>, opt<one<'+', '-'>>, plus<pegtl::digit>> {};
struct real : sor<seq<plus<pegtl::digit>, one<'.'>, star<pegtl::digit>, opt<exponent>>,
                  seq<one<'.'>, plus<pegtl::digit>, opt<exponent>>,
                  seq<plus<pegtl::digit>, exponent>> {};
struct integer : sor<one<'0'>, seq<pegtl::range<'1', '9'>, star<pegtl::digit>, opt<one<'l', 'L'>>>> {};
struct closing_quote : one<'\''> {};
struct quoted : pegtl::if_must<one<'\''>, star<sor<pegtl::string<'\'', '\''>, pegtl::not_one<'\''>>>, closing_quote> {};

struct true_literal : seq<w_true> {};
struct false_literal : seq<w_false> {};
struct null_literal : seq<w_null> {};
struct text_literal : seq<quoted, gap> {};

struct or_expression;
struct opening : seq<one<'('>, gap> {};
struct closing : seq<one<')'>, gap> {};
struct operand : sor<true_literal, false_literal, null_literal, seq<name, gap>, seq<real, gap>, seq<integer, gap>,
                     text_literal, pegtl::if_must<opening, or_expression, closing>> {};

struct plus_sign : seq<one<'+'>, gap> {};
struct minus_sign : seq<one<'-'>, gap> {};
struct not_sign : seq<w_not> {};
struct unary_begin : pegtl::success {};
struct unary_end : pegtl::success {};
struct unary : seq<unary_begin, star<sor<plus_sign, minus_sign, not_sign>>, pegtl::must<operand>, unary_end> {};

struct greater_equal_sign : seq<pegtl::string<'>', '='>, gap> {};
struct greater_sign : seq<one<'>'>, gap> {};
struct less_equal_sign : seq<pegtl::string<'<', '='>, gap> {};
struct less_sign : seq<one<'<'>, not_at<one<'>'>>, gap> {};
struct greater_equal : pegtl::if_must<greater_equal_sign, unary> {};
struct greater : pegtl::if_must<greater_sign, unary> {};
struct less_equal : pegtl::if_must<less_equal_sign, unary> {};
struct less : pegtl::if_must<less_sign, unary> {};

struct text_wanted : seq<quoted, gap> {};
struct between_and : w_and {};
template <bool Not> struct between : pegtl::if_must<w_between, unary, between_and, unary> {};
template <bool Not> struct contains : pegtl::if_must<w_contains, text_wanted> {};
template <bool Not> struct starts_with : pegtl::if_must<w_starts_with, text_wanted> {};
template <bool Not> struct ends_with : pegtl::if_must<w_ends_with, text_wanted> {};
struct list_item : seq<quoted, gap> {};
struct list_opening : seq<one<'('>, gap> {};
struct list_closing : seq<one<')'>, gap> {};
struct list_comma : seq<one<','>, gap> {};
template <bool Not> struct in_list : pegtl::if_must<w_in, list_opening, list_item,
                                                    star<pegtl::if_must<list_comma, list_item>>, list_closing> {};
template <bool Not> struct word_test : sor<between<Not>, in_list<Not>, contains<Not>, starts_with<Not>,
                                           ends_with<Not>> {};
struct negated_test : word_test<true> {};

struct comparison : seq<unary, star<sor<greater_equal, greater, less_equal, less, word_test<false>,
                                        pegtl::if_must<w_not, negated_test>>>> {};
struct equal_sign : seq<one<'='>, gap> {};
struct unequal_sign : seq<pegtl::string<'<', '>'>, gap> {};
struct equal : pegtl::if_must<equal_sign, comparison> {};
struct unequal : pegtl::if_must<unequal_sign, comparison> {};
struct null_wanted : w_null {};
struct is_not_null : pegtl::if_must<seq<w_is, w_not>, null_wanted> {};
struct is_null : pegtl::if_must<w_is, null_wanted> {};
struct equality : seq<comparison, star<sor<equal, unequal, is_not_null, is_null>>> {};
struct and_part : pegtl::if_must<w_and, equality> {};
struct and_expression : seq<equality, star<and_part>> {};
struct or_part : pegtl::if_must<w_or, and_expression> {};
struct or_expression : seq<and_expression, star<or_part>> {};
struct end : pegtl::eof {};
struct selector : pegtl::must<gap, or_expression, end> {};
// clang-format on
// NOLINTEND(readability-identifier-naming)

template <typename Rule>
inline constexpr const char* kMessage = nullptr;
template <>
inline constexpr const char* kMessage<comment_end> = "the comment has no end";
template <>
inline constexpr const char* kMessage<closing_quote> = "the text has no closing quote";
template <>
inline constexpr const char* kMessage<operand> = "a property, a literal or ( is wanted";
template <>
inline constexpr const char* kMessage<closing> = "AND, OR, an operator or ) is wanted";
template <>
inline constexpr const char* kMessage<text_wanted> = "a text in quotes is wanted";
template <>
inline constexpr const char* kMessage<list_item> = "a text in quotes is wanted";
template <>
inline constexpr const char* kMessage<list_opening> = "( is wanted";
template <>
inline constexpr const char* kMessage<list_closing> = ", or ) is wanted";
template <>
inline constexpr const char* kMessage<between_and> = "AND is wanted";
template <>
inline constexpr const char* kMessage<negated_test> = "BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH is wanted";
template <>
inline constexpr const char* kMessage<null_wanted> = "NULL or NOT NULL is wanted";
template <>
inline constexpr const char* kMessage<end> = "AND, OR, an operator or the end is wanted";

struct Errors {
  template <typename Rule>
  static constexpr const char* message = kMessage<Rule>;
  template <typename Rule>
  static constexpr bool raise_on_failure = false;
};
template <typename Rule>
using Control = pegtl::must_if<Errors, pegtl::normal, false>::control<Rule>;

using Kind = SqlBuilder::Kind;

template <typename Rule>
struct Action {};

// NOLINTBEGIN(bugprone-macro-parentheses)
#define APOGEE_SQL_ACTION(rule, ...) \
  template <> \
  struct Action<rule> { \
    template <typename Input> \
    static void apply([[maybe_unused]] const Input& in, SqlBuilder& build) { \
      __VA_ARGS__; \
    } \
  }

APOGEE_SQL_ACTION(name, build.property(in.string()));
APOGEE_SQL_ACTION(real, build.real(in));
APOGEE_SQL_ACTION(integer, build.integer(in));
APOGEE_SQL_ACTION(quoted, build.text(in.string_view()));
APOGEE_SQL_ACTION(true_literal, build.push_constant(true));
APOGEE_SQL_ACTION(false_literal, build.push_constant(false));
APOGEE_SQL_ACTION(null_literal, build.push_constant(std::monostate{}));
APOGEE_SQL_ACTION(text_literal, build.text_constant());
APOGEE_SQL_ACTION(opening, build.enter(in));
APOGEE_SQL_ACTION(closing, build.leave());
APOGEE_SQL_ACTION(unary_begin, build.begin_unary());
APOGEE_SQL_ACTION(unary_end, build.end_unary());
APOGEE_SQL_ACTION(minus_sign, build.prefix('-', in));
APOGEE_SQL_ACTION(not_sign, build.prefix('N', in));
APOGEE_SQL_ACTION(greater_equal, build.order(Kind::kGreaterEqual, in.position()));
APOGEE_SQL_ACTION(greater, build.order(Kind::kGreater, in.position()));
APOGEE_SQL_ACTION(less_equal, build.order(Kind::kLessEqual, in.position()));
APOGEE_SQL_ACTION(less, build.order(Kind::kLess, in.position()));
APOGEE_SQL_ACTION(between<false>, build.between(false, in.position()));
APOGEE_SQL_ACTION(between<true>, build.between(true, in.position()));
APOGEE_SQL_ACTION(contains<false>, build.text_test(Kind::kContains, in.position()));
APOGEE_SQL_ACTION(contains<true>, build.text_test(Kind::kNotContains, in.position()));
APOGEE_SQL_ACTION(starts_with<false>, build.text_test(Kind::kStartsWith, in.position()));
APOGEE_SQL_ACTION(starts_with<true>, build.text_test(Kind::kNotStartsWith, in.position()));
APOGEE_SQL_ACTION(ends_with<false>, build.text_test(Kind::kEndsWith, in.position()));
APOGEE_SQL_ACTION(ends_with<true>, build.text_test(Kind::kNotEndsWith, in.position()));
APOGEE_SQL_ACTION(list_item, build.word());
APOGEE_SQL_ACTION(in_list<false>, build.in_list(false, in.position()));
APOGEE_SQL_ACTION(in_list<true>, build.in_list(true, in.position()));
APOGEE_SQL_ACTION(equal, build.equal(false, in.position()));
APOGEE_SQL_ACTION(unequal, build.equal(true, in.position()));
APOGEE_SQL_ACTION(is_null, build.is_null(false, in.position()));
APOGEE_SQL_ACTION(is_not_null, build.is_null(true, in.position()));
APOGEE_SQL_ACTION(and_part, build.logic(Kind::kAnd, in.position()));
APOGEE_SQL_ACTION(or_part, build.logic(Kind::kOr, in.position()));
#undef APOGEE_SQL_ACTION
// NOLINTEND(bugprone-macro-parentheses)

/// What stands at a place of the text, for an error: a few characters that can be printed.
std::string found_at(std::string_view text, size_t at) {
  constexpr size_t kShownMax = 16;
  if (at >= text.size()) return ", but the expression ends";
  std::string shown;
  for (const char c : text.substr(at, kShownMax)) {
    if (c < ' ' || c > '~') break;
    shown += c;
  }
  return shown.empty() ? std::string() : ", near " + shown;
}

}  // namespace

Result<std::shared_ptr<const SqlExpression>> SqlExpression::compile(std::string_view text) {
  if (text.size() > kSqlBytesMax)
    return Error{Errc::kInvalidArgument, "the expression has " + std::to_string(text.size()) + " bytes, " +
                                             std::to_string(kSqlBytesMax) + " are allowed"};
  pegtl::memory_input<> in(text.data(), text.data() + text.size(), "");
  const pegtl::position begin = in.position();
  try {
    SqlBuilder builder;
    pegtl::parse<selector, Action, Control>(in, builder);
    return builder.finish(begin);
  } catch (const pegtl::parse_error& error) {
    const auto& at = error.positions().front();
    return Error{Errc::kInvalidArgument, "line " + std::to_string(at.line) + ", column " + std::to_string(at.column) +
                                             ": " + std::string(error.message()) + found_at(text, at.byte)};
  }
}

}  // namespace apogee::broker
