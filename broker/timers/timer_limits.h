#pragma once

#include <cstdint>

namespace apogee::broker {

/// What timers may do, as the settings are.
struct TimerLimits {
  bool enabled = true;                      ///< timerWheelEnable
  bool compatible_with_49 = false;          ///< storeCompatibility=4.9: such a broker would never deliver them
  int64_t max_delay_ms = 3LL * 86'400'000;  ///< timerMaxDelaySec
};

}  // namespace apogee::broker
