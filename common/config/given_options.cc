#include "common/config/given_options.h"

#include <CLI/CLI.hpp>

namespace apogee::config {

Result<GivenOptions> read_given_options(int argc, const char* const* argv, const Program& program,
                                        const ConfigTable& table) {
  CLI::App app(program.summary, program.name);
  app.set_help_flag("");
  app.allow_extras();
  GivenOptions given;
  app.add_option("-c,--configFile", given.config_file);
  app.add_flag("-h,--help", given.help);
  app.add_flag("--version", given.version);
  app.add_flag("-p,--printConfigItem", given.print_all);
  app.add_flag("-m,--printImportantConfig", given.print_important);
  if (!program.namesrv_key.empty()) app.add_option("-n", given.namesrv);
  for (const auto& flag : program.flags)
    app.add_flag_callback(flag.name, [&given, name = flag.name] { given.flags.insert(name); });
  for (const auto& row : table.rows()) {
    app.add_option_function<std::string>(
           "--" + row.key, [&given, key = row.key](const std::string& text) { given.settings.emplace_back(key, text); })
        ->take_last();
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ArgumentMismatch& failure) {
    const std::string text = failure.what();
    return Error{Errc::kInvalidArgument, text.substr(0, text.find(':')) + " needs a value"};
  } catch (const CLI::ParseError& failure) {
    std::string text = failure.what();
    return Error{Errc::kInvalidArgument, text.substr(0, text.find('\n'))};
  }
  given.extras = app.remaining();
  return given;
}

}  // namespace apogee::config
