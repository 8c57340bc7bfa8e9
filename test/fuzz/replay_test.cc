#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "test/fuzz/targets.h"
#include "test/support/catch.h"

namespace {

void replay(const char* name, int (*target)(const uint8_t*, size_t)) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(APOGEE_SOURCE_DIR "/test/fuzz/corpus/") + name))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  REQUIRE_FALSE(files.empty());
  for (const auto& file : files) {
    INFO(file.string());
    std::ifstream in(file, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    std::string bytes = text.str();
    CHECK(target(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) == 0);
    // Every prefix too: most of what the decoders must bear is a text that ends too early.
    for (size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 64)
      CHECK(target(reinterpret_cast<const uint8_t*>(bytes.data()), size) == 0);
  }
}

}  // namespace

TEST_CASE("the corpus of every fuzz target runs through it") {
  replay("frame", fuzz::frame);
  replay("json_bodies", fuzz::json_bodies);
  replay("records", fuzz::records);
  replay("batch", fuzz::batch);
  replay("registration", fuzz::registration);
  replay("properties_file", fuzz::properties_file);
  replay("sql_filter", fuzz::sql_filter);
  replay("ha_frames", fuzz::ha_frames);
}
