#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

// Command lines of the form "PROGRAM COMMAND --option VALUE". CLI11 does the work, and comes in in one .cc only: it
// takes the compiler ten seconds a file.
namespace tools {

/// An option that was added. What restricts or describes it can be chained; it lives as long as its CommandLine.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}
  Option required() const;
  /// least and most are allowed. Number: int, int64_t, size_t, double.
  template <typename Number>
  Option range(Number least, Number most) const;
  Option positive() const;
  Option one_of(const std::vector<std::string>& values) const;
  Option bytes() const;  ///< takes a unit: 512K, 64M, 10G; comes before range()
  Option comma_separated() const;
  Option excludes(const Option& other) const;
  Option show_default() const;                  ///< --help shows the value that the variable has now
  Option group(const std::string& name) const;  ///< under which --help shows it; "": it does not

 private:
  CLI::Option* option_;
};

/// The options of one command.
class CommandOptions {
 public:
  explicit CommandOptions(CLI::App* command) : command_(command) {}
  /// The variable has the default, and must live until the command line is parsed. Name: "--name", "-n,--name", or
  /// "NAME" for what stands without a dash. Value: std::string, int, int64_t, size_t, double, or a vector of the first
  /// three.
  template <typename Value>
  Option add_option(const std::string& name, Value& value, const std::string& help = "") const;
  /// "!--no-name" makes the variable false.
  Option add_flag(const std::string& name, bool& value, const std::string& help = "") const;
  void footer(const std::string& text) const;
  /// After parsing.
  [[nodiscard]] bool called() const;
  [[nodiscard]] bool given(const std::string& option) const;

 private:
  CLI::App* command_;
};

/// A program that has commands, one of which must be given.
class CommandLine {
 public:
  CommandLine(const std::string& program, const std::string& version, const std::string& about);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  CommandOptions add_command(const std::string& name, const std::string& about);
  void footer(const std::string& text);
  /// An exit status when the program is to end now: 0 after --help and --version, otherwise what is wrong was printed.
  [[nodiscard]] std::optional<int> parse(int argc, char** argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace tools
