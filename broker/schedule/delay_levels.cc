#include "broker/schedule/delay_levels.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "common/base/text.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee::broker {

namespace property = message::property;
namespace sys_flag = message::sys_flag;

namespace {

constexpr size_t kLevelsMax = 1'000;
constexpr int64_t kDelayMsMax = 3'650LL * 86'400'000;

int64_t unit_ms(char unit) {
  switch (unit) {
    case 's': return 1'000;
    case 'm': return 60'000;
    case 'h': return 3'600'000;
    case 'd': return 86'400'000;
    default: return 0;
  }
}

}  // namespace

Result<std::vector<int64_t>> parse_delay_levels(std::string_view text) {
  std::vector<int64_t> levels;
  for (auto word : split(text, " ")) {
    word = trim(word);
    if (word.empty()) continue;
    const int64_t unit = unit_ms(word.back());
    const char* last = word.data() + word.size() - 1;
    int64_t count = -1;
    auto [end, error] = std::from_chars(word.data(), last, count);
    if (unit == 0 || error != std::errc() || end != last || count < 0 || count > kDelayMsMax / unit)
      return Error{Errc::kInvalidArgument, "\"" + std::string(word) +
                                               "\" is no delay: a whole number with one of the units s, m, h, d is "
                                               "wanted, at most 3650d"};
    levels.push_back(count * unit);
  }
  if (levels.empty()) return Error{Errc::kInvalidArgument, "there is no level in it; \"1s 5s 10s\" would be three"};
  if (levels.size() > kLevelsMax)
    return Error{Errc::kInvalidArgument, "it has more than " + std::to_string(kLevelsMax) + " levels"};
  return levels;
}

Result<int32_t> delay_level_of(std::string_view properties) {
  auto text = message::find_property(properties, property::kDelayLevel);
  if (!text) return 0;
  int32_t level = -1;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), level);
  if (error != std::errc() || end != text->data() + text->size() || level < 0)
    return Error{Errc::kInvalidArgument,
                 "its delay level (DELAY) \"" + to_valid_utf8(text->substr(0, 32)) + "\" is no whole number from 0 on"};
  return level;
}

PutRule delay_rule(size_t levels) {
  return [levels](const store::MessageDraft& draft) -> Result<std::optional<ParkedAt>> {
    const int32_t type = draft.sys_flag & sys_flag::kTransactionMask;
    if (type != sys_flag::kTransactionNot && type != sys_flag::kTransactionCommit) return std::optional<ParkedAt>();
    auto wanted = delay_level_of(draft.properties);
    if (!wanted) return std::move(wanted).error();
    if (*wanted == 0) return std::optional<ParkedAt>();
    const auto level = static_cast<int32_t>(std::min(static_cast<size_t>(*wanted), levels));
    ParkedAt parked = park(draft, kScheduleTopic, level - 1);
    if (level != *wanted) message::set_property(parked.properties, property::kDelayLevel, std::to_string(level));
    // A level comes before a time.
    for (auto name : {property::kTimerDelaySec, property::kTimerDelayMs, property::kTimerDeliverMs})
      if (message::find_property(parked.properties, name)) message::remove_property(parked.properties, name);
    return std::optional<ParkedAt>(std::move(parked));
  };
}

}  // namespace apogee::broker
