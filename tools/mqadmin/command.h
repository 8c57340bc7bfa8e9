#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/result.h"
#include "tools/mqadmin/output.h"

namespace mqadmin {

using apogee::Errc;
using apogee::Error;
using apogee::Result;
using apogee::Status;

class Invocation;

enum class Need : uint8_t {
  kOptional,
  kRequired,
  kOneOf,  ///< exactly one of the options with this mark
  kFlag,   ///< has no value
};

struct OptionSpec {
  char letter;
  std::string name;  ///< the long form
  Need need;
  std::string help;
};

/// One row of the table of commands.
struct CommandSpec {
  std::string name;
  std::string about;    ///< the heading that `mqadmin help` lists it under
  std::string summary;  ///< one line
  std::string detail;   ///< what else one has to know; may be empty
  std::string example;  ///< without "mqadmin "
  std::vector<OptionSpec> options;
  Status (*run)(Invocation&);
};

/// All commands, in the order in which they are listed.
const std::vector<CommandSpec>& commands();

/// A command with what was given to it.
class Invocation {
 public:
  Invocation(std::string name_servers, std::map<char, std::string> values, bool json)
      : name_servers_(std::move(name_servers)), values_(std::move(values)), out(json) {}

  [[nodiscard]] bool has(char letter) const { return values_.count(letter) != 0; }
  /// Trimmed; `fallback` when the option is not given.
  [[nodiscard]] std::string get(char letter, const std::string& fallback = "") const;
  /// Errors of these: kInvalidArgument, naming the option.
  [[nodiscard]] Result<int64_t> number(char letter, int64_t fallback, int64_t min, int64_t max) const;
  [[nodiscard]] Result<bool> truth(char letter, bool fallback) const;
  [[nodiscard]] Result<std::optional<int64_t>> time(char letter) const;

  [[nodiscard]] const std::string& name_servers() const { return name_servers_; }
  /// Of the client; before it is first asked for.
  void set_request_timeout(std::chrono::milliseconds timeout) { request_timeout_ = timeout; }
  /// Made when first asked for, so that commands that need no server start no thread.
  apogee::AdminClient& client();

 private:
  std::string name_servers_;
  std::map<char, std::string> values_;
  std::optional<std::chrono::milliseconds> request_timeout_;
  std::unique_ptr<apogee::AdminClient> client_;

 public:
  Output out;
};

}  // namespace mqadmin
