#include "common/config/properties_file.h"

#include "common/base/check.h"
#include "common/config/config_table.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::config;

int fuzz::properties_file(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  // A byte order mark is white space at the beginning of a text and part of a key anywhere else.
  if (text.find("\xEF\xBB\xBF") != std::string_view::npos) return 0;
  auto properties = parse_properties(text);
  if (properties) {
    std::map<std::string, std::string> values;
    for (const auto& property : *properties) values[property.key] = property.value;
    auto again = parse_properties(to_properties_text(values));
    // What is written says the same.
    APOGEE_CHECK(again.has_value() && again->size() == values.size());
    for (const auto& property : *again) APOGEE_CHECK(values.at(property.key) == property.value);
  }
  const std::map<std::string, std::string> set{{"listenPort", "10911"}, {"brokerName", " a=b #"}};
  auto changed = parse_properties(with_properties(text, set));
  if (properties) {
    // The keys that were set have their values, wherever the text left them.
    APOGEE_CHECK(changed.has_value());
    std::map<std::string, std::string> last;
    for (const auto& property : *changed) last[property.key] = property.value;
    for (const auto& [key, value] : set) APOGEE_CHECK(last.at(key) == value);
  }

  int32_t port = 0;
  bool flag = false;
  Tunable<std::string> name{std::string("broker-a")};
  ConfigTable table;
  table.add_int("listenPort", &port, {1, 65535}, "port");
  table.add_bool("flag", &flag, "a flag");
  table.add_string("brokerName", &name, "name");
  auto update = table.update(text);
  // An update with an error changes nothing.
  if (!update) APOGEE_CHECK(name.get() == "broker-a");
  return 0;
}
