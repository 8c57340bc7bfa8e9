#pragma once

#include "broker/broker_config.h"
#include "broker/transactions/transactions.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// 37 on the wire. Runs on: reader pool (it reads the log).
class TransactionHandlers {
 public:
  TransactionHandlers(Transactions& transactions, const BrokerConfig& config)
      : transactions_(transactions), config_(config) {}

  void end_transaction(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  Transactions& transactions_;
  const BrokerConfig& config_;
};

}  // namespace apogee::broker
