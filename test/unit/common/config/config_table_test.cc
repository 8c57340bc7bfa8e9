#include "common/config/config_table.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "common/config/command_line.h"
#include "common/config/properties_file.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::config;

namespace {

enum class Flush : uint8_t { kAsync, kSync };

struct Settings {
  int32_t port = 9876;
  int64_t file_bytes = 1 << 30;
  std::string path = "/tmp/a";
  bool safe = true;
  double ratio = 0.5;
  Flush flush = Flush::kAsync;
  Tunable<int32_t> interval_ms{500};
  Tunable<bool> order{false};
  Tunable<Flush> later_flush{Flush::kAsync};
  Tunable<std::string> label{"x"};
};

void add_rows(Settings& s, ConfigTable& table) {
  table.group("Network");
  table.add_int("listenPort", &s.port, {0, 65535}, "TCP port", {.unit = "", .important = true});
  table.group("Store");
  table.add_int("mappedFileSizeCommitLog", &s.file_bytes, {4096, int64_t{1} << 31}, "Size of a log file",
                {.unit = "bytes"});
  table.add_string("storePathRootDir", &s.path, "Folder of the store", {.unit = "", .locked = true});
  table.add_bool("safe", &s.safe, "Whether it is safe");
  table.add_double("ratio", &s.ratio, 0, 1, "How full");
  table.add_enum("flushDiskType", &s.flush, {{"ASYNC_FLUSH", Flush::kAsync}, {"SYNC_FLUSH", Flush::kSync}},
                 "When a send is durable");
  table.add_int("flushInterval", &s.interval_ms, {1, 60000}, "Time between flushes", {.unit = "ms"});
  table.add_bool("orderMessageEnable", &s.order, "Order");
  table.add_enum("laterFlush", &s.later_flush, {{"ASYNC_FLUSH", Flush::kAsync}, {"SYNC_FLUSH", Flush::kSync}}, "Later");
  table.add_string("label", &s.label, "A label");
  table.add_ignored({"useEpollNativeSelector", "listenPort"});
}

struct TemporaryFolder {
  std::string path;
  TemporaryFolder() {
    char name[] = "/tmp/apogee-config-XXXXXX";
    path = mkdtemp(name);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/" + name) << text;
    return path + "/" + name;
  }
};

struct Run {
  CommandLine line;
  std::string out, err;
};
Run run(std::vector<const char*> arguments, ConfigTable& table) {
  arguments.insert(arguments.begin(), "mqtest");
  Program program;
  program.name = "mqtest";
  program.version = "1.2.3";
  program.summary = "Tests.";
  program.flags = {{"--standalone", "with everything in one process"}};
  program.environment = {{"APOGEE_TEST_LABEL", "label"}};
  program.namesrv_key = "label";
  std::ostringstream out, err;
  auto line = parse_command_line(static_cast<int>(arguments.size()), arguments.data(), program, table, out, err);
  return {std::move(line), out.str(), err.str()};
}

}  // namespace

TEST_CASE("ConfigTable: values of every type are read into the struct", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  REQUIRE(table.set("listenPort", " 10911 ", Origin::kFile));
  REQUIRE(table.set("mappedFileSizeCommitLog", "1048576", Origin::kFile));
  REQUIRE(table.set("storePathRootDir", "/data/store", Origin::kFile));
  REQUIRE(table.set("safe", "FALSE", Origin::kFile));
  REQUIRE(table.set("ratio", "0.25", Origin::kFile));
  REQUIRE(table.set("flushDiskType", "SYNC_FLUSH", Origin::kFile));
  REQUIRE(table.set("flushInterval", "7", Origin::kFile));
  REQUIRE(s.port == 10911);
  REQUIRE(s.file_bytes == 1048576);
  REQUIRE(s.path == "/data/store");
  REQUIRE_FALSE(s.safe);
  REQUIRE(s.ratio == 0.25);
  REQUIRE(s.flush == Flush::kSync);
  REQUIRE(s.interval_ms == 7);
  REQUIRE(table.get("flushDiskType").value() == "SYNC_FLUSH");
  REQUIRE(table.to_properties_text().find("listenPort=10911\n") != std::string::npos);
}

TEST_CASE("ConfigTable: a bad value is refused and says why", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  auto message = [&](const char* key, const char* value) {
    auto status = table.set(key, value, Origin::kFile);
    REQUIRE_FALSE(status.has_value());
    CHECK(status.error().code == Errc::kInvalidArgument);
    return status.error().message;
  };
  CHECK(message("listenPort", "abc") == "listenPort: \"abc\" is not a whole number");
  CHECK(message("listenPort", "") == "listenPort: \"\" is not a whole number");
  CHECK(message("listenPort", "65536") == "listenPort: 65536 is out of range (0..65535)");
  CHECK(message("listenPort", "99999999999999999999") == "listenPort: 99999999999999999999 is out of range (0..65535)");
  CHECK(message("safe", "yes") == "safe: \"yes\" is neither true nor false");
  CHECK(message("ratio", "1.5") == "ratio: 1.5 is out of range (0..1)");
  CHECK(message("ratio", "nan") == "ratio: \"nan\" is not a number");
  CHECK(message("flushDiskType", "SINK") == "flushDiskType: \"SINK\" is not one of ASYNC_FLUSH, SYNC_FLUSH");
  CHECK(s.port == 9876);
}

TEST_CASE("ConfigTable: an unknown key names the nearest one", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  auto status = table.set("flushDiskTyp", "SYNC_FLUSH", Origin::kFile);
  REQUIRE_FALSE(status.has_value());
  REQUIRE(status.error().code == Errc::kNotFound);
  REQUIRE(status.error().message == "unknown key \"flushDiskTyp\"; did you mean \"flushDiskType\"?");
  REQUIRE(table.nearest_key("listenport") == "listenPort");
  REQUIRE(table.nearest_key("somethingElseEntirely").empty());
}

TEST_CASE("ConfigTable: keys of Apache RocketMQ without effect are accepted and noted", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  REQUIRE(table.set("useEpollNativeSelector", "maybe", Origin::kFile));
  auto notices = table.take_notices();
  REQUIRE(notices.size() == 1);
  REQUIRE(notices[0].find("useEpollNativeSelector") != std::string::npos);
  REQUIRE(table.take_notices().empty());
  REQUIRE_FALSE(table.set("listenPort", "x", Origin::kFile).has_value());  // it has a row, so it is not ignored
}

TEST_CASE("ConfigTable: a file's error names the file, line and key", "[config]") {
  TemporaryFolder folder;
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  auto good = folder.file("good.conf", "# comment\nlistenPort = 1234\nflushInterval: 9\n");
  REQUIRE(table.load_file(good));
  REQUIRE(s.port == 1234);
  auto bad = folder.file("bad.conf", "# comment\n\nsafe=true\nlistnPort=12\n");
  auto status = table.load_file(bad);
  REQUIRE_FALSE(status.has_value());
  REQUIRE(status.error().message == bad + ":4: unknown key \"listnPort\"; did you mean \"listenPort\"?");
  auto missing = table.load_file(folder.path + "/none.conf");
  REQUIRE(missing.error().code == Errc::kNotFound);
}

TEST_CASE("ConfigTable: a request changes tunable fields, all or none", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  auto changes =
      table.update("flushInterval=42\norderMessageEnable=true\nlaterFlush=SYNC_FLUSH\nlabel=y\nlistenPort=9876\n");
  REQUIRE(changes.has_value());
  REQUIRE(changes->size() == 4);
  REQUIRE((*changes)[0].before == "500");
  REQUIRE((*changes)[0].after == "42");
  REQUIRE(s.interval_ms == 42);
  REQUIRE(s.order);
  REQUIRE(s.later_flush == Flush::kSync);
  REQUIRE(s.label.get() == "y");

  auto start_only = table.update("flushInterval=1\nlistenPort=1\n");
  REQUIRE(start_only.error().code == Errc::kUnsupported);
  auto locked = table.update("flushInterval=1\nstorePathRootDir=/etc\n");
  REQUIRE(locked.error().code == Errc::kPermission);
  REQUIRE_FALSE(table.update("flushInterval=0\n").has_value());
  REQUIRE(table.update("noSuchKeyAtAll=0\n").error().code == Errc::kNotFound);
  REQUIRE(s.interval_ms == 42);
  REQUIRE(table.update("flushInterval=42").value().empty());
}

TEST_CASE("ConfigTable: fields may be read while they change", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  std::atomic<bool> end{false};
  std::thread reader([&] {
    while (!end) {
      if (s.label.get().empty() || s.interval_ms < 1) std::abort();
    }
  });
  for (int i = 1; i <= 500; ++i) {
    auto changes = table.update("flushInterval=" + std::to_string(i) + "\nlabel=l" + std::to_string(i));
    REQUIRE(changes.has_value());
  }
  end = true;
  reader.join();
  REQUIRE(s.interval_ms == 500);
}

TEST_CASE("Command line: it wins over the file, the file over the environment", "[config]") {
  TemporaryFolder folder;
  auto file = folder.file("a.conf", "listenPort=1\nflushInterval=11\nlabel=file\n");
  setenv("APOGEE_TEST_LABEL", "environment", 1);
  {
    Settings s;
    ConfigTable table;
    add_rows(s, table);
    REQUIRE_FALSE(run({}, table).line.exit_code);
    REQUIRE(s.label.get() == "environment");
  }
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  auto result = run({"-c", file.c_str(), "--listenPort", "2", "--safe=false", "--standalone"}, table);
  unsetenv("APOGEE_TEST_LABEL");
  REQUIRE(result.err.empty());
  REQUIRE_FALSE(result.line.exit_code);
  REQUIRE(result.line.config_file == file);
  REQUIRE(result.line.flags.count("--standalone") == 1);
  REQUIRE(s.port == 2);
  REQUIRE(s.interval_ms == 11);
  REQUIRE_FALSE(s.safe);
  REQUIRE(s.label.get() == "file");
}

TEST_CASE("Command line: -n, --help, --version, -p and -m", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  REQUIRE_FALSE(run({"-n", "127.0.0.1:9876", "--useEpollNativeSelector", "true"}, table).line.exit_code);
  REQUIRE(s.label.get() == "127.0.0.1:9876");
  auto help = run({"--help"}, table);
  REQUIRE(help.line.exit_code == 0);
  for (const char* part : {"Usage: mqtest", "--listenPort", "Network:", "Store:", "Default 1073741824 bytes",
                           "--standalone", "--flushInterval *"})
    CHECK(help.out.find(part) != std::string::npos);
  REQUIRE(run({"--version"}, table).out == "mqtest 1.2.3\n");
  auto all = run({"-p", "--listenPort", "77"}, table);
  REQUIRE(all.line.exit_code == 0);
  REQUIRE(all.out.find("listenPort=77\n") == 0);
  REQUIRE(all.out.find("label=") != std::string::npos);
  REQUIRE(run({"-m"}, table).out == "listenPort=77\n");
}

TEST_CASE("Command line: an error is one line and exit code 1", "[config]") {
  Settings s;
  ConfigTable table;
  add_rows(s, table);
  auto error = [&](std::vector<const char*> arguments) {
    auto result = run(std::move(arguments), table);
    CHECK(result.line.exit_code == 1);
    CHECK(result.out.empty());
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    return result.err;
  };
  CHECK(error({"--listenprt", "1"}) ==
        "mqtest: unknown option --listenprt; did you mean --listenPort? (see mqtest --help)\n");
  CHECK(error({"--listenPort", "x"}) == "mqtest: --listenPort: \"x\" is not a whole number\n");
  CHECK(error({"stray"}) == "mqtest: unexpected argument \"stray\" (see mqtest --help)\n");
  CHECK(error({"-c", "/no/such/file"}).find("/no/such/file: cannot open") != std::string::npos);
  CHECK(error({"--listenPort"}).find("listenPort") != std::string::npos);
}

TEST_CASE("Properties: what Java writes is read", "[config]") {
  auto properties = parse_properties(
      "# comment\n! comment too\n\n  a = 1\nb:2\nc 3\nd=x\\\n   y\r\ne\\ "
      "f\\=g=h=i\nu=\\u4e2d\\ud83d\\ude00\nt=a\\tb\\\\\nempty=\nlone\n"
      "path=C\\:\\\\x\na=again");
  REQUIRE(properties.has_value());
  std::vector<std::pair<std::string, std::string>> expected = {
      {"a", "1"},        {"b", "2"},       {"c", "3"},
      {"d", "xy"},       {"e f=g", "h=i"}, {"u", "\xE4\xB8\xAD\xF0\x9F\x98\x80"},
      {"t", "a\tb\\"},   {"empty", ""},    {"lone", ""},
      {"path", "C:\\x"}, {"a", "again"}};
  REQUIRE(properties->size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK((*properties)[i].key == expected[i].first);
    CHECK((*properties)[i].value == expected[i].second);
  }
  CHECK((*properties)[0].line == 4);
  CHECK((*properties)[3].line == 7);
  CHECK((*properties)[4].line == 9);
  auto bad = parse_properties("a=1\nb=\\u12x4\n");
  REQUIRE_FALSE(bad.has_value());
  REQUIRE(bad.error().message.substr(0, 2) == "2:");
}

TEST_CASE("Properties: written text reads back, and a changed file keeps its comments", "[config]") {
  std::map<std::string, std::string> values = {
      {"a b=c", " lead"}, {"k", "back\\slash\nline\ttab"}, {"#x", "!y"}, {"url", "http://a:1/#?x=1"}};
  auto read = parse_properties(to_properties_text(values));
  REQUIRE(read.has_value());
  std::map<std::string, std::string> again;
  for (const auto& property : *read) again[property.key] = property.value;
  REQUIRE(again == values);

  REQUIRE(with_properties("# top\na=1\nb = 2\\\n  3\n# end", {{"b", "9"}, {"z", "new"}}) ==
          "# top\na=1\nb=9\n# end\nz=new\n");

  TemporaryFolder folder;
  const std::string path = folder.path + "/deep/er/x.conf";
  REQUIRE(update_properties_file(path, {{"a", "1"}}));
  REQUIRE(update_properties_file(path, {{"a", "2"}, {"b", "3"}}));
  REQUIRE(read_whole_file(path).value() == "a=2\nb=3\n");
  REQUIRE(read_whole_file(path + ".bak").value() == "a=1\n");
  REQUIRE_FALSE(std::filesystem::exists(path + ".tmp"));
}
