#include <fstream>
#include <iterator>
#include <string>

#include "test/support/catch.h"

namespace {

std::string contents_of(const std::string& path) {
  std::ifstream file(std::string(APOGEE_SOURCE_DIR) + "/" + path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("the example in the README is the one that is compiled", "[client][readme]") {
  const std::string example = contents_of("client/examples/readme_example.cc");
  CHECK(contents_of("README.md").find("```cpp\n" + example + "```") != std::string::npos);
}
