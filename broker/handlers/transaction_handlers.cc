#include "broker/handlers/transaction_handlers.h"

#include <memory>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/message/sys_flag.h"
#include "common/remoting/response_code.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace sys_flag = message::sys_flag;

void TransactionHandlers::end_transaction(const remoting::Caller& /*caller*/, remoting::Command request,
                                          remoting::Responder respond) {
  RequestFields fields(request);
  EndTransaction end;
  end.group = fields.text("producerGroup");
  end.half_offset = fields.i64("tranStateTableOffset");
  end.log_offset = fields.i64("commitLogOffset");
  const int32_t decision = fields.i32("commitOrRollback");
  end.from_check = fields.boolean_or("fromTransactionCheck", false);
  end.transaction_id = fields.text_or("transactionId", "");
  end.awaited = !request.is_oneway();
  switch (decision) {
    case sys_flag::kTransactionNot: end.decision = EndTransaction::Decision::kUnknown; break;
    case sys_flag::kTransactionCommit: end.decision = EndTransaction::Decision::kCommit; break;
    case sys_flag::kTransactionRollback: end.decision = EndTransaction::Decision::kRollback; break;
    default: fields.reject("the header field commitOrRollback is " + std::to_string(decision) + ", not 8, 12 or 0");
  }
  if (!fields.ok()) return refuse(request, respond, fields);
  if (config_.role == BrokerRole::kSlave)
    return refuse(request, respond, code::kSlaveNotAvailable, "a slave decides no transactions");
  auto shared =
      std::make_shared<std::pair<remoting::Command, remoting::Responder>>(std::move(request), std::move(respond));
  transactions_.end(end, [shared](Transactions::Answer answer) {
    shared->second(remoting::Command::response_to(shared->first, answer.code, std::move(answer.remark)));
  });
}

}  // namespace apogee::broker
