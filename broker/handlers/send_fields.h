#pragma once

#include "broker/handlers/request_fields.h"
#include "broker/handlers/send_operation.h"

namespace apogee::broker {

/// The names of a send's header fields: in words (10, 324), and of one letter (310, 320, 325).
struct SendFieldNames {
  const char *group, *topic, *default_topic, *default_queue_nums, *queue_id, *sys_flag, *born_timestamp, *flag,
      *properties, *reconsume_times, *unit_mode, *max_reconsume_times, *batch;
};
extern const SendFieldNames kSendFieldsInWords;
extern const SendFieldNames kSendFieldsOfOneLetter;

/// What the header says, and who sends; without the body. What is wrong with it is in `fields`.
[[nodiscard]] SendRequest read_send_fields(RequestFields& fields, const remoting::Caller& caller,
                                           const remoting::Command& request, const SendFieldNames& names);

/// The answer's fields on a message that was stored.
void set_send_answer(remoting::Command& response, const SendAnswer& answer);

}  // namespace apogee::broker
