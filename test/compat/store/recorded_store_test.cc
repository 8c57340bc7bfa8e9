// Store directories as Apache RocketMQ 4.9.8 left them; manifest.json lists what was acknowledged.
#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "common/base/bytes.h"
#include "common/base/crc32.h"
#include "common/message/compression.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "store/message_store.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"

namespace apogee::store {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string sha256(std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

json load(const fs::path& path) {
  std::ifstream in(path);
  return json::parse(in);
}

/// The body as the application sent it.
std::string plain_body(const message::RecordView& record) {
  if ((record.sys_flag & message::sys_flag::kCompressed) == 0) return std::string(record.body);
  auto type = message::compression_of(record.sys_flag);
  REQUIRE(type);
  auto body = message::decompress(*type, record.body, 8u << 20);
  REQUIRE(body);
  return *body;
}

const fs::path kRecorded = fs::path(APOGEE_SOURCE_DIR) / "test/compat/store";

/// A copy of a recorded store, and the options that it was written with.
struct Copy {
  test::TemporaryDirectory directory;
  json manifest;
  StoreOptions options;
  Logger logger;

  explicit Copy(const std::string& name) : manifest(load(kRecorded / name / "manifest.json")) {
    fs::copy(kRecorded / name / "store", root(), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    options.root_dir = root().string();
    options.commit_log_file_bytes = 262'144;
    options.consume_queue_file_bytes = 2'000;
    options.disk_used_ratio_max = 1.01;
  }
  [[nodiscard]] const fs::path& root() const { return directory.path(); }
  std::unique_ptr<MessageStore> open() {
    auto opened = MessageStore::open(options, logger);
    if (!opened) FAIL(opened.error().message);
    return std::move(*opened);
  }
  [[nodiscard]] LogOffset end() const { return manifest["state"]["commitLog"]["endOffset"].get<LogOffset>(); }
};

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

PutResult put(MessageStore& store, std::string_view topic, int32_t queue_id, std::string_view body,
              std::string_view properties = {}) {
  MessageDraft draft;
  draft.topic = topic;
  draft.queue_id = queue_id;
  draft.body = body;
  draft.properties = properties;
  draft.born_timestamp_ms = 1'700'000'000'000;
  std::promise<PutResult> answer;
  store.append(draft, [&](PutResult result) { answer.set_value(std::move(result)); });
  return answer.get_future().get();
}

void check_messages(MessageStore& store, const json& manifest) {
  // Of the messages that all stores share, what was sent is listed with the clean one.
  auto sent = load(kRecorded / "clean-4.9.8" / "manifest.json")["messages"];
  for (size_t i = 0; i < manifest["messages"].size(); ++i) {
    const auto& entry = manifest["messages"][i];
    if (!entry["survives"].get<bool>()) continue;
    const auto& record = entry["record"];
    INFO("message " << entry["n"]);
    auto got =
        store.get(record["topic"].get<std::string>(), record["queueId"], record["queueOffset"], {1, 1 << 20}, nullptr);
    REQUIRE(got.status == GetStatus::kFound);
    auto decoded = message::decode_record(got.records[0].bytes);
    REQUIRE(decoded);
    CHECK(decoded->physical_offset == record["physicalOffset"].get<int64_t>());
    CHECK(static_cast<int64_t>(decoded->bytes.size()) == record["size"].get<int64_t>());
    CHECK(message::find_property(decoded->properties, "UNIQ_KEY") == entry["uniqKey"].get<std::string>());
    const bool is_listed = entry.contains("bodySha256") || entry.contains("bodyText");
    const auto& full = is_listed || i >= sent.size() ? entry : sent.at(i);
    if (!is_listed && i < sent.size()) REQUIRE(full["n"] == entry["n"]);
    if (full.contains("bodySha256")) CHECK(sha256(plain_body(*decoded)) == full["bodySha256"].get<std::string>());
    if (full.contains("bodyText")) CHECK(plain_body(*decoded) == full["bodyText"].get<std::string>());
    CHECK(message::body_crc_matches(*decoded));
  }
  CHECK(manifest["messages"].size() >= 640);
}

}  // namespace

TEST_CASE("Recorded stores: every acknowledged message is where Apache RocketMQ stored it", "[compat]") {
  Copy copy(GENERATE("clean-4.9.8", "killed-4.9.8", "torn-4.9.8", "torn-queue-ahead-4.9.8"));
  {
    auto store = copy.open();
    check_messages(*store, copy.manifest);
    for (const auto& missing : copy.manifest["state"]["notInConsumeQueue"]) {
      auto got = store->get(missing["topic"].get<std::string>(), missing["queueId"], missing["queueOffset"],
                            {1, 1 << 20}, nullptr);
      REQUIRE(got.status == GetStatus::kFound);
      CHECK(message::decode_record(got.records[0].bytes)->physical_offset == missing["physicalOffset"].get<int64_t>());
    }
    CHECK(store->figures().log_max_offset == copy.end());
    REQUIRE(store->start());
    store->stop();
  }
  // And after a clean stop of ours.
  CHECK(!fs::exists(copy.root() / "abort"));
  auto again = copy.open();
  CHECK(again->figures().log_max_offset == copy.end());
  check_messages(*again, copy.manifest);
}

TEST_CASE("Recorded stores: queues end where Apache RocketMQ's own recovery ends them", "[compat]") {
  const std::string name = GENERATE("clean-4.9.8", "killed-4.9.8", "torn-4.9.8", "torn-queue-ahead-4.9.8");
  Copy copy(name);
  auto store = copy.open();
  int compared = 0;
  const auto expected = load(kRecorded / name / "expected-java-recovery.json");
  for (const auto& queue : expected["queues"]) {
    INFO(queue.dump());
    CHECK(store->min_offset(queue["topic"].get<std::string>(), queue["queueId"]) == queue["minOffset"].get<int64_t>());
    CHECK(store->max_offset(queue["topic"].get<std::string>(), queue["queueId"]) == queue["maxOffset"].get<int64_t>());
    ++compared;
  }
  CHECK(compared >= 40);
}

TEST_CASE("Recorded stores: a record that was cut in half is cut off, and nothing else", "[compat]") {
  Copy copy(GENERATE("torn-4.9.8", "torn-queue-ahead-4.9.8"));
  const auto& torn = copy.manifest["torn"];
  auto store = copy.open();
  CHECK(store->figures().log_max_offset == torn["recordOffset"].get<int64_t>());
  CHECK(store->figures().holes == 0);
  // Its offset is the next message's, also where the queue had an entry of it already.
  const std::string topic = torn["topic"];
  const int32_t queue_id = torn["queueId"];
  CHECK(store->max_offset(topic, queue_id) == torn["queueOffset"].get<int64_t>());
  REQUIRE(store->start());
  auto again = put(*store, topic, queue_id, "in its place");
  CHECK(again.offsets[0] == torn["recordOffset"].get<int64_t>());
  CHECK(again.queue_offset == torn["queueOffset"].get<int64_t>());
  store->stop();
}

TEST_CASE("Recorded stores: queues built from the log have the bytes that Apache RocketMQ wrote", "[compat]") {
  Copy copy("clean-4.9.8");
  fs::remove_all(copy.root() / "consumequeue");
  {
    auto store = copy.open();
    REQUIRE(store->start());
    store->stop();
  }
  int compared = 0;
  for (const auto& entry : fs::recursive_directory_iterator(kRecorded / "clean-4.9.8/store/consumequeue")) {
    if (!entry.is_regular_file()) continue;
    auto relative = fs::relative(entry.path(), kRecorded / "clean-4.9.8/store");
    auto expected = bytes_of(entry.path());
    if (expected.find_first_not_of('\0') == std::string::npos) continue;  // of a queue that never had a message
    INFO(relative.string());
    REQUIRE(fs::exists(copy.root() / relative));
    CHECK(bytes_of(copy.root() / relative) == expected);
    ++compared;
  }
  CHECK(compared >= 40);
}

TEST_CASE("Recorded stores: records encoded again have the bytes that Apache RocketMQ wrote", "[compat]") {
  Copy copy("clean-4.9.8");
  auto store = copy.open();
  int records = 0, blanks = 0;
  for (LogOffset at = 0; at < copy.end();) {
    auto raw = store->record_at(at);
    if (!raw) {
      at = (at / 262'144 + 1) * 262'144;
      ++blanks;
      continue;
    }
    auto record = message::decode_record(raw->bytes);
    REQUIRE(record);
    auto encoded = message::encode_record(message::fields_of(*record), record->queue_offset, record->physical_offset);
    INFO("record at " << at);
    CHECK((encoded == raw->bytes));
    at += static_cast<LogOffset>(raw->size());
    ++records;
  }
  CHECK(records == copy.manifest["state"]["commitLog"]["records"].get<int>());
  CHECK(blanks == static_cast<int>(copy.manifest["state"]["commitLog"]["blankRecords"].size()));
}

namespace {

void add_host(std::string& to, const message::HostView& host) {
  to += host.ip_bytes;
  append_be<int32_t>(to, host.port);
}

/// A record as the description of the format has it, written without the code under test.
std::string record_by_the_book(const message::RecordView& record, std::string_view body, std::string_view properties) {
  std::string rest;
  append_be<int32_t>(rest, static_cast<int32_t>(0xDAA320A7));
  append_be<uint32_t>(rest, crc32(body) & 0x7FFFFFFF);
  append_be<int32_t>(rest, record.queue_id);
  append_be<int32_t>(rest, record.flag);
  append_be<int64_t>(rest, record.queue_offset);
  append_be<int64_t>(rest, record.physical_offset);
  append_be<int32_t>(rest, record.sys_flag);
  append_be<int64_t>(rest, record.born_timestamp_ms);
  add_host(rest, record.born_host);
  append_be<int64_t>(rest, record.store_timestamp_ms);
  add_host(rest, record.store_host);
  append_be<int32_t>(rest, record.reconsume_times);
  append_be<int64_t>(rest, record.prepared_transaction_offset);
  append_be<int32_t>(rest, static_cast<int32_t>(body.size()));
  rest += body;
  append_be<int8_t>(rest, static_cast<int8_t>(record.topic.size()));
  rest += record.topic;
  append_be<int16_t>(rest, static_cast<int16_t>(properties.size()));
  rest += properties;
  std::string whole;
  append_be<int32_t>(whole, static_cast<int32_t>(rest.size() + 4));
  return whole + rest;
}

}  // namespace

TEST_CASE("Recorded stores: what we write on top has the bytes that Apache RocketMQ reads", "[compat]") {
  Copy copy(GENERATE("clean-4.9.8", "killed-4.9.8"));
  const LogOffset begin = copy.end();
  constexpr int kCount = 400;  // over the ends of two files
  const std::string properties = "TAGS\x01TagA\x02KEYS\x01k\x02";
  auto body_of = [](int i) { return "ours " + std::to_string(i) + std::string(1'200, 'o'); };
  QueueOffset first = 0;
  {
    auto store = copy.open();
    first = store->max_offset("FixtureOrders", 0);
    REQUIRE(first > 0);
    REQUIRE(store->start());
    for (int i = 0; i < kCount; ++i) {
      auto stored = put(*store, "FixtureOrders", 0, body_of(i), properties);
      REQUIRE(stored.status == PutStatus::kOk);
      REQUIRE(stored.queue_offset == first + i);
    }
    store->stop();
  }
  CHECK(!fs::exists(copy.root() / "abort"));
  CHECK(fs::file_size(copy.root() / "checkpoint") == 4096);
  std::string log;
  for (LogOffset file = 0;; file += 262'144) {
    char name[32];
    std::snprintf(name, sizeof name, "%020lld", static_cast<long long>(file));
    if (!fs::exists(copy.root() / "commitlog" / name)) break;
    auto bytes = bytes_of(copy.root() / "commitlog" / name);
    REQUIRE(bytes.size() == 262'144);
    log += bytes;
  }
  std::string entries;
  LogOffset at = begin;
  int blanks = 0;
  for (int i = 0; i < kCount;) {
    if (load_be<int32_t>(log.data() + at + 4) == static_cast<int32_t>(0xCBD43194)) {
      CHECK(load_be<int32_t>(log.data() + at) == 262'144 - at % 262'144);
      at = (at / 262'144 + 1) * 262'144;
      ++blanks;
      continue;
    }
    auto record = message::decode_record(std::string_view(log).substr(static_cast<size_t>(at)));
    REQUIRE(record);
    CHECK(record->physical_offset == at);
    CHECK(record->queue_offset == first + i);
    auto expected = record_by_the_book(*record, body_of(i), properties);
    REQUIRE((std::string_view(log).substr(static_cast<size_t>(at), expected.size()) == expected));
    append_be<int64_t>(entries, at);
    append_be<int32_t>(entries, static_cast<int32_t>(expected.size()));
    append_be<int64_t>(entries, 2'598'919);  // "TagA".hashCode() in Java
    at += static_cast<LogOffset>(expected.size());
    ++i;
  }
  CHECK(blanks == 2);
  CHECK(log.find_first_not_of('\0', static_cast<size_t>(at)) == std::string::npos);
  std::string queue;
  for (int file = 0;; file += 2'000) {
    char name[32];
    std::snprintf(name, sizeof name, "%020d", file);
    const fs::path path = copy.root() / "consumequeue/FixtureOrders/0" / name;
    if (!fs::exists(path)) break;
    auto bytes = bytes_of(path);
    REQUIRE(bytes.size() == 2'000);
    queue += bytes;
  }
  CHECK((queue.substr(static_cast<size_t>(first) * 20, entries.size()) == entries));
}

TEST_CASE("Stores for 4.9: a record that 4.9 could not read is refused", "[compat]") {
  Copy copy("clean-4.9.8");
  copy.options.compatibility = StoreCompatibility::k49;
  auto store = copy.open();
  REQUIRE(store->start());
  auto refused = put(*store, std::string(128, 't'), 0, "b");
  CHECK(refused.status == PutStatus::kMessageIllegal);
  CHECK(refused.detail.find("storeCompatibility") != std::string::npos);
  CHECK(put(*store, std::string(127, 't'), 0, "b").status == PutStatus::kOk);
  store->stop();
}

}  // namespace apogee::store
