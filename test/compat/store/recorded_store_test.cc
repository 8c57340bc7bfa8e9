// Store directories as Apache RocketMQ 4.9.8 left them; manifest.json lists what was acknowledged.
#include <openssl/evp.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/message/compression.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "store/message_store.h"
#include "test/support/catch.h"

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

}  // namespace

TEST_CASE("Recorded stores: every acknowledged message is where Apache RocketMQ stored it", "[compat]") {
  const fs::path recorded = fs::path(APOGEE_SOURCE_DIR) / "test/compat/store";
  const std::string name = GENERATE("clean-4.9.8", "killed-4.9.8");
  std::string root = (fs::temp_directory_path() / "apogee-compat-XXXXXX").string();
  REQUIRE(::mkdtemp(root.data()) != nullptr);
  fs::copy(recorded / name / "store", root, fs::copy_options::recursive | fs::copy_options::overwrite_existing);

  StoreOptions options;
  options.root_dir = root;
  options.commit_log_file_bytes = 262'144;
  options.consume_queue_file_bytes = 2'000;
  options.disk_used_ratio_max = 1.01;
  Logger logger;
  auto opened = MessageStore::open(options, logger);
  if (!opened) FAIL(opened.error().message);
  auto& store = **opened;

  // Of the messages that all stores share, what was sent is listed with the clean one.
  auto sent = load(recorded / "clean-4.9.8" / "manifest.json")["messages"];
  auto manifest = load(recorded / name / "manifest.json");
  int read = 0;
  for (size_t i = 0; i < manifest["messages"].size(); ++i) {
    const auto& entry = manifest["messages"][i];
    const auto& record = entry["record"];
    INFO(name << " message " << entry["n"]);
    auto got =
        store.get(record["topic"].get<std::string>(), record["queueId"], record["queueOffset"], {1, 1 << 20}, nullptr);
    REQUIRE(got.status == GetStatus::kFound);
    auto decoded = message::decode_record(got.records[0].bytes);
    REQUIRE(decoded);
    CHECK(decoded->physical_offset == record["physicalOffset"].get<int64_t>());
    CHECK(static_cast<int64_t>(decoded->bytes.size()) == record["size"].get<int64_t>());
    CHECK(message::find_property(decoded->properties, "UNIQ_KEY") == entry["uniqKey"].get<std::string>());
    const auto& full = entry.contains("bodySha256") || entry.contains("bodyText") ? entry : sent[i];
    if (full.contains("bodySha256")) {
      CHECK(sha256(plain_body(*decoded)) == full["bodySha256"].get<std::string>());
    } else {
      CHECK(plain_body(*decoded) == full["bodyText"].get<std::string>());
    }
    ++read;
  }
  CHECK(read >= 640);
  for (const auto& missing : manifest["state"]["notInConsumeQueue"]) {
    auto got = store.get(missing["topic"].get<std::string>(), missing["queueId"], missing["queueOffset"], {1, 1 << 20},
                         nullptr);
    REQUIRE(got.status == GetStatus::kFound);
    CHECK(message::decode_record(got.records[0].bytes)->physical_offset == missing["physicalOffset"].get<int64_t>());
  }
  CHECK(store.figures().log_max_offset == manifest["state"]["commitLog"]["endOffset"].get<int64_t>());

  // And it goes on from there.
  REQUIRE(store.start());
  store.stop();
  opened->reset();
  auto again = MessageStore::open(options, logger);
  if (!again) FAIL(again.error().message);
  CHECK((*again)->figures().log_max_offset == manifest["state"]["commitLog"]["endOffset"].get<int64_t>());
  again->reset();
  fs::remove_all(root);
}

}  // namespace apogee::store
