#include "test/support/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace apogee::test {

namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (auto& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

pid_t spawn(const std::string& program, const std::vector<std::string>& arguments,
            const std::vector<std::string>& environment, int out, int err) {
  std::vector<std::string> texts{(std::filesystem::path(APOGEE_BINARY_DIR) / program).string()};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = environment;
  // What the sanitizers are told holds for every program.
  for (const char* name : {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"})
    if (const char* value = std::getenv(name)) variables.push_back(std::string(name) + "=" + value);
  auto argv = pointers(texts);
  auto envp = pointers(variables);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  pid_t child = 0;
  const int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error("cannot run " + texts[0]);
  return child;
}

/// Reads until the other ends are closed, and closes these.
void read_all(pid_t child, const std::vector<std::pair<int, std::string*>>& from) {
  std::vector<pollfd> waiting;
  for (const auto& [descriptor, text] : from) waiting.push_back({descriptor, POLLIN, 0});
  for (size_t open = from.size(); open > 0;) {
    if (poll(waiting.data(), waiting.size(), 60'000) <= 0) {
      ::kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
      throw std::runtime_error("a program says nothing; so far: " + *from.front().second);
    }
    for (size_t i = 0; i < from.size(); ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0) continue;
      char buffer[8192];
      const ssize_t count = read(waiting[i].fd, buffer, sizeof buffer);
      if (count > 0) {
        from[i].second->append(buffer, static_cast<size_t>(count));
      } else {  // a terminal that everybody has left is an error
        close(waiting[i].fd);
        waiting[i].fd = -1;
        --open;
      }
    }
  }
}

int exit_code_of(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Ran run_program(const std::string& program, const std::vector<std::string>& arguments,
                const std::vector<std::string>& environment) {
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  const pid_t child = spawn(program, arguments, environment, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  Ran ran;
  read_all(child, {{out[0], &ran.out}, {err[0], &ran.err}});
  ran.exit_code = exit_code_of(child);
  return ran;
}

Ran run_on_terminal(const std::string& program, const std::vector<std::string>& arguments,
                    const std::vector<std::string>& environment, unsigned short columns) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  char name[64];
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0 || ptsname_r(terminal, name, sizeof name) != 0)
    throw std::runtime_error("no terminal");
  const int inside = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  winsize size{};
  size.ws_col = columns;
  size.ws_row = 50;
  if (inside < 0 || ioctl(inside, TIOCSWINSZ, &size) != 0) throw std::runtime_error("no terminal");
  const pid_t child = spawn(program, arguments, environment, inside, inside);
  close(inside);
  Ran ran;
  read_all(child, {{terminal, &ran.out}});
  ran.exit_code = exit_code_of(child);
  return ran;
}

}  // namespace apogee::test
