#include "tools/mqadmin/commands/commands.h"
#include "tools/mqadmin/tables/tables.h"

namespace mqadmin {

std::vector<CommandSpec> trace_commands() {
  constexpr auto kRequired = Need::kRequired;
  constexpr auto kOptional = Need::kOptional;
  return {
      {"queryMsgTraceById",
       "Messages",
       "Show the life of a message, as its clients traced it",
       "Producers and consumers write traces when enable_trace (in Java enableMsgTrace) is on.",
       "queryMsgTraceById -i 7F0000010001000000000000000A0001",
       {{'i', "msgId", kRequired, "id that the producer gave to the message"},
        {'t', "traceTopic", kOptional, "name of the trace topic (RMQ_SYS_TRACE_TOPIC)"},
        {'b', "beginTimestamp", kOptional, std::string("stored from: ") + kTimeHelp},
        {'e', "endTimestamp", kOptional, std::string("stored to: ") + kTimeHelp},
        {'c', "maxNum", kOptional, "trace messages to look at, at most (64)"}},
       run_query_msg_trace_by_id},
  };
}

}  // namespace mqadmin
