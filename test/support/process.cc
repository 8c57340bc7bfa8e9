#include "test/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "test/support/wait.h"

extern char** environ;

namespace apogee::test {

Process::Process(const std::string& program, std::vector<std::string> arguments, std::string output_file,
                 std::vector<std::string> environment)
    : output_file_(std::move(output_file)) {
  std::string path = std::string(APOGEE_BINARY_DIR) + "/" + program;
  std::vector<char*> argv{path.data()};
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<char*> envp;
  for (char** each = environ; *each != nullptr; ++each) envp.push_back(*each);
  for (auto& each : environment) envp.push_back(each.data());
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output_file_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  int error = posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " + path);
}

Process::~Process() {
  if (running()) kill();
}

std::string Process::output() const {
  std::ifstream in(output_file_);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

bool Process::wait_for_output(const std::string& text, std::chrono::milliseconds limit) {
  bool found = false;
  auto seen = eventually([&] { return (found = output().find(text) != std::string::npos) || !running(); }, limit);
  return seen && (found || output().find(text) != std::string::npos);
}

bool Process::reap(bool block) {
  if (!ended_ && ::waitpid(pid_, &status_, block ? 0 : WNOHANG) == pid_) ended_ = true;
  return ended_;
}

bool Process::running() { return !reap(false); }

void Process::signal(int number) {
  if (running()) ::kill(pid_, number);
}

int Process::wait(std::chrono::milliseconds limit) {
  if (!eventually([this] { return reap(false); }, limit)) return -1;
  return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
}

int Process::terminate() {
  signal(SIGTERM);
  return wait();
}

void Process::kill() {
  signal(SIGKILL);
  reap(true);
}

int64_t Process::resident_kib() const {
  std::ifstream in("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6));
  return -1;
}

}  // namespace apogee::test
