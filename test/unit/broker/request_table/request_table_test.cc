#include "broker/request_table.h"

#include <stdexcept>

#include "test/unit/broker/support/handler_bench.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using remoting::Command;
using remoting::RequestCode;

namespace {

Command dispatch(const RequestTable& table, RequestCode code, uint16_t port = 10911) {
  Command answer;
  int answers = 0;
  remoting::Caller caller = caller_of(1);
  caller.local_port = port;
  table.dispatch(caller, request_of(code), remoting::Responder([&](Command response) {
                   answer = std::move(response);
                   ++answers;
                 }));
  CHECK(answers == 1);
  CHECK(answer.opaque == 77);
  return answer;
}

remoting::RequestHandler answering(int32_t code) {
  return [code](const remoting::Caller&, Command request, const remoting::Responder& respond) {
    respond(Command::response_to(request, code));
  };
}

}  // namespace

TEST_CASE("requests are served by their row, and counted", "[broker][request_table]") {
  Logger quiet;
  std::vector<std::function<void()>> pool;
  RequestTable table([&pool](std::function<void()> task) { return pool.push_back(std::move(task)), true; }, quiet);
  table.add(RequestCode::kSendMessage, RunsOn::kIoLoop, answering(0));
  table.add(RequestCode::kPullMessage, RunsOn::kIoLoop, answering(19));
  table.add(RequestCode::kHeartBeat, RunsOn::kIoLoop, answering(29));
  table.add(RequestCode::kViewMessageById, RunsOn::kReaders, answering(0));
  CHECK(dispatch(table, RequestCode::kSendMessage).code == 0);
  CHECK(dispatch(table, RequestCode::kPullMessage).code == 19);
  CHECK(dispatch(table, RequestCode::kHeartBeat).code == 29);

  bool answered = false;
  table.dispatch(caller_of(1), request_of(RequestCode::kViewMessageById),
                 remoting::Responder([&answered](const Command& response) { answered = response.code == 0; }));
  CHECK_FALSE(answered);
  REQUIRE(pool.size() == 1);
  pool[0]();
  CHECK(answered);
  for (const auto& figure : table.figures()) {
    CHECK(figure.requests == 1);
    CHECK(figure.refused == (figure.code == RequestCode::kHeartBeat ? 1U : 0U));
  }
}

TEST_CASE("codes that are unknown or of later releases get 3", "[broker][request_table]") {
  Logger quiet;
  RequestTable table([](const std::function<void()>&) { return true; }, quiet);
  auto answer = dispatch(table, static_cast<RequestCode>(9999));
  CHECK(answer.code == 3);
  CHECK(answer.remark == " request type 9999 not supported");
  for (auto code : {RequestCode::kEndTransaction, RequestCode::kSendReplyMessageV2, RequestCode::kPopMessage,
                    RequestCode::kUpdateAndCreateAclConfig}) {
    answer = dispatch(table, code);
    CHECK(answer.code == 3);
    CHECK(answer.remark->find("is not served by this release") != std::string::npos);
  }
  CHECK(table.unsupported_total() == 5);
}

TEST_CASE("the VIP port serves no pulls", "[broker][request_table]") {
  Logger quiet;
  RequestTable table([](const std::function<void()>&) { return true; }, quiet);
  table.add(RequestCode::kPullMessage, RunsOn::kIoLoop, answering(0));
  table.add(RequestCode::kSendMessage, RunsOn::kIoLoop, answering(0));
  table.set_vip_port(10909);
  CHECK(dispatch(table, RequestCode::kPullMessage, 10909).code == 3);
  CHECK(dispatch(table, RequestCode::kPullMessage, 10911).code == 0);
  CHECK(dispatch(table, RequestCode::kSendMessage, 10909).code == 0);
}

TEST_CASE("a handler that throws, and a full pool, are answered", "[broker][request_table]") {
  Logger quiet;
  RequestTable table([](const std::function<void()>&) { return false; }, quiet);
  table.add(
      RequestCode::kHeartBeat, RunsOn::kIoLoop,
      [](const remoting::Caller&, const Command&, const remoting::Responder&) { throw std::runtime_error("boom"); });
  table.add(RequestCode::kViewMessageById, RunsOn::kReaders, answering(0));
  auto answer = dispatch(table, RequestCode::kHeartBeat);
  CHECK(answer.code == 1);
  CHECK(answer.remark->find("boom") != std::string::npos);
  answer = dispatch(table, RequestCode::kViewMessageById);
  CHECK(answer.code == 2);
  CHECK(answer.remark->find("[OVERLOAD]") == 0);
}
