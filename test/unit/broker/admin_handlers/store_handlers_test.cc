#include "broker/handlers/store_admin_handlers.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/topic_bench.h"

namespace apogee::broker::test {

using remoting::RequestCode;
namespace code = remoting::response_code;

namespace {

const Logger kQuiet;

struct Bench {
  TopicBench topics;
  FakeStore store;
  StoreAdminHandlers handlers{{topics.table, store, kQuiet}};
};

}  // namespace

TEST_CASE("CLEAN_UNUSED_TOPIC removes the queues of topics that are not there any more", "[broker]") {
  Bench bench;
  bench.topics.add("Kept", 1);
  for (const char* topic : {"Gone", "Kept", "SCHEDULE_TOPIC_XXXX", "%RETRY%gone"}) bench.store.queues[{topic, 0}] = {};
  bench.store.queues[{"Gone", 1}] = {};
  auto answer =
      ask(bench.handlers, &StoreAdminHandlers::clean_unused_topics, request_of(RequestCode::kCleanUnusedTopic));
  CHECK(answer.code == code::kSuccess);
  CHECK(bench.store.deleted_topics == std::vector<std::string>{"%RETRY%gone", "Gone"});
}

TEST_CASE("CLEAN_EXPIRED_CONSUMEQUEUE and DELETE_EXPIRED_COMMITLOG ask the store", "[broker]") {
  Bench bench;
  CHECK(
      ask(bench.handlers, &StoreAdminHandlers::clean_expired_queues, request_of(RequestCode::kCleanExpiredConsumequeue))
          .code == code::kSuccess);
  CHECK(bench.store.queue_cleanings == 1);
  CHECK(ask(bench.handlers, &StoreAdminHandlers::delete_expired_files, request_of(RequestCode::kDeleteExpiredCommitlog))
            .code == code::kSuccess);
  CHECK(bench.store.file_cleanings == 1);
  bench.store.queue_cleaning = Error{Errc::kIo, "queueFloors: made to fail"};
  auto answer = ask(bench.handlers, &StoreAdminHandlers::clean_expired_queues,
                    request_of(RequestCode::kCleanExpiredConsumequeue));
  CHECK(answer.code == code::kSystemError);
  CHECK(answer.remark.value_or("").find("made to fail") != std::string::npos);
}

}  // namespace apogee::broker::test
