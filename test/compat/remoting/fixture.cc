#include "test/compat/remoting/fixture.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace fixture {

std::string frames_dir() { return APOGEE_SOURCE_DIR "/test/compat/remoting/frames/"; }

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const nlohmann::json& index() {
  static const auto tree = nlohmann::json::parse(read_file(frames_dir() + "index.json"));
  return tree;
}

}  // namespace fixture
