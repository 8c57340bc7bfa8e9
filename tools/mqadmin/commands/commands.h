#pragma once

#include "tools/mqadmin/command.h"

// What the rows of command_table.cc run.
namespace mqadmin {

// cluster_commands.cc
Status run_cluster_list(Invocation& in);
Status run_broker_status(Invocation& in);
Status run_get_broker_config(Invocation& in);
Status run_ha_status(Invocation& in);
Status run_get_broker_epoch(Invocation& in);
Status run_update_broker_config(Invocation& in);
Status run_wipe_write_perm(Invocation& in);
Status run_add_write_perm(Invocation& in);
Status run_get_namesrv_config(Invocation& in);
Status run_update_namesrv_config(Invocation& in);
Status run_update_kv_config(Invocation& in);
Status run_delete_kv_config(Invocation& in);

// store_commands.cc
Status run_clean_expired_cq(Invocation& in);
Status run_clean_unused_topic(Invocation& in);
Status run_delete_expired_commit_log(Invocation& in);
Status run_query_cq(Invocation& in);

// topic_commands.cc
Status run_update_topic(Invocation& in);
Status run_delete_topic(Invocation& in);
Status run_topic_list(Invocation& in);
Status run_topic_route(Invocation& in);
Status run_topic_status(Invocation& in);
Status run_topic_cluster_list(Invocation& in);
Status run_allocate_mq(Invocation& in);

// group_commands.cc
Status run_update_sub_group(Invocation& in);
Status run_delete_sub_group(Invocation& in);
Status run_consumer_progress(Invocation& in);
Status run_consumer_connection(Invocation& in);
Status run_producer_connection(Invocation& in);
Status run_consumer_status(Invocation& in);
Status run_reset_offset_by_time(Invocation& in);
Status run_skip_accumulated_message(Invocation& in);
Status run_clone_group_offset(Invocation& in);

// message_commands.cc
Status run_send_message(Invocation& in);
Status run_query_msg_by_id(Invocation& in);
Status run_query_msg_by_offset(Invocation& in);
Status run_query_msg_by_key(Invocation& in);
Status run_query_msg_by_unique_key(Invocation& in);
Status run_decode_message_id(Invocation& in);
// dlq_commands.cc
Status run_query_dlq(Invocation& in);
Status run_export_dlq(Invocation& in);
Status run_resend_dlq(Invocation& in);
// print_commands.cc
Status run_consume_message(Invocation& in);
Status run_print_msg(Invocation& in);
Status run_print_msg_by_queue(Invocation& in);

// rt_commands.cc
Status run_check_msg_send_rt(Invocation& in);
Status run_send_msg_status(Invocation& in);
Status run_cluster_rt(Invocation& in);
// stats_commands.cc
Status run_broker_consume_stats(Invocation& in);
Status run_stats_all(Invocation& in);
Status run_start_monitoring(Invocation& in);
// client_commands.cc
Status run_get_consumer_config(Invocation& in);
Status run_consumer(Invocation& in);
Status run_producer(Invocation& in);
Status run_set_consume_mode(Invocation& in);
/// An object with everything that is known of the group's configuration.
void write_group_config(JsonWriter& json, const apogee::admin::GroupConfig& config);
// topic_change_commands.cc
Status run_update_order_conf(Invocation& in);
Status run_update_topic_perm(Invocation& in);
// export_commands.cc
Status run_export_metadata(Invocation& in);
Status run_export_configs(Invocation& in);
Status run_export_metrics(Invocation& in);

// drain_command.cc
Status run_drain_topic(Invocation& in);
// trace_commands.cc
Status run_query_msg_trace_by_id(Invocation& in);

}  // namespace mqadmin
