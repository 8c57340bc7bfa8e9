#include "broker/request_table.h"

#include <exception>
#include <utility>

namespace apogee::broker {

namespace code = remoting::response_code;
using remoting::RequestCode;

struct RequestTable::Row {
  RunsOn runs_on;
  remoting::RequestHandler handler;
  mutable std::atomic<uint64_t> requests{0}, refused{0};
};

namespace {

bool closed_on_vip(RequestCode code) {
  switch (code) {
    case RequestCode::kPullMessage:
    case RequestCode::kLitePullMessage:
    case RequestCode::kPopMessage:
    case RequestCode::kPeekMessage:
    case RequestCode::kNotification:
    case RequestCode::kPollingInfo: return true;
    default: return false;
  }
}

bool is_answer_of_pull(int32_t answer) { return answer >= code::kPullNotFound && answer <= code::kPullOffsetMoved; }

}  // namespace

RequestTable::RequestTable(Post readers, const Logger& logger) : readers_(std::move(readers)), logger_(logger) {}
RequestTable::~RequestTable() = default;

void RequestTable::add(RequestCode code, RunsOn runs_on, remoting::RequestHandler handler) {
  auto row = std::make_unique<Row>();
  row->runs_on = runs_on;
  row->handler = std::move(handler);
  rows_[static_cast<int32_t>(code)] = std::move(row);
}

void RequestTable::wrap(RequestCode code, const Wrap& wrap) {
  auto found = rows_.find(static_cast<int32_t>(code));
  if (found != rows_.end()) found->second->handler = wrap(std::move(found->second->handler));
}

void RequestTable::dispatch(const remoting::Caller& caller, remoting::Command request,
                            remoting::Responder respond) const {
  auto found = rows_.find(request.code);
  if (found == rows_.end() ||
      (vip_port_ != 0 && caller.local_port == vip_port_ && closed_on_vip(request.request_code()))) {
    unsupported_.fetch_add(1, std::memory_order_relaxed);
    std::string remark = " request type " + std::to_string(request.code) + " not supported";
    std::string name = to_string(request.request_code());
    if (found != rows_.end()) {
      remark += " on this port";
    } else if (name != "UNKNOWN") {
      remark += " (" + name + " is not served by this release)";
    }
    return respond(remoting::Command::response_to(request, code::kRequestCodeNotSupported, std::move(remark)));
  }
  const Row* row = found->second.get();
  row->requests.fetch_add(1, std::memory_order_relaxed);
  if (gate_)
    if (auto refusal = gate_(request.request_code())) {
      row->refused.fetch_add(1, std::memory_order_relaxed);
      return respond(remoting::Command::response_to(request, refusal->code, std::move(refusal->remark)));
    }
  remoting::Responder counted([row, respond](remoting::Command response) {
    if (response.code != code::kSuccess && !is_answer_of_pull(response.code))
      row->refused.fetch_add(1, std::memory_order_relaxed);
    respond(std::move(response));
  });
  // Handlers return errors as values; what a library throws all the same must not end the process.
  auto run = [this, row](const remoting::Caller& who, remoting::Command what, const remoting::Responder& answer) {
    remoting::Command failure = remoting::Command::response_to(what, code::kSystemError);
    const int32_t request_code = what.code;
    try {
      row->handler(who, std::move(what), answer);
    } catch (const std::exception& e) {
      logger_.error("request {} of {} failed: {}", request_code, who.address, e.what());
      failure.remark = std::string("internal error: ") + e.what();
      answer(std::move(failure));
    }
  };
  if (row->runs_on == RunsOn::kIoLoop) return run(caller, std::move(request), counted);
  remoting::Command busy = remoting::Command::response_to(
      request, code::kSystemBusy, "[OVERLOAD]system busy, start flow control for a while: the reader pool is full");
  auto held = std::make_shared<remoting::Command>(std::move(request));
  if (!readers_([run, caller, held, counted] { run(caller, std::move(*held), counted); })) counted(std::move(busy));
}

std::atomic<uint64_t>& RequestTable::requests_of(RequestCode code) const {
  return rows_.at(static_cast<int32_t>(code))->requests;
}
std::atomic<uint64_t>& RequestTable::refused_of(RequestCode code) const {
  return rows_.at(static_cast<int32_t>(code))->refused;
}

std::vector<RequestTable::Figure> RequestTable::figures() const {
  std::vector<Figure> figures;
  for (const auto& [number, row] : rows_)
    figures.push_back({static_cast<RequestCode>(number), row->requests.load(std::memory_order_relaxed),
                       row->refused.load(std::memory_order_relaxed)});
  return figures;
}

}  // namespace apogee::broker
