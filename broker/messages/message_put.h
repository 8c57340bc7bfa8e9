#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apogee/result.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Where a message waits until it is due; its own topic and queue are kept in REAL_TOPIC and REAL_QID.
struct ParkedAt {
  std::string topic;
  int32_t queue_id = 0;
  std::string properties;  ///< all of them, in place of the message's
  int64_t due_ms = 0;      ///< of a timer: its instant, ms since 1970
};
/// The message as it waits in another topic: its properties, with REAL_TOPIC and REAL_QID of the draft.
[[nodiscard]] ParkedAt park(const store::MessageDraft& draft, std::string_view topic, int32_t queue_id);

/// Whether the store refuses a message for what it is, so that the same message is refused again, and not for its own
/// state. Another maxMessageSize may change that.
[[nodiscard]] bool refused_for_good(const store::PutResult& result);

/// Looks at a message on its way into the store. nullopt: it is none of this rule's. Errors: kInvalidArgument (the
/// message is refused as illegal, with the error's text as detail), all others (the store's service is not available).
/// Must not block. Thread: any, several at once.
using PutRule = std::function<Result<std::optional<ParkedAt>>(const store::MessageDraft&)>;

/// The one way by which this broker's messages reach the store, whoever they come from: sends, messages given back,
/// committed transactions, replies, timers that are due. Thread: any.
class MessagePut {
 public:
  using Append = std::function<void(const store::MessageDraft&, store::PutCallback)>;

  explicit MessagePut(store::MessageStore& store) : store_(&store) {}
  /// What is put goes elsewhere, as from a slave, which appends nothing to its own log. Batches are refused.
  explicit MessagePut(Append elsewhere) : elsewhere_(std::move(elsewhere)) {}

  /// Rules are asked in the order of adding; the first that parks or refuses a message decides. Before anybody puts.
  void add_rule(PutRule rule) { rules_.push_back(std::move(rule)); }

  /// As MessageStore::append, to where the rules say. `due_ms` gets the instant of a timer before `done` is called.
  void put(const store::MessageDraft& draft, store::PutCallback done, int64_t* due_ms = nullptr);
  /// As MessageStore::append_quickly, of a batch or of a message that no rule is for: it has no property that a rule
  /// looks at.
  [[nodiscard]] bool put_quickly(const store::QuickMessages& messages, store::QuickPlace& place,
                                 std::function<void(store::Synced)> synced) {
    return store_ != nullptr && store_->append_quickly(messages, place, std::move(synced));
  }
  /// As MessageStore::append, whatever the rules: for a message that has waited already, and for dead letters.
  void deliver(const store::MessageDraft& draft, store::PutCallback done) { append(draft, std::move(done)); }
  /// As MessageStore::append_batch. No rules: the messages of a batch cannot be delayed.
  void put_batch(const store::MessageDraft& draft, store::PutCallback done);

 private:
  void append(const store::MessageDraft& draft, store::PutCallback done) {
    store_ != nullptr ? store_->append(draft, std::move(done)) : elsewhere_(draft, std::move(done));
  }

  store::MessageStore* store_ = nullptr;
  Append elsewhere_;
  std::vector<PutRule> rules_;
};

}  // namespace apogee::broker
