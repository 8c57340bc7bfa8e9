#include "broker/handlers/admin_rows.h"

#include <utility>

namespace apogee::broker {

namespace {

template <typename Handlers>
using Method = void (Handlers::*)(const remoting::Caller&, remoting::Command, remoting::Responder);

template <typename Handlers>
remoting::RequestHandler bind(Handlers& handlers, Method<Handlers> method) {
  return [&handlers, method](const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
    (handlers.*method)(caller, std::move(request), std::move(respond));
  };
}

}  // namespace

void add_rows(RequestTable& table, AdminHandlers handlers) {
  using Code = remoting::RequestCode;
  const auto on_loop = [&table](Code code, auto& family, auto method) {
    table.add(code, RunsOn::kIoLoop, bind(family, method));
  };
  const auto on_readers = [&table](Code code, auto& family, auto method) {
    table.add(code, RunsOn::kReaders, bind(family, method));
  };
  on_loop(Code::kHeartBeat, handlers.client, &ClientHandlers::heartbeat);
  on_loop(Code::kUnregisterClient, handlers.client, &ClientHandlers::unregister_client);
  on_loop(Code::kGetConsumerListByGroup, handlers.client, &ClientHandlers::consumer_list);
  on_loop(Code::kLockBatchMq, handlers.client, &ClientHandlers::lock_batch);
  on_loop(Code::kUnlockBatchMq, handlers.client, &ClientHandlers::unlock_batch);
  on_loop(Code::kCheckClientConfig, handlers.client, &ClientHandlers::check_client_config);
  on_loop(Code::kQueryConsumerOffset, handlers.client_offsets, &ClientOffsetHandlers::query_offset);
  on_loop(Code::kUpdateConsumerOffset, handlers.client_offsets, &ClientOffsetHandlers::update_offset);

  on_readers(Code::kUpdateAndCreateTopic, handlers.topics, &TopicAdminHandlers::update_topic);
  on_readers(Code::kUpdateAndCreateTopicList, handlers.topics, &TopicAdminHandlers::update_topic_list);
  on_readers(Code::kDeleteTopicInBroker, handlers.topics, &TopicAdminHandlers::delete_topic);
  on_readers(Code::kGetAllTopicConfig, handlers.topics, &TopicAdminHandlers::all_topic_config);
  on_readers(Code::kGetTopicConfig, handlers.topics, &TopicAdminHandlers::topic_config);
  on_readers(Code::kGetSystemTopicListFromBroker, handlers.topics, &TopicAdminHandlers::system_topics);

  on_readers(Code::kUpdateAndCreateSubscriptiongroup, handlers.groups, &GroupAdminHandlers::update_group);
  on_readers(Code::kUpdateAndCreateSubscriptiongroupList, handlers.groups, &GroupAdminHandlers::update_group_list);
  on_readers(Code::kDeleteSubscriptiongroup, handlers.groups, &GroupAdminHandlers::delete_group);
  on_readers(Code::kGetAllSubscriptiongroupConfig, handlers.groups, &GroupAdminHandlers::all_group_config);
  on_readers(Code::kGetSubscriptiongroupConfig, handlers.groups, &GroupAdminHandlers::group_config);
  on_readers(Code::kSetMessageRequestMode, handlers.groups, &GroupAdminHandlers::set_request_mode);
  on_readers(Code::kGetAllConsumerOffset, handlers.groups, &GroupAdminHandlers::all_consumer_offset);
  on_readers(Code::kCloneGroupOffset, handlers.groups, &GroupAdminHandlers::clone_offsets);
  on_readers(Code::kGetConsumerConnectionList, handlers.groups, &GroupAdminHandlers::consumer_connections);
  on_readers(Code::kGetProducerConnectionList, handlers.groups, &GroupAdminHandlers::producer_connections);
  on_readers(Code::kGetAllProducerInfo, handlers.groups, &GroupAdminHandlers::all_producers);
  on_readers(Code::kQueryTopicConsumeByWho, handlers.groups, &GroupAdminHandlers::consumed_by);
  on_readers(Code::kQueryTopicsByConsumer, handlers.groups, &GroupAdminHandlers::topics_by_consumer);
  on_readers(Code::kQuerySubscriptionByConsumer, handlers.groups, &GroupAdminHandlers::subscription_by_consumer);

  on_readers(Code::kUpdateBrokerConfig, handlers.config, &ConfigAdminHandlers::update_config);
  on_readers(Code::kGetBrokerConfig, handlers.config, &ConfigAdminHandlers::get_config);

  on_readers(Code::kGetBrokerRuntimeInfo, handlers.stats, &StatsAdminHandlers::runtime_info);
  on_readers(Code::kGetAllDelayOffset, handlers.stats, &StatsAdminHandlers::all_delay_offset);
  on_readers(Code::kGetTopicStatsInfo, handlers.stats, &StatsAdminHandlers::topic_stats);
  on_readers(Code::kGetConsumeStats, handlers.stats, &StatsAdminHandlers::consume_stats);
  on_readers(Code::kGetBrokerConsumeStats, handlers.stats, &StatsAdminHandlers::broker_consume_stats);
  on_readers(Code::kQueryConsumeTimeSpan, handlers.stats, &StatsAdminHandlers::consume_time_span);
  on_readers(Code::kQueryConsumeQueue, handlers.stats, &StatsAdminHandlers::query_consume_queue);
  on_readers(Code::kQueryCorrectionOffset, handlers.stats, &StatsAdminHandlers::correction_offset);
  on_readers(Code::kViewBrokerStatsData, handlers.stats, &StatsAdminHandlers::view_stats);

  on_readers(Code::kCleanExpiredConsumequeue, handlers.store, &StoreAdminHandlers::clean_expired_queues);
  on_readers(Code::kCleanUnusedTopic, handlers.store, &StoreAdminHandlers::clean_unused_topics);
  on_readers(Code::kDeleteExpiredCommitlog, handlers.store, &StoreAdminHandlers::delete_expired_files);

  on_readers(Code::kInvokeBrokerToResetOffset, handlers.reset, &ResetOffsetHandlers::reset_offset);
  on_readers(Code::kInvokeBrokerToGetConsumerStatus, handlers.reset, &ResetOffsetHandlers::consumer_status);

  on_readers(Code::kGetConsumerRunningInfo, handlers.relay, &RelayHandlers::running_info);
  on_readers(Code::kConsumeMessageDirectly, handlers.relay, &RelayHandlers::consume_directly);
}

}  // namespace apogee::broker
