#include "test/support/network.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "test/support/run_program.h"

namespace apogee::test {

namespace {

constexpr const char* kNamespaces = "/var/run/netns";
constexpr const char* kPrefix = "apogee-";

/// Namespaces of tests that are gone: their names begin with the process that made them.
void remove_leftovers() {
  std::error_code none;
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(kNamespaces, none)) {
    const auto name = entry.path().filename().string();
    if (name.rfind(kPrefix, 0) != 0) continue;
    const int maker = std::atoi(name.c_str() + std::string(kPrefix).size());
    if (maker > 0 && ::kill(maker, 0) != 0) left.push_back(name);
  }
  for (const auto& name : left) {
    try {
      run_tool({"ip", "netns", "delete", name});
    } catch (const std::exception&) {  // another test was faster
    }
  }
}

int open_network(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("cannot open " + path);
  return fd;
}

void enter(int fd) {
  if (::setns(fd, CLONE_NEWNET) != 0) throw std::runtime_error("setns");
}

}  // namespace

std::string tool_path(const std::string& name) {
  for (const char* directory : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"})
    if (::access((directory + name).c_str(), X_OK) == 0) return directory + name;
  return {};
}

void run_tool(std::vector<std::string> command) {
  std::string all;
  for (const auto& word : command) all += (all.empty() ? "" : " ") + word;
  const auto path = tool_path(command.front());
  if (path.empty()) throw std::runtime_error(command.front() + " is not installed");
  command.erase(command.begin());
  const auto ran = run_program(path, command, {});
  if (ran.exit_code != 0) throw std::runtime_error(all + ": " + ran.err + ran.out);
}

std::string Network::why_not() {
  if (::geteuid() != 0) return "not root";
  if (tool_path("ip").empty()) return "no program ip (iproute2)";
  if (tool_path("nft").empty() && tool_path("iptables").empty()) return "neither nft nor iptables";
  try {
    const auto name = kPrefix + std::to_string(::getpid()) + "-probe";
    run_tool({"ip", "netns", "add", name});
    run_tool({"ip", "netns", "delete", name});
  } catch (const std::exception& failure) {
    return failure.what();
  }
  return {};
}

Network::Network(const std::vector<std::string>& machines)
    : nft_(!tool_path("nft").empty() && std::getenv("APOGEE_IPTABLES") == nullptr) {
  static std::atomic<int> count{0};
  remove_leftovers();
  prefix_ = kPrefix + std::to_string(::getpid()) + "-" + std::to_string(++count) + "-";
  const auto bridge = name_of("bridge");
  int number = 0;
  run_tool({"ip", "netns", "add", bridge});
  run_tool({"ip", "-n", bridge, "link", "add", "br0", "type", "bridge"});
  run_tool({"ip", "-n", bridge, "link", "set", "br0", "up"});
  for (const auto& machine : machines) {
    const auto name = name_of(machine);
    const auto port = "p" + std::to_string(++number);
    addresses_[machine] = "10.77.0." + std::to_string(number);
    run_tool({"ip", "netns", "add", name});
    run_tool({"ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", bridge});
    run_tool({"ip", "-n", bridge, "link", "set", port, "master", "br0", "up"});
    run_tool({"ip", "-n", name, "link", "set", "lo", "up"});
    run_tool({"ip", "-n", name, "address", "add", addresses_[machine] + "/24", "dev", "eth0"});
    run_tool({"ip", "-n", name, "link", "set", "eth0", "up"});
    if (!nft_) continue;
    const Visit visit(*this, machine);
    run_tool({"nft", "add", "table", "inet", "apogee"});
    run_tool({"nft", "add chain inet apogee in { type filter hook input priority 0; }"});
  }
}

Network::~Network() {
  for (const auto& [machine, address] : addresses_) {
    try {
      run_tool({"ip", "netns", "delete", name_of(machine)});
    } catch (const std::exception&) {  // the next test removes it
    }
  }
  try {
    run_tool({"ip", "netns", "delete", name_of("bridge")});
  } catch (const std::exception&) {
  }
}

Network::Visit::Visit(const Network& network, const std::string& machine)
    : home_(open_network("/proc/thread-self/ns/net")) {
  const int there = open_network(std::string(kNamespaces) + "/" + network.name_of(machine));
  enter(there);
  ::close(there);
}

Network::Visit::~Visit() {
  if (::setns(home_, CLONE_NEWNET) != 0) std::abort();  // nothing that follows would be where it should
  ::close(home_);
}

void Network::drop(const std::string& from, const std::string& at, int percent) {
  const Visit visit(*this, at);
  if (nft_) {
    const auto some = percent < 100 ? " numgen random mod 100 < " + std::to_string(percent) : "";
    run_tool({"nft", "add rule inet apogee in ip saddr " + address(from) + some + " drop"});
    means_ = percent < 100 ? "ip netns, veth, nft numgen" : "ip netns, veth, nft drop";
    return;
  }
  std::vector<std::string> command{"iptables", "-A", "INPUT", "-s", address(from)};
  if (percent < 100)
    for (const auto& word : {std::string("-m"), std::string("statistic"), std::string("--mode"), std::string("random"),
                             std::string("--probability"), std::to_string(percent / 100.0)})
      command.push_back(word);
  command.emplace_back("-j");
  command.emplace_back("DROP");
  run_tool(command);
  means_ = percent < 100 ? "ip netns, veth, iptables statistic" : "ip netns, veth, iptables DROP";
}

void Network::cut(const std::string& a, const std::string& b) {
  drop(a, b, 100);
  drop(b, a, 100);
}

void Network::cut_one_way(const std::string& from, const std::string& to) { drop(from, to, 100); }

void Network::lose(const std::string& a, const std::string& b, int percent) {
  drop(a, b, percent);
  drop(b, a, percent);
}

void Network::limit_rate(const std::string& machine, int mbit) {
  run_tool({"tc", "-n", name_of(machine), "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
            std::to_string(mbit) + "mbit", "burst", "32kb", "latency", "400ms"});
  means_ = "ip netns, veth, tc tbf";
}

bool Network::delay(const std::string& machine, int ms) {
  try {
    run_tool({"tc", "-n", name_of(machine), "qdisc", "replace", "dev", "eth0", "root", "netem", "delay",
              std::to_string(ms) + "ms"});
  } catch (const std::exception&) {
    return false;
  }
  means_ = "ip netns, veth, tc netem";
  return true;
}

void Network::heal() {
  for (const auto& [machine, address] : addresses_) {
    try {
      const Visit visit(*this, machine);
      if (nft_)
        run_tool({"nft", "flush", "chain", "inet", "apogee", "in"});
      else
        run_tool({"iptables", "-F", "INPUT"});
    } catch (const std::exception& failure) {
      throw std::runtime_error("cannot heal " + machine + ": " + failure.what());
    }
    try {
      run_tool({"tc", "-n", name_of(machine), "qdisc", "delete", "dev", "eth0", "root"});
    } catch (const std::exception&) {  // there was none
    }
  }
}

}  // namespace apogee::test
