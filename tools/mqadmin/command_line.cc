#include "tools/mqadmin/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "common/base/text.h"
#include "common/base/version.h"
#include "tools/mqadmin/command.h"

namespace mqadmin {

namespace {

constexpr int kFailed = 1;
constexpr int kWrongCall = 2;

int complain(int code, std::string_view message) {
  std::string line(message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  fmt::print(stderr, "mqadmin: {}\n", line);
  return code;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      bool same = apogee::equals_ignore_case(a.substr(i - 1, 1), b.substr(j - 1, 1));
      row[j] = std::min({row[j - 1] + 1, above + 1, diagonal + (same ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

const CommandSpec* find_command(std::string_view name) {
  for (const auto& command : commands()) {
    if (apogee::equals_ignore_case(command.name, name)) return &command;
  }
  return nullptr;
}

int unknown_command(std::string_view name) {
  const auto& all = commands();
  auto nearest = std::min_element(all.begin(), all.end(), [name](const CommandSpec& a, const CommandSpec& b) {
    return edit_distance(name, a.name) < edit_distance(name, b.name);
  });
  return complain(kWrongCall, fmt::format("there is no command {}; did you mean {}? (mqadmin help lists all)", name,
                                          nearest->name));
}

void print_overview() {
  fmt::print(
      "mqadmin looks at and changes a cluster.\n\nUsage: mqadmin COMMAND [OPTIONS]\n"
      "       mqadmin help COMMAND\n\n"
      "  -n, --namesrvAddr HOST:PORT;...   the NameServers; else the environment's NAMESRV_ADDR\n"
      "      --json                        print JSON instead of tables\n"
      "  -h, --help                        explain the command\n");
  size_t width = 0;
  for (const auto& command : commands()) width = std::max(width, command.name.size());
  std::string about;
  for (const auto& command : commands()) {
    if (command.about != about) {
      about = command.about;
      fmt::print("\n{}\n", about);
    }
    fmt::print("  {:<{}} {}\n", command.name, width, command.summary);
  }
}

void print_help(const CommandSpec& command) {
  fmt::print("{}: {}.\n", command.name, command.summary);
  if (!command.detail.empty()) fmt::print("{}\n", command.detail);
  fmt::print("\nUsage: mqadmin {} [OPTIONS]\n", command.name);
  std::string one_of;
  for (const auto& option : command.options) {
    const char* mark = option.need == Need::kRequired ? " (required)" : "";
    std::string form =
        fmt::format("-{}, --{}{}", option.letter, option.name, option.need == Need::kFlag ? "" : " VALUE");
    fmt::print("  {:<40} {}{}\n", form, option.help, mark);
    if (option.need == Need::kOneOf) one_of += fmt::format("{}-{}", one_of.empty() ? "" : " and ", option.letter);
  }
  fmt::print("  {:<40} {}\n", "-n, --namesrvAddr VALUE", "host:port of the NameServers, with ; between them");
  fmt::print("  {:<40} {}\n", "    --json", "print JSON");
  if (!one_of.empty()) fmt::print("One of {} must be given.\n", one_of);
  fmt::print("\nExample:\n  mqadmin {}\n", command.example);
}

std::string environment_name_servers() {
  const char* value = std::getenv("NAMESRV_ADDR");
  return value == nullptr ? "" : value;
}

/// Empty when the options go together.
std::string check_options(const CommandSpec& command, const std::map<char, std::string>& values) {
  std::string one_of;
  int given = 0;
  for (const auto& option : command.options) {
    bool has = values.count(option.letter) != 0;
    if (option.need == Need::kRequired && !has) return fmt::format("-{} ({}) is missing", option.letter, option.name);
    if (option.need != Need::kOneOf) continue;
    one_of += fmt::format("{}-{} ({})", one_of.empty() ? "" : " or ", option.letter, option.name);
    given += has ? 1 : 0;
  }
  if (!one_of.empty() && given == 0) return one_of + " is missing";
  if (given > 1) return fmt::format("only one of {} can be given", one_of);
  return "";
}

int run_command(const CommandSpec& command, std::vector<std::string> arguments, std::string name_servers) {
  CLI::App app;
  app.set_help_flag("-h,--help");
  bool json = false;
  app.add_option("-n,--namesrvAddr", name_servers);
  app.add_flag("--json", json);
  std::map<char, std::string> texts;
  std::map<char, bool> flags;
  std::map<char, CLI::Option*> parsed;
  for (const auto& option : command.options) {
    std::string names = fmt::format("-{},--{}", option.letter, option.name);
    parsed[option.letter] = option.need == Need::kFlag ? app.add_flag(names, flags[option.letter])
                                                       : app.add_option(names, texts[option.letter]);
  }
  try {
    std::reverse(arguments.begin(), arguments.end());
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    print_help(command);
    return 0;
  } catch (const CLI::ParseError& error) {
    return complain(kWrongCall, fmt::format("{}: {} (see mqadmin help {})", command.name, error.what(), command.name));
  }
  std::map<char, std::string> values;
  for (const auto& [letter, option] : parsed) {
    if (option->count() > 0) values[letter] = texts.count(letter) != 0 ? texts[letter] : "true";
  }
  std::string wrong = check_options(command, values);
  if (!wrong.empty()) {
    return complain(kWrongCall, fmt::format("{}: {} (see mqadmin help {})", command.name, wrong, command.name));
  }

  Invocation invocation(std::move(name_servers), std::move(values), json);
  auto status = command.run(invocation);
  bool written = invocation.out.flush();
  if (!status) {
    std::string message = status.error().message;
    if (invocation.name_servers().empty() && message == "no NameServer address is given") {
      message += ": use -n HOST:PORT or set NAMESRV_ADDR";
    }
    return complain(kFailed, fmt::format("{}: {}", command.name, message));
  }
  if (!written) return complain(kFailed, "standard output cannot be written");
  return 0;
}

}  // namespace

std::string Invocation::get(char letter, const std::string& fallback) const {
  auto found = values_.find(letter);
  return found == values_.end() ? fallback : std::string(apogee::trim(found->second));
}

Result<int64_t> Invocation::number(char letter, int64_t fallback, int64_t min, int64_t max) const {
  if (!has(letter)) return fallback;
  std::string text = get(letter);
  int64_t value = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || value < min || value > max) {
    return Error{Errc::kInvalidArgument,
                 fmt::format("-{} must be a whole number from {} to {}, not \"{}\"", letter, min, max, text)};
  }
  return value;
}

Result<bool> Invocation::truth(char letter, bool fallback) const {
  if (!has(letter)) return fallback;
  std::string text = get(letter);
  if (apogee::equals_ignore_case(text, "true")) return true;
  if (apogee::equals_ignore_case(text, "false")) return false;
  return Error{Errc::kInvalidArgument, fmt::format("-{} must be true or false, not \"{}\"", letter, text)};
}

Result<std::optional<int64_t>> Invocation::time(char letter) const {
  if (!has(letter)) return std::optional<int64_t>();
  auto parsed = parse_time(get(letter));
  if (!parsed) return Error{Errc::kInvalidArgument, fmt::format("-{}: {}", letter, parsed.error().message)};
  return std::optional<int64_t>(*parsed);
}

apogee::AdminClient& Invocation::client() {
  if (!client_) {
    apogee::AdminConfig config;
    config.name_servers = name_servers_;
    if (request_timeout_) config.request_timeout = *request_timeout_;
    client_ = std::make_unique<apogee::AdminClient>(std::move(config));
  }
  return *client_;
}

int run_command_line(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::string name_servers = environment_name_servers();
  if (arguments.size() >= 2 && (arguments[0] == "-n" || arguments[0] == "--namesrvAddr")) {
    name_servers = arguments[1];
    arguments.erase(arguments.begin(), arguments.begin() + 2);
  }
  if (arguments.empty() || arguments[0] == "-h" || arguments[0] == "--help" ||
      (arguments[0] == "help" && arguments.size() == 1)) {
    print_overview();
    return 0;
  }
  if (arguments[0] == "--version") {
    fmt::print("mqadmin {}\n", apogee::kVersion);
    return 0;
  }
  bool help = arguments[0] == "help";
  const std::string& name = arguments[help ? 1 : 0];
  const CommandSpec* command = find_command(name);
  if (command == nullptr) return unknown_command(name);
  if (help) {
    print_help(*command);
    return 0;
  }
  arguments.erase(arguments.begin());
  return run_command(*command, std::move(arguments), std::move(name_servers));
}

}  // namespace mqadmin
