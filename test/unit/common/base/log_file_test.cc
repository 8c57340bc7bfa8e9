#include "common/base/log_file.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/logger.h"
#include "test/support/catch.h"

using namespace apogee;

namespace {

struct TemporaryFolder {
  std::string path;
  TemporaryFolder() {
    char name[] = "/tmp/apogee-log-XXXXXX";
    path = mkdtemp(name);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}
size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

LogFile::Options options(const std::string& path) {
  LogFile::Options options;
  options.path = path;
  return options;
}

}  // namespace

TEST_CASE("LogFile: lines have a level, and the level can change", "[log]") {
  TemporaryFolder folder;
  const std::string path = folder.path + "/made/a.log";
  auto log = LogFile::open(options(path));
  REQUIRE(log.has_value());
  Logger logger((*log)->sink());
  logger.debug("hidden {}", 1);
  logger.info("shown {}", 2);
  logger.set_level(LogLevel::kDebug);
  logger.debug("shown {} {{}}", 3);
  (*log)->flush();
  auto text = text_of(path);
  CHECK(text.find("hidden") == std::string::npos);
  CHECK(text.find("info") != std::string::npos);
  CHECK(text.find("shown 2") != std::string::npos);
  CHECK(text.find("shown 3 {}") != std::string::npos);
}

TEST_CASE("LogFile: a warning is in the file at once", "[log]") {
  TemporaryFolder folder;
  auto log = LogFile::open(options(folder.path + "/a.log"));
  REQUIRE(log.has_value());
  Logger logger((*log)->sink());
  logger.warn("careful");
  CHECK(text_of(folder.path + "/a.log").find("careful") != std::string::npos);
}

TEST_CASE("LogFile: a flood of one line is counted, not written", "[log]") {
  TemporaryFolder folder;
  const std::string path = folder.path + "/a.log";
  {
    auto log = LogFile::open(options(path));
    REQUIRE(log.has_value());
    Logger logger((*log)->sink());
    for (int i = 0; i < 1000; ++i) logger.warn("disk is full");
    logger.warn("another");
    LogSink outlives = (*log)->sink();
    log->reset();
    outlives(LogLevel::kError, "nobody hears this");
  }
  auto text = text_of(path);
  CHECK(count(text, "disk is full") == 2);
  CHECK(count(text, "disk is full (repeated 999 times)") == 1);
  CHECK(count(text, "another") == 1);
  CHECK(text.find("nobody") == std::string::npos);
}

TEST_CASE("LogFile: a full file is moved aside, and reopen() begins a new one", "[log]") {
  TemporaryFolder folder;
  const std::string path = folder.path + "/a.log";
  auto with_limit = options(path);
  with_limit.file_bytes_max = 1000;
  with_limit.files_max = 2;
  auto log = LogFile::open(with_limit);
  REQUIRE(log.has_value());
  Logger logger((*log)->sink());
  for (int i = 0; i < 100; ++i) logger.warn("line number {}", i);
  CHECK(std::filesystem::exists(folder.path + "/a.1.log"));
  CHECK_FALSE(std::filesystem::exists(folder.path + "/a.3.log"));
  std::filesystem::rename(path, folder.path + "/moved.log");
  REQUIRE((*log)->reopen());
  logger.warn("after the move");
  CHECK(text_of(path).find("after the move") != std::string::npos);
}

TEST_CASE("LogFile: what cannot be opened is an error that names the path", "[log]") {
  auto log = LogFile::open(options("/proc/no/such.log"));
  REQUIRE_FALSE(log.has_value());
  CHECK(log.error().message.find("/proc/no/such.log") != std::string::npos);
  CHECK(log_level_from_name("WARN").value() == LogLevel::kWarn);
  CHECK_FALSE(log_level_from_name("loud").has_value());
}
