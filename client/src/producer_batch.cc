// Lists of messages in as many batches as they need, and messages of many senders gathered into one.
#include <algorithm>
#include <utility>

#include "client/src/producer_impl.h"

namespace apogee {

/// A list of messages on its way, part by part.
struct Producer::Impl::BatchRun {
  std::vector<PreparedSend> parts;
  size_t next = 0;
  size_t stored = 0;  ///< messages
  size_t messages = 0;
  Message first;
  SendOptions options;
  int64_t deadline_ms = 0;
  SendReceipt receipt;
  SendCallback done;
};

void Producer::Impl::send_list(const std::vector<Message>& messages, SendOptions options, SendCallback done) {
  if (!running_) return done(producer_closed());
  auto parts = prepare_batches(config_, *ids_, messages, options.sharding_key);
  if (!parts) return done(std::move(parts).error());
  if (parts->size() == 1) {
    return submit(std::move(parts->front()), messages.front(), std::move(options), false, std::move(done));
  }
  auto run = std::make_shared<BatchRun>();
  run->parts = std::move(*parts);
  run->messages = messages.size();
  run->first = messages.front();
  run->deadline_ms = steady_ms() + timeout_of(options).count();
  run->options = std::move(options);
  run->done = std::move(done);
  send_next_part(run);
}

void Producer::Impl::send_next_part(const std::shared_ptr<BatchRun>& run) {
  const size_t part_messages = run->parts[run->next].messages;
  auto stored = [this, run, part_messages](Result<SendReceipt> receipt) {
    if (!receipt) {
      Error error = std::move(receipt).error();
      error.message = "part " + std::to_string(run->next + 1) + " of " + std::to_string(run->parts.size()) +
                      " of the batch: " + error.message + "; of " + std::to_string(run->messages) +
                      " messages the first " + std::to_string(run->stored) + " are stored";
      return run->done(std::move(error));
    }
    run->stored += part_messages;
    run->receipt.parts.push_back(std::move(*receipt));
    if (++run->next < run->parts.size()) return send_next_part(run);
    SendReceipt all = run->receipt.parts.front();
    for (size_t i = 1; i < run->receipt.parts.size(); ++i) {
      const auto& part = run->receipt.parts[i];
      all.msg_id += "," + part.msg_id;
      all.offset_msg_id += "," + part.offset_msg_id;
      if (all.status == SendStatus::kOk) all.status = part.status;
    }
    all.parts = std::move(run->receipt.parts);
    run->done(std::move(all));
  };
  SendOptions options = run->options;
  if (run->next > 0) options = SendOptions::to(run->receipt.parts.front().queue);
  options.timeout = std::chrono::milliseconds(run->deadline_ms - steady_ms());
  if (options.timeout.count() <= 0) return stored(Error{Errc::kTimeout, "send: no time left"});
  submit(std::move(run->parts[run->next]), run->first, std::move(options), false, std::move(stored));
}

// Gathers it where that is wanted and possible, else sends it by itself.
void Producer::Impl::gather_or_dispatch(const SendPtr& send) {
  if (!config_.auto_batch) return dispatch(send);
  const auto& prepared = send->prepared;
  SendBatches::Place place{prepared.topic, {}, send->wait_store_ok};
  bool gathered = !send->oneway && may_be_gathered(prepared) && prepared.body.size() < batches_.bytes_max();
  if (gathered && !send->may_retry) {  // its queue is chosen
    const auto route = instance_.route(prepared.topic);
    gathered = route != nullptr;
    if (gathered) {
      auto queue = choose(send, *route);
      if (!queue) return finish(send, std::move(queue).error());
      place.queue = std::move(*queue);
      place.queue.topic = prepared.topic;
    }
  }
  if (!gathered) {
    return batches_.pass_by(prepared.topic, [this, send] {
      if (!send->finished) dispatch(send);
    });
  }
  SendBatches::Item item;
  item.prepared = std::move(send->prepared);
  item.topic = send->topic;
  item.timeout_ms = timeout_of(send->options).count();
  item.deadline_ms = send->deadline_ms;
  item.done = [this, send](Result<SendReceipt> result) { finish(send, std::move(result)); };
  batches_.add(place, std::move(item));
}

void Producer::Impl::send_gathered(SendBatches::Batch batch) {
  auto send = std::make_shared<Send>();
  send->topic = batch.items.front().topic;
  send->options.queue = batch.place.queue;
  send->may_retry = batch.place.queue.broker_name.empty();
  send->deadline_ms = batch.items.front().deadline_ms;
  auto gathered = gather(std::move(batch));
  send->prepared = std::move(gathered.prepared);
  send->done = std::move(gathered.done);
  if (register_send(send)) dispatch(send);
}

}  // namespace apogee
