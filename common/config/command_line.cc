#include "common/config/command_line.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>

#include "common/config/given_options.h"

namespace apogee::config {
namespace {

constexpr size_t kHelpColumn = 36;
constexpr size_t kHelpWidth = 110;

/// One option with its explanation, wrapped and aligned.
std::string help_entry(const std::string& option, const std::string& text) {
  std::string out = "  " + option;
  size_t column = out.size();
  if (column + 2 > kHelpColumn) {
    out += "\n";
    column = 0;
  }
  out.append(kHelpColumn - column, ' ');
  column = kHelpColumn;
  size_t at = 0;
  bool first = true;
  while (at < text.size()) {
    size_t end = text.find(' ', at);
    if (end == std::string::npos) end = text.size();
    const size_t width = end - at;
    if (!first && column + 1 + width > kHelpWidth) {
      out += "\n" + std::string(kHelpColumn, ' ');
      column = kHelpColumn;
    } else if (!first) {
      out += " ";
      ++column;
    }
    out.append(text, at, width);
    column += width;
    at = end + 1;
    first = false;
  }
  return out + "\n";
}

std::string help_text(const Program& program, const ConfigTable& table) {
  std::string out = fmt::format("{} {}\n{}\n\nUsage: {} [options]\n\nOptions:\n", program.name, program.version,
                                program.summary, program.name);
  out += help_entry("-c, --configFile FILE", "read settings from this properties file (key=value lines)");
  if (!program.namesrv_key.empty())
    out += help_entry("-n, --namesrvAddr ADDRESSES", "name servers, as host:port;host:port");
  for (const auto& flag : program.flags) out += help_entry(flag.name, flag.help);
  out += help_entry("-p", "print every setting with its value, and exit");
  out += help_entry("-m", "print the important settings with their values, and exit");
  out += help_entry("-h, --help", "print this text, and exit");
  out += help_entry("--version", "print the version, and exit");
  if (!program.examples.empty()) out += "\nExamples:\n" + program.examples;
  out +=
      "\nEvery setting below may stand in the file of -c (key=value) or on the command line (--key value). The "
      "command\n"
      "line wins over the file, the file over the environment. A setting marked * can be changed while running.\n";
  for (const auto& [variable, key] : program.environment)
    out += fmt::format("The environment variable {} sets {}.\n", variable, key);
  std::string group;
  for (const auto& row : table.rows()) {
    if (row.group != group) out += fmt::format("\n{}:\n", row.group);
    group = row.group;
    std::string value = row.default_value.empty() ? "(none)" : row.default_value;
    if (!row.unit.empty() && !row.default_value.empty()) value += " " + row.unit;
    std::string about = row.help + (row.help.empty() || row.help.back() == '.' ? "" : ".") + " Default " + value;
    if (row.accepts != "text") about += "; " + row.accepts;
    out += help_entry("--" + row.key + (row.run_time ? " *" : ""), about);
  }
  return out;
}

std::string listing(const ConfigTable& table, bool important_only) {
  std::string out;
  for (const auto& row : table.rows())
    if (!important_only || row.important) out += row.key + "=" + row.value + "\n";
  return out;
}

/// "--key" of an option that was not understood, without dashes and value.
std::string bare_name(const std::string& option) {
  std::string name = option.substr(0, option.find('='));
  return name.substr(std::min(name.size(), name.find_first_not_of('-')));
}

std::string unknown_option(const std::string& option, const ConfigTable& table) {
  if (option.empty() || option[0] != '-') return fmt::format("unexpected argument \"{}\"", option);
  const std::string nearest = table.nearest_key(bare_name(option));
  std::string line = fmt::format("unknown option {}", option.substr(0, option.find('=')));
  if (!nearest.empty()) line += fmt::format("; did you mean --{}?", nearest);
  return line;
}

Status apply(const Program& program, const GivenOptions& given, ConfigTable& table) {
  for (const auto& [variable, key] : program.environment) {
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr || *value == '\0') continue;
    if (auto status = table.set(key, value, Origin::kEnvironment); !status)
      return Error{status.error().code, fmt::format("environment variable {}: {}", variable, status.error().message)};
  }
  if (!given.config_file.empty()) APOGEE_TRY(table.load_file(given.config_file));
  for (const auto& [key, value] : given.settings)
    if (auto status = table.set(key, value, Origin::kCommandLine); !status)
      return Error{status.error().code, "--" + status.error().message};
  if (!given.namesrv.empty()) APOGEE_TRY(table.set(program.namesrv_key, given.namesrv, Origin::kCommandLine));
  return {};
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv, const Program& program, ConfigTable& table,
                               std::ostream& out, std::ostream& err) {
  CommandLine line;
  auto fail = [&](const std::string& message) {
    err << program.name << ": " << message << "\n";
    line.exit_code = 1;
    return line;
  };
  auto given = read_given_options(argc, argv, program, table);
  if (!given) return fail(given.error().message + " (see " + program.name + " --help)");
  if (given->help) {
    out << help_text(program, table);
    line.exit_code = 0;
    return line;
  }
  if (given->version) {
    out << program.name << " " << program.version << "\n";
    line.exit_code = 0;
    return line;
  }
  for (size_t i = 0; i < given->extras.size(); ++i) {
    const std::string& extra = given->extras[i];
    const bool long_option = extra.substr(0, 2) == "--";
    if (!long_option || !table.is_ignored(bare_name(extra)))
      return fail(unknown_option(extra, table) + " (see " + program.name + " --help)");
    std::string value;
    if (size_t equals = extra.find('='); equals != std::string::npos)
      value = extra.substr(equals + 1);
    else if (i + 1 < given->extras.size() && given->extras[i + 1].substr(0, 1) != "-")
      value = given->extras[++i];
    given->settings.emplace_back(bare_name(extra), value);
  }
  if (auto status = apply(program, *given, table); !status) return fail(status.error().message);
  if (given->print_all || given->print_important) {
    out << listing(table, !given->print_all);
    line.exit_code = 0;
  }
  line.config_file = given->config_file;
  line.flags = given->flags;
  return line;
}

}  // namespace apogee::config
