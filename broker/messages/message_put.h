#pragma once

#include <utility>

#include "store/message_store.h"

namespace apogee::broker {

/// The one way by which this broker's messages reach the store, whoever they come from: sends, messages given back,
/// committed transactions, replies, timers that are due. Thread: any.
class MessagePut {
 public:
  explicit MessagePut(store::MessageStore& store) : store_(store) {}

  /// As MessageStore::append.
  void put(const store::MessageDraft& draft, store::PutCallback done) { store_.append(draft, std::move(done)); }
  /// As MessageStore::append_batch.
  void put_batch(const store::MessageDraft& draft, store::PutCallback done) {
    store_.append_batch(draft, std::move(done));
  }

 private:
  store::MessageStore& store_;
};

}  // namespace apogee::broker
