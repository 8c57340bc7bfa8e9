#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "test/replication/load.h"

namespace apogee::test {

/// The files of a log, read as they lie there, also while their broker runs.
class LogFiles {
 public:
  explicit LogFiles(const std::filesystem::path& directory);
  [[nodiscard]] int64_t begin() const { return files_.empty() ? 0 : files_.begin()->first; }
  /// Behind the last record, by walking through the records from the beginning.
  [[nodiscard]] int64_t end() const;
  [[nodiscard]] const std::map<int64_t, std::filesystem::path>& files() const { return files_; }
  /// Shorter where files end.
  [[nodiscard]] std::string read(int64_t from, int64_t bytes) const;

 private:
  std::map<int64_t, std::filesystem::path> files_;
};

/// "" when both have the same bytes from where both have some up to `end`; else where they part.
[[nodiscard]] std::string compare_logs(const std::filesystem::path& one, const std::filesystem::path& other,
                                       int64_t end);

struct ReadBack {
  size_t read = 0, lost = 0, duplicated = 0;
  std::string first_loss;  ///< for a failed test
};

struct Expectation {
  std::string topic = "Replicated";
  std::set<int> codes = {0, 10, 11, 12};  ///< messages that were answered so must be there
  std::chrono::milliseconds limit = std::chrono::seconds(60);
};

/// Reads everything from a node as a consumer does, and compares it with the ledger: what is expected is there, at its
/// place, with its body; and nothing is there that was never sent. Duplicated is what a sender, unsure, sent again.
[[nodiscard]] ReadBack read_back(const ReplicatedCluster& cluster, size_t node, const Ledger& ledger,
                                 const Expectation& expectation = {});

/// What is wanted after each bad day: the slave catches up, the logs are the same up to what was acknowledged, and
/// everything that was acknowledged is read from the master. Prints the figures. Stop the load before.
void check_after(ReplicatedCluster& cluster, Load& load, const Ledger& ledger, const std::string& bad_day,
                 const Expectation& expectation = {});
/// The first half: every slave's log is as its master's up to all that was acknowledged.
void check_logs(const ReplicatedCluster& cluster, const Ledger& ledger);
void print_figures(const std::string& bad_day, const Ledger& ledger, const ReadBack& back, int64_t resumed_after_ms);

/// A line in the node's log with all of these words, within the limit.
[[nodiscard]] bool logged(const ReplicatedCluster& cluster, size_t node, const std::vector<std::string>& words,
                          std::chrono::milliseconds limit = std::chrono::seconds(60));

/// The topic, and a message that the master has answered with SEND_OK: with SYNC_MASTER its slaves are there. Those
/// that run know the topic, too.
void prepare(ReplicatedCluster& cluster, Ledger& ledger, int32_t queues = 4);

}  // namespace apogee::test
