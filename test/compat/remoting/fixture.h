#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

/// The recorded frames and what index.json says about them.
namespace fixture {

std::string frames_dir();
std::string read_file(const std::string& path);
const nlohmann::json& index();

}  // namespace fixture
