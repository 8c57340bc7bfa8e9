#include "test/support/mqadmin.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "test/support/catch.h"

namespace apogee::test {

Ran run_mqadmin(const std::vector<std::string>& arguments, const std::string& namesrv) {
  std::vector<std::string> environment{"TZ=UTC"};
  if (!namesrv.empty()) environment.push_back("NAMESRV_ADDR=" + namesrv);
  return run_program("tools/mqadmin", arguments, environment);
}

std::string Admin::text(const std::vector<std::string>& arguments) const {
  auto ran = run_mqadmin(arguments, namesrv);
  INFO(arguments[0] << ": " << ran.err);
  REQUIRE(ran.exit_code == 0);
  CHECK(ran.err.empty());
  return ran.out;
}

nlohmann::json Admin::parsed(std::vector<std::string> arguments) const {
  arguments.emplace_back("--json");
  auto out = text(arguments);
  INFO(arguments[0] << " printed " << out);
  auto value = nlohmann::json::parse(out, nullptr, false);
  REQUIRE_FALSE(value.is_discarded());
  return value;
}

std::string Admin::failure(const std::vector<std::string>& arguments, int exit_code) const {
  auto ran = run_mqadmin(arguments, namesrv);
  INFO(arguments[0] << " printed " << ran.out);
  CHECK(ran.exit_code == exit_code);
  CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
  CHECK(ran.err.rfind("mqadmin: ", 0) == 0);
  return ran.err;
}

}  // namespace apogee::test
