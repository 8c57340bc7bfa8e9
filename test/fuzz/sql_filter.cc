#include <string>

#include "broker/filter/sql_expression.h"
#include "common/base/check.h"
#include "common/message/properties.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using broker::SqlExpression;

int fuzz::sql_filter(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  auto compiled = SqlExpression::compile(text);
  if (!compiled) {
    // Nobody is left without the reason.
    APOGEE_CHECK(compiled.error().code == Errc::kInvalidArgument && !compiled.error().message.empty());
    return 0;
  }
  std::string properties;
  for (const auto& [name, value] : {std::pair{"a", "5"}, {"b", "x"}, {"TAGS", "TagA"}, {"c", "2.5"}, {"t", "true"}})
    message::append_property(properties, name, value);
  for (const std::string& some : {properties, std::string(), text}) {
    const auto truth = (*compiled)->evaluate(some);
    // Parentheses change nothing; a line keeps a comment from swallowing the last one.
    auto again = SqlExpression::compile("(" + text + "\n)");
    if (!again) continue;  // one level too deep, or too long
    APOGEE_CHECK((*again)->evaluate(some) == truth);
  }
  return 0;
}
