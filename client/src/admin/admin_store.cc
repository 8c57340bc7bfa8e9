#include "client/src/admin/admin_impl.h"
#include "common/remoting/bodies/stats_bodies.h"

// What is on a broker's disk.
namespace apogee {

using remoting::Command;
using remoting::RequestCode;

Status AdminClient::clean_expired_queues(const std::string& broker_address) {
  APOGEE_TRY(impl_->call(broker_address, Command::request(RequestCode::kCleanExpiredConsumequeue)));
  return {};
}

Status AdminClient::clean_unused_topics(const std::string& broker_address) {
  APOGEE_TRY(impl_->call(broker_address, Command::request(RequestCode::kCleanUnusedTopic)));
  return {};
}

Status AdminClient::delete_expired_log_files(const std::string& broker_address) {
  APOGEE_TRY(impl_->call(broker_address, Command::request(RequestCode::kDeleteExpiredCommitlog)));
  return {};
}

Result<admin::QueueEntries> AdminClient::queue_entries(const std::string& broker_address,
                                                       const admin::QueueEntriesRequest& asked) {
  auto request = Command::request(RequestCode::kQueryConsumeQueue);
  request.ext.set("topic", asked.topic);
  request.ext.set("queueId", asked.queue_id);
  request.ext.set("index", asked.offset);
  request.ext.set("count", asked.count);
  if (!asked.group.empty()) request.ext.set("consumerGroup", asked.group);
  APOGEE_TRY_ASSIGN(auto answer, impl_->call(broker_address, std::move(request)));
  APOGEE_TRY_ASSIGN(auto body,
                    admin::decode_body(broker_address, answer, remoting::decode_query_consume_queue_response));
  admin::QueueEntries entries;
  entries.min_offset = body.min_queue_index;
  entries.max_offset = body.max_queue_index;
  if (body.filter_data != "null") entries.filter = body.filter_data;
  if (const auto& data = body.subscription_data) {
    entries.subscription = admin::Subscription{data->topic, data->sub_string, data->expression_type, data->sub_version};
  }
  for (const auto& each : body.queue_data) {
    entries.entries.push_back({each.physic_offset, each.physic_size, each.tags_code, each.eval, each.msg});
  }
  return entries;
}

}  // namespace apogee
