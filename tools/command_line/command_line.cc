#include "tools/command_line/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdint>

namespace tools {

Option Option::required() const { return Option(option_->required()); }

template <typename Number>
Option Option::range(Number least, Number most) const {
  return Option(option_->check(CLI::Range(least, most)));
}
template Option Option::range(int, int) const;
template Option Option::range(int64_t, int64_t) const;
template Option Option::range(size_t, size_t) const;
template Option Option::range(double, double) const;

Option Option::positive() const { return Option(option_->check(CLI::PositiveNumber)); }

Option Option::one_of(const std::vector<std::string>& values) const {
  return Option(option_->check(CLI::IsMember(values)));
}

Option Option::bytes() const { return Option(option_->transform(CLI::AsSizeValue(false))); }

Option Option::comma_separated() const { return Option(option_->delimiter(',')); }

Option Option::excludes(const Option& other) const { return Option(option_->excludes(other.option_)); }

Option Option::show_default() const { return Option(option_->capture_default_str()); }

Option Option::group(const std::string& name) const { return Option(option_->group(name)); }

template <typename Value>
Option CommandOptions::add_option(const std::string& name, Value& value, const std::string& help) const {
  return Option(command_->add_option(name, value, help));
}
template Option CommandOptions::add_option(const std::string&, std::string&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, int&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, int64_t&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, size_t&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, double&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, std::vector<std::string>&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, std::vector<int>&, const std::string&) const;
template Option CommandOptions::add_option(const std::string&, std::vector<int64_t>&, const std::string&) const;

Option CommandOptions::add_flag(const std::string& name, bool& value, const std::string& help) const {
  return Option(command_->add_flag(name, value, help));
}

void CommandOptions::footer(const std::string& text) const { command_->footer(text); }

bool CommandOptions::called() const { return command_->parsed(); }

bool CommandOptions::given(const std::string& option) const { return command_->count(option) != 0; }

CommandLine::CommandLine(const std::string& program, const std::string& version, const std::string& about)
    : app_(std::make_unique<CLI::App>(about, program)) {
  app_->set_version_flag("--version", program + " " + version);
  app_->require_subcommand(1);
}

CommandLine::~CommandLine() = default;

CommandOptions CommandLine::add_command(const std::string& name, const std::string& about) {
  return CommandOptions(app_->add_subcommand(name, about));
}

void CommandLine::footer(const std::string& text) { app_->footer(text); }

std::optional<int> CommandLine::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& failure) {
    return app_->exit(failure);
  }
  return std::nullopt;
}

}  // namespace tools
