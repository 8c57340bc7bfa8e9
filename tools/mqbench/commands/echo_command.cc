#include <fmt/core.h>
#include <sys/prctl.h>

#include <csignal>
#include <cstdio>
#include <memory>

#include "tools/mqbench/commands/commands.h"
#include "tools/mqbench/commands/options.h"
#include "tools/mqbench/net/echo_server.h"

namespace mqbench {

namespace {

struct Call {
  RunOptions run;
  SendOptions send;
  EchoOptions echo;
  int64_t queues = 8;
  std::string server_cpus;
  bool serve = false, with_parent = false;
};

int serve(Call& call) {
  if (call.with_parent) ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  pin_to_cpus(call.run.cpus);
  serve_echo(call.echo, [&call](uint16_t port) {
    fmt::print("mqbench: echo server on {}:{}\n", call.echo.bind, port);
    std::fflush(stdout);
  });
  return 0;
}

int run(Call& call) {
  if (call.serve) return serve(call);
  settle(call.send);
  call.run.title = fmt::format("echo server: {}", describe(call.send));
  const EchoChild server(call.echo, call.server_cpus);
  Run run(call.run);
  run.watch(server.pid());
  Targets targets;
  targets.brokers.push_back({"echo", server.address()});
  for (int64_t queue = 0; queue < call.queues; ++queue)
    targets.queues.push_back({0, "mqbench", static_cast<int>(queue)});
  add_senders(run, call.send, targets, new_run_number(), "echo", false);
  return execute_and_report(run, call.run, "echo", "echo");
}

}  // namespace

Command add_echo_command(tools::CommandLine& line) {
  auto call = std::make_shared<Call>();
  const auto command =
      line.add_command("echo", "The same load against a bare echo server: the ceiling for any broker on this machine");
  add_send_options(command, call->send);
  add_run_options(command, call->run);
  constexpr const char* kGroup = "Echo server";
  command.add_option("--server-cpus", call->server_cpus, "processors that the server runs on").group(kGroup);
  command.add_option("--queues", call->queues, "queues that the requests name").show_default().group(kGroup);
  command.add_option("--answer-body", call->echo.answer_body, "bytes behind each answer's header, as pulls have them")
      .bytes()
      .range(size_t{0}, size_t{32} << 20)
      .group(kGroup);
  command.add_flag("--serve", call->serve, "only serve, until SIGINT").group(kGroup);
  command.add_option("--bind", call->echo.bind, "IPv4 address of the server").show_default().group(kGroup);
  command.add_option("--port", call->echo.port, "its port; 0: a free one")
      .range(0, 65'535)
      .show_default()
      .group(kGroup);
  // For the test that stalls are reported.
  command.add_option("--stall-ms", call->echo.stall_ms).group("");
  command.add_option("--stall-every-ms", call->echo.stall_every_ms).group("");
  command.add_flag("--with-parent", call->with_parent).group("");
  command.footer(
      "The server is a process of its own with one thread. It finds the opaque of each request and answers with what "
      "a\n"
      "broker answers to a send; it stores nothing. Options of sending are those of `mqbench produce`.\n\n"
      "Examples\n"
      "  mqbench echo                                                     64 senders that wait\n"
      "  mqbench echo --mode async --connections 4 --cpus 1 --server-cpus 0\n"
      "  mqbench echo --body 64 --connections 8 --answer-body 36K          what pulls could reach\n"
      "  mqbench echo --serve --port 18000                                leave it running");
  return [call, command] { return command.called() ? run(*call) : 0; };
}

}  // namespace mqbench
