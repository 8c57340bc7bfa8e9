#include "client/src/send_batches.h"

#include <utility>

#include "client/src/client_instance.h"
#include "common/base/text.h"
#include "common/message/batch.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee {

namespace property = message::property;

namespace {

message::BatchMessage part_of(const PreparedSend& send) { return {send.flag, send.body.bytes, send.properties}; }

}  // namespace

bool may_be_gathered(const PreparedSend& send) {
  if (send.batch || send.reply || send.sys_flag != 0 || is_retry_topic(send.topic)) return false;
  if (send.topic.size() > kTopicBytesMax) return false;
  if (is_delayed(send.properties)) return false;
  return !message::find_property(send.properties, property::kTimerDeleteUniqueKey) &&
         !message::find_property(send.properties, property::kTransactionPrepared);
}

void SendBatches::add(const Place& place, Item item) {
  SendCallback refused;
  {
    std::lock_guard lock(mutex_);
    if (!closed_) {
      const size_t bytes = message::batch_message_bytes(part_of(item.prepared));
      auto open = open_.find(place);
      if (open != open_.end() && (open->second.bytes + bytes > options_.bytes_max ||
                                  open->second.items.front().timeout_ms != item.timeout_ms)) {
        hand_over(open);
        open = open_.end();
      }
      if (open == open_.end()) {
        open = open_.emplace(place, Batch{place, {}, 0, ++next_number_}).first;
        linger(place, open->second.number);
      }
      open->second.bytes += bytes;
      open->second.items.push_back(std::move(item));
      if (open->second.bytes >= options_.bytes_max || open->second.items.size() >= options_.messages_max) {
        hand_over(open);
      }
      return;
    }
    refused = std::move(item.done);
  }
  refused(Error{Errc::kClosed, "the producer is shut down"});
}

// Under the lock, so that batches of one place are posted in their order.
void SendBatches::hand_over(std::map<Place, Batch>::iterator open) {
  auto batch = std::make_shared<Batch>(std::move(open->second));
  open_.erase(open);
  loop_.post([this, batch] { hand_over_(std::move(*batch)); });
}

void SendBatches::linger(const Place& place, uint64_t number) {
  auto over = [this, place, number] {
    std::lock_guard lock(mutex_);
    auto open = open_.find(place);
    if (open != open_.end() && open->second.number == number) hand_over(open);
  };
  loop_.post([this, over = std::move(over)] {
    if (options_.linger_ms <= 0) return over();
    loop_.run_after(loop::Milliseconds(options_.linger_ms), over);
  });
}

void SendBatches::pass_by(const std::string& topic, std::function<void()> task) {
  std::lock_guard lock(mutex_);
  for (auto open = open_.begin(); open != open_.end();) {
    auto next = std::next(open);
    if (open->first.topic == topic) hand_over(open);
    open = next;
  }
  loop_.post(std::move(task));
}

void SendBatches::close(const Error& error) {
  std::map<Place, Batch> left;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(open_);
  }
  for (auto& [place, batch] : left) {
    for (auto& item : batch.items) item.done(error);
  }
}

GatheredSend gather(SendBatches::Batch batch) {
  GatheredSend gathered;
  if (batch.items.size() == 1) {
    gathered.prepared = std::move(batch.items.front().prepared);
    gathered.done = std::move(batch.items.front().done);
    return gathered;
  }
  PreparedSend& send = gathered.prepared;
  send.topic = batch.place.topic;
  send.batch = true;
  std::string body;
  body.reserve(batch.bytes);
  /// To whom the parts of the receipt go.
  struct Sender {
    std::string unique_id;
    SendCallback done;
  };
  auto senders = std::make_shared<std::vector<Sender>>();
  for (auto& item : batch.items) {
    message::append_batch_message(body, part_of(item.prepared));
    if (!send.unique_id.empty()) send.unique_id += ',';
    send.unique_id += item.prepared.unique_id;
    senders->push_back({std::move(item.prepared.unique_id), std::move(item.done)});
  }
  if (!batch.place.wait_store_ok) message::append_property(send.properties, property::kWait, "false");
  send.body = SharedBytes::from(std::move(body));
  gathered.done = [senders](Result<SendReceipt> result) {
    if (!result) {
      for (auto& sender : *senders) sender.done(result);
      return;
    }
    const auto places = split(result->offset_msg_id, ",");
    for (size_t i = 0; i < senders->size(); ++i) {
      SendReceipt receipt = *result;
      receipt.msg_id = std::move((*senders)[i].unique_id);
      receipt.offset_msg_id = i < places.size() ? std::string(places[i]) : std::string();
      receipt.queue_offset += static_cast<int64_t>(i);
      receipt.transaction_id.clear();
      (*senders)[i].done(std::move(receipt));
    }
  };
  return gathered;
}

}  // namespace apogee
