#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace apogee::test {

/// Machines that are network namespaces of this one, joined by a bridge, with bad days between them. Needs root and
/// the programs `ip` and `nft` or `iptables` (the latter also when APOGEE_IPTABLES is set), for rates `tc`. Everything
/// goes with the object; what a test that died has left goes when the next one begins. Thread: the test's own.
class Network {
 public:
  /// Why there can be none here; empty: there can.
  [[nodiscard]] static std::string why_not();

  explicit Network(const std::vector<std::string>& machines);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  [[nodiscard]] const std::string& address(const std::string& machine) const { return addresses_.at(machine); }

  /// While it lives, what the calling thread opens or starts (sockets, threads, processes) is on that machine.
  class Visit {
   public:
    Visit(const Network& network, const std::string& machine);
    ~Visit();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    int home_ = -1;
  };

  // All until heal(). Packets are dropped where they arrive, without a word to who sent them.
  void cut(const std::string& a, const std::string& b);  ///< both ways
  void cut_one_way(const std::string& from, const std::string& to);
  void lose(const std::string& a, const std::string& b, int percent);  ///< of the packets, each way
  /// What the machine sends. mbit: in 10^6 bits a second.
  void limit_rate(const std::string& machine, int mbit);
  /// What the machine sends comes so much later. False: this kernel cannot; use a Relay.
  [[nodiscard]] bool delay(const std::string& machine, int ms);
  void heal();

  /// What the above is made with, for a test to print: "veth, nft numgen".
  [[nodiscard]] const std::string& means() const { return means_; }

 private:
  [[nodiscard]] std::string name_of(const std::string& machine) const { return prefix_ + machine; }
  void drop(const std::string& from, const std::string& at, int percent);
  std::string prefix_, means_ = "ip netns, veth";
  bool nft_ = true;
  std::map<std::string, std::string> addresses_;
};

/// Runs a program of this machine, found where such programs are; throws with what it said when it fails.
void run_tool(std::vector<std::string> command);
/// Its path; empty: it is not here.
[[nodiscard]] std::string tool_path(const std::string& name);

}  // namespace apogee::test
