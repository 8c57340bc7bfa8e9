#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "apogee/result.h"

namespace apogee::broker {

/// Longer SQL is refused.
inline constexpr size_t kSqlBytesMax = 32 * 1024;
/// Parentheses, signs, NOTs and comparisons of comparisons may be nested so deep.
inline constexpr size_t kSqlDepthMax = 128;

/// What an SQL92 filter says of a message. kError: a value could not be compared (text that is no number with a
/// number); it ends the evaluation wherever it occurs, unless AND or OR was decided before. Only kTrue is a match.
enum class SqlTruth : uint8_t { kFalse, kTrue, kUnknown, kError };

/// A compiled SQL92 filter, with the types, conversions and three-valued logic of RocketMQ. Immutable; thread: any.
class SqlExpression {
 public:
  /// Error: kInvalidArgument, "line 1, column 7: ...".
  [[nodiscard]] static Result<std::shared_ptr<const SqlExpression>> compile(std::string_view text);

  /// `properties` as in a record: name 0x01 value 0x02 ...
  [[nodiscard]] SqlTruth evaluate(std::string_view properties) const;
  [[nodiscard]] bool matches(std::string_view properties) const { return evaluate(properties) == SqlTruth::kTrue; }

 private:
  friend class SqlBuilder;

  /// A value at evaluation. int32_t and int64_t are apart because text is converted to the type of the other side.
  struct Null {};
  struct Failed {};
  using Value = std::variant<Null, Failed, bool, int32_t, int64_t, double, std::string_view>;

  enum class Kind : uint8_t {
    kConstant,
    kProperty,
    kCast,  ///< a property where a condition is wanted
    kNot,
    kNegate,
    kAnd,
    kOr,
    kEqual,
    kIsNull,
    kGreater,
    kGreaterEqual,
    kLess,
    kLessEqual,
    kIn,
    kNotIn,
    kContains,
    kNotContains,
    kStartsWith,
    kNotStartsWith,
    kEndsWith,
    kNotEndsWith,
  };
  struct Node {
    Kind kind = Kind::kConstant;
    size_t height = 1;                                                                   ///< levels of evaluation
    std::vector<uint32_t> parts;                                                         ///< nodes
    std::variant<std::monostate, bool, int32_t, int64_t, double, std::string> constant;  ///< monostate: NULL
    std::string text;                ///< name of a property; what is looked for
    std::vector<std::string> words;  ///< of IN, ascending
  };

  [[nodiscard]] Value value_of(uint32_t node, std::string_view properties) const;
  [[nodiscard]] Value all_or_any(const Node& node, std::string_view properties) const;
  [[nodiscard]] Value equal(const Node& node, std::string_view properties) const;
  [[nodiscard]] Value ordered(const Node& node, std::string_view properties) const;
  [[nodiscard]] Value text_test(const Node& node, std::string_view properties) const;
  [[nodiscard]] static Value test(Kind kind, int answer);

  std::vector<Node> nodes_;
  uint32_t root_ = 0;
};

}  // namespace apogee::broker
