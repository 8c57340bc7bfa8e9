#include "broker/filter/sql_expression.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <type_traits>

#include "broker/filter/java_numbers.h"
#include "common/base/text.h"
#include "common/message/properties.h"

namespace apogee::broker {

namespace {

/// What two values that cannot be compared give in RocketMQ: the left one is less, whatever it is.
constexpr int kIncomparable = -1;

template <typename T>
int order(T a, T b) {
  return a < b ? -1 : (a > b ? 1 : 0);
}

/// Order of doubles in Java: NaN above everything and equal to itself, -0.0 below 0.0.
int order(double a, double b) {
  if (a < b) return -1;
  if (a > b) return 1;
  if (std::isnan(a) || std::isnan(b)) return order<int>(std::isnan(a) ? 1 : 0, std::isnan(b) ? 1 : 0);
  return order<int>(std::signbit(a) ? 0 : 1, std::signbit(b) ? 0 : 1);
}

template <typename Number>
std::optional<Number> number_of(std::string_view text) {
  if constexpr (std::is_same_v<Number, double>) {
    return java_double(text);
  } else {
    return java_integer<Number>(text);
  }
}

/// nullopt: the text is no number of this kind, which is an error.
struct Compare {
  std::optional<int> operator()(std::string_view a, std::string_view b) const { return order<int>(a.compare(b), 0); }
  std::optional<int> operator()(bool a, bool b) const { return order<int>(a ? 1 : 0, b ? 1 : 0); }
  std::optional<int> operator()(std::string_view a, bool b) const { return (*this)(equals_ignore_case(a, "true"), b); }
  // RocketMQ fails here, too.
  std::optional<int> operator()(bool, std::string_view) const { return std::nullopt; }

  template <typename A, typename B>
  std::optional<int> operator()(const A& a, const B& b) const {
    constexpr bool kNumberA = std::is_arithmetic_v<A> && !std::is_same_v<A, bool>;
    constexpr bool kNumberB = std::is_arithmetic_v<B> && !std::is_same_v<B, bool>;
    if constexpr (kNumberA && kNumberB) {
      if constexpr (std::is_same_v<A, double> || std::is_same_v<B, double>) {
        return order(static_cast<double>(a), static_cast<double>(b));
      } else {
        return order<int64_t>(a, b);
      }
    } else if constexpr (kNumberA && std::is_same_v<B, std::string_view>) {
      const auto number = number_of<A>(b);
      return number ? std::optional<int>(order(a, *number)) : std::nullopt;
    } else if constexpr (kNumberB && std::is_same_v<A, std::string_view>) {
      const auto number = number_of<B>(a);
      return number ? std::optional<int>(order(*number, b)) : std::nullopt;
    } else {
      return kIncomparable;
    }
  }
};

}  // namespace

SqlExpression::Value SqlExpression::test(Kind kind, int answer) {
  switch (kind) {
    case Kind::kGreater: return answer > 0;
    case Kind::kGreaterEqual: return answer >= 0;
    case Kind::kLess: return answer < 0;
    case Kind::kLessEqual: return answer <= 0;
    default: return answer == 0;
  }
}

// AND is decided by the first false, OR by the first true; what comes behind is not looked at.
SqlExpression::Value SqlExpression::all_or_any(const Node& node, std::string_view properties) const {
  const bool deciding = node.kind == Kind::kOr;
  bool unknown = false;
  for (const uint32_t part : node.parts) {
    Value value = value_of(part, properties);
    if (std::holds_alternative<Failed>(value)) return value;
    const bool* truth = std::get_if<bool>(&value);
    if (truth == nullptr) {
      unknown = true;
    } else if (*truth == deciding) {
      return deciding;
    }
  }
  if (unknown) return Null{};
  return !deciding;
}

SqlExpression::Value SqlExpression::equal(const Node& node, std::string_view properties) const {
  const Value left = value_of(node.parts[0], properties);
  if (std::holds_alternative<Failed>(left)) return left;
  const Value right = node.kind == Kind::kIsNull ? Value(Null{}) : value_of(node.parts[1], properties);
  if (std::holds_alternative<Failed>(right)) return right;
  const bool left_null = std::holds_alternative<Null>(left), right_null = std::holds_alternative<Null>(right);
  if (left_null && right_null) return true;
  if (left_null) return Null{};
  if (right_null) return false;
  const auto answer = std::visit(Compare(), left, right);
  return answer ? test(Kind::kEqual, *answer) : Value(Failed{});
}

SqlExpression::Value SqlExpression::ordered(const Node& node, std::string_view properties) const {
  const Value left = value_of(node.parts[0], properties);
  if (left.index() <= 1) return left;  // Null, Failed
  const Value right = value_of(node.parts[1], properties);
  if (right.index() <= 1) return right;
  std::optional<int> answer;
  const auto *left_text = std::get_if<std::string_view>(&left), *right_text = std::get_if<std::string_view>(&right);
  if (left_text != nullptr && right_text != nullptr) {
    const auto a = java_double(*left_text), b = java_double(*right_text);
    if (a && b) answer = order(*a, *b);
  } else {
    answer = std::visit(Compare(), left, right);
  }
  return answer ? test(node.kind, *answer) : Value(Failed{});
}

SqlExpression::Value SqlExpression::text_test(const Node& node, std::string_view properties) const {
  const Value value = value_of(node.parts[0], properties);
  if (std::holds_alternative<Failed>(value)) return value;
  const auto* text = std::get_if<std::string_view>(&value);
  if (node.kind == Kind::kIn || node.kind == Kind::kNotIn) {
    if (text == nullptr) return Null{};
    return std::binary_search(node.words.begin(), node.words.end(), *text, std::less<>()) == (node.kind == Kind::kIn);
  }
  if (text == nullptr || text->empty() || node.text.empty()) return false;
  const std::string_view wanted = node.text;
  switch (node.kind) {
    case Kind::kContains: return text->find(wanted) != std::string_view::npos;
    case Kind::kNotContains: return text->find(wanted) == std::string_view::npos;
    case Kind::kStartsWith: return text->substr(0, wanted.size()) == wanted;
    case Kind::kNotStartsWith: return text->substr(0, wanted.size()) != wanted;
    default: break;
  }
  const bool ends = text->size() >= wanted.size() && text->substr(text->size() - wanted.size()) == wanted;
  return ends == (node.kind == Kind::kEndsWith);
}

SqlExpression::Value SqlExpression::value_of(uint32_t at, std::string_view properties) const {
  const Node& node = nodes_[at];
  switch (node.kind) {
    case Kind::kConstant:
      return std::visit(
          [](const auto& constant) -> Value {
            using T = std::decay_t<decltype(constant)>;
            if constexpr (std::is_same_v<T, std::monostate>) {
              return Null{};
            } else if constexpr (std::is_same_v<T, std::string>) {
              return std::string_view(constant);
            } else {
              return constant;
            }
          },
          node.constant);
    case Kind::kProperty: {
      const auto value = message::find_property(properties, node.text);
      return value ? Value(*value) : Value(Null{});
    }
    case Kind::kCast:
      // Properties are texts, and no text is a truth.
      if (message::find_property(properties, nodes_[node.parts[0]].text)) return false;
      return Null{};
    case Kind::kNot: {
      Value value = value_of(node.parts[0], properties);
      if (const bool* truth = std::get_if<bool>(&value)) return !*truth;
      return value;
    }
    case Kind::kNegate: {
      Value value = value_of(node.parts[0], properties);
      if (auto* number = std::get_if<int32_t>(&value)) return static_cast<int32_t>(0U - static_cast<uint32_t>(*number));
      if (auto* number = std::get_if<int64_t>(&value)) return static_cast<int64_t>(0U - static_cast<uint64_t>(*number));
      if (auto* number = std::get_if<double>(&value)) return -*number;
      return std::holds_alternative<Failed>(value) ? value : Value(Null{});
    }
    case Kind::kAnd:
    case Kind::kOr: return all_or_any(node, properties);
    case Kind::kEqual:
    case Kind::kIsNull: return equal(node, properties);
    case Kind::kGreater:
    case Kind::kGreaterEqual:
    case Kind::kLess:
    case Kind::kLessEqual: return ordered(node, properties);
    default: return text_test(node, properties);
  }
}

SqlTruth SqlExpression::evaluate(std::string_view properties) const {
  const Value value = value_of(root_, properties);
  if (const bool* truth = std::get_if<bool>(&value)) return *truth ? SqlTruth::kTrue : SqlTruth::kFalse;
  return std::holds_alternative<Failed>(value) ? SqlTruth::kError : SqlTruth::kUnknown;
}

}  // namespace apogee::broker
