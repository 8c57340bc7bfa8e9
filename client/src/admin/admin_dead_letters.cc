#include "client/src/admin/admin_impl.h"
#include "common/base/text.h"
#include "common/message/property_names.h"

// Messages that their consumers gave up.
namespace apogee {

namespace property = message::property;

Result<SendReceipt> AdminClient::resend_dead_letter(const std::string& group, const ReceivedMessage& letter,
                                                    const std::string& topic) {
  if (!topic.empty()) {
    APOGEE_TRY(check_topic_name(topic));
    APOGEE_TRY_ASSIGN(auto queues, writable_queues(topic));
    return send_copy(letter, queues[static_cast<size_t>(letter.queue_offset()) % queues.size()], {});
  }
  Properties kept;
  for (auto name : {property::kRetryTopic, property::kOriginMessageId}) {
    if (auto value = letter.property(name)) kept.emplace(name, *value);
  }
  if (kept.count(std::string(property::kRetryTopic)) == 0) {
    return Error{Errc::kInvalidArgument, letter.offset_msg_id() + " does not say which topic it came from"};
  }
  return send_copy(letter, {retry_topic_of(group), letter.queue().broker_name, -1}, kept);
}

}  // namespace apogee
