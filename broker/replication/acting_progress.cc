#include "broker/replication/acting_progress.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/config/properties_file.h"
#include "common/remoting/bodies/group_bodies.h"

namespace apogee::broker {

namespace {

int64_t number_in(const nlohmann::json& json, const char* name, int64_t other) {
  auto found = json.find(name);
  return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : other;
}

}  // namespace

void ActingProgress::merge(const ActingProgress& other) {
  for (const auto& [level, offset] : other.delay_offsets) {
    auto& mine = delay_offsets[level];
    mine = std::max(mine, offset);
  }
  half_offset = std::max(half_offset, other.half_offset);
  const bool later = other.timers_until_ms != timers_until_ms ? other.timers_until_ms > timers_until_ms
                                                              : other.timer_queue_offset > timer_queue_offset;
  if (!later) return;
  timers_until_ms = other.timers_until_ms;
  timer_queue_offset = other.timer_queue_offset;
}

std::string encode(const ActingProgress& progress) {
  nlohmann::json levels = nlohmann::json::object();
  for (const auto& [level, offset] : progress.delay_offsets) levels[std::to_string(level)] = offset;
  const nlohmann::json json = {{"delayOffsets", levels},
                               {"halfOffset", progress.half_offset},
                               {"timerQueueOffset", progress.timer_queue_offset},
                               {"timersUntilMs", progress.timers_until_ms}};
  return json.dump() + "\n";
}

Result<ActingProgress> decode_acting_progress(std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return Error{Errc::kCorrupt, "the progress of an acting master is no JSON object"};
  ActingProgress progress;
  if (auto levels = json.find("delayOffsets"); levels != json.end() && levels->is_object()) {
    for (const auto& [name, offset] : levels->items()) {
      const int level = std::atoi(name.c_str());
      if (level < 1 || !offset.is_number_integer())
        return Error{Errc::kCorrupt, "the progress of an acting master has a wrong delay level, " + name};
      progress.delay_offsets[level] = offset.get<int64_t>();
    }
  }
  progress.half_offset = number_in(json, "halfOffset", 0);
  progress.timer_queue_offset = number_in(json, "timerQueueOffset", 0);
  progress.timers_until_ms = number_in(json, "timersUntilMs", -1);
  return progress;
}

ActingProgress read_progress_files(const std::string& delay_file, const std::string& timers_file) {
  ActingProgress progress;
  if (auto text = config::read_whole_file(delay_file))
    if (auto table = remoting::decode_delay_offset_table(*text))
      for (const auto& [level, offset] : table->offset_table) progress.delay_offsets[level] = offset;
  if (auto text = config::read_whole_file(timers_file)) {
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (json.is_object()) {
      progress.timer_queue_offset = number_in(json, "queueOffset", 0);
      progress.timers_until_ms = number_in(json, "deliveredUntilMs", -1);
    }
  }
  return progress;
}

Status write_progress_files(const ActingProgress& progress, const std::string& delay_file,
                            const std::string& timers_file) {
  remoting::DelayOffsetTable table;
  for (const auto& [level, offset] : progress.delay_offsets) table.offset_table[level] = offset;
  APOGEE_TRY(config::replace_file(delay_file, encode(table)));
  if (progress.timers_until_ms < 0) return {};
  const nlohmann::json json = {{"queueOffset", progress.timer_queue_offset},
                               {"deliveredUntilMs", progress.timers_until_ms}};
  return config::replace_file(timers_file, json.dump() + "\n");
}

}  // namespace apogee::broker
