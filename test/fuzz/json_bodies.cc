#include "common/base/check.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/bodies/group_bodies.h"
#include "common/remoting/bodies/kv_bodies.h"
#include "common/remoting/bodies/register_broker_body.h"
#include "common/remoting/bodies/route_bodies.h"
#include "common/remoting/bodies/stats_bodies.h"
#include "test/fuzz/targets.h"

using namespace apogee;
using namespace apogee::remoting;

namespace {

/// What was decoded once is decoded again from what is written for it, to the same text.
template <typename T>
void through(Result<T> (*decode)(std::string_view), std::string_view text) {
  auto body = decode(text);
  if (!body) {
    // An error says what is wrong.
    APOGEE_CHECK(!body.error().message.empty());
    return;
  }
  auto once = encode(*body);
  auto again = decode(once);
  // An encoded body decodes to itself.
  APOGEE_CHECK(again.has_value() && encode(*again) == once);
}

}  // namespace

int fuzz::json_bodies(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  through(decode_heartbeat_data, text);
  through(decode_lock_batch_request, text);
  through(decode_reset_offset_body, text);
  through(decode_topic_route_data, text);
  through(decode_cluster_info, text);
  through(decode_topic_config_serialize_wrapper, text);
  through(decode_register_broker_body, text);
  through(decode_subscription_group_wrapper, text);
  through(decode_consumer_offset_serialize_wrapper, text);
  through(decode_consumer_running_info, text);
  through(decode_consume_stats_list, text);
  through(decode_check_client_request, text);
  through(decode_kv_table, text);
  return 0;
}
