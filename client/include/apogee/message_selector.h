#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace apogee {

/// Which messages of a topic a consumer wants.
class MessageSelector {
 public:
  enum class Type : uint8_t { kTags, kSql92 };

  /// "*", or "TagA || TagB".
  static MessageSelector by_tags(std::string tags) { return {Type::kTags, std::move(tags)}; }
  /// SQL92 on message properties (TAGS is one of them), such as "amount BETWEEN 100 AND 200 AND region IN ('cn','eu')".
  /// Evaluated by the broker, which must have enablePropertyFilter=true.
  static MessageSelector by_sql(std::string sql) { return {Type::kSql92, std::move(sql)}; }

  [[nodiscard]] Type type() const { return type_; }
  [[nodiscard]] const std::string& expression() const { return expression_; }

 private:
  MessageSelector(Type type, std::string expression) : type_(type), expression_(std::move(expression)) {}
  Type type_;
  std::string expression_;
};

}  // namespace apogee
