#include "broker/replication/master_log.h"

#include <charconv>
#include <optional>
#include <string>

#include "common/remoting/bodies/kv_bodies.h"

namespace apogee::broker {

Result<store::MasterLog> master_log_in(const remoting::Command& answer) {
  if (answer.code != remoting::response_code::kSuccess)
    return Error{Errc::kIo, "the master's runtime info: answer " + std::to_string(answer.code)};
  APOGEE_TRY_ASSIGN(const auto info, remoting::decode_kv_table(answer.body.bytes));
  const auto number = [&info](const char* key) -> std::optional<store::LogOffset> {
    const auto found = info.table.find(key);
    if (found == info.table.end()) return std::nullopt;
    const auto& text = found->second;
    store::LogOffset value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
  };
  const auto begin = number("commitLogMinOffset"), end = number("commitLogMaxOffset");
  if (!begin || !end) return Error{Errc::kCorrupt, "the master's runtime info says nothing of its log"};
  return store::MasterLog{*begin, *end};
}

}  // namespace apogee::broker
