#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/file_system.h"
#include "test/support/random.h"

namespace apogee::test {

/// A file system in memory that knows what is durable: the bytes of a file after its sync, a name after the sync of
/// its directory. Now and then it writes something back by itself, as kernels do. When the power fails, each page that
/// was not synced survives, vanishes, or survives in some of its sectors, and each name that was made, moved or removed
/// was so or was not. Mappings are real memory; beyond the end of a file they fault. Thread: any.
class MemoryFileSystem final : public io::FileSystem {
 public:
  explicit MemoryFileSystem(uint64_t seed = 1);
  ~MemoryFileSystem() override;

  /// What is left if the power fails now. This one goes on, as if nothing had happened.
  [[nodiscard]] std::unique_ptr<MemoryFileSystem> lose_power(uint64_t seed);
  /// The same when so many further calls have been made, in front of the next one.
  void plan_loss(int64_t calls, uint64_t seed);
  /// Called in front of each planned loss; no call on this file system may be made in it.
  void on_loss(std::function<void()> listener);
  struct Loss {
    std::unique_ptr<MemoryFileSystem> image;
    std::string before;  ///< the call in front of which the power failed
  };
  /// Planned losses that have come to pass, in their order. Those that have not are given up.
  [[nodiscard]] std::vector<Loss> take_losses();
  [[nodiscard]] int64_t calls() const;
  /// Everything as it is now, all of it durable.
  [[nodiscard]] std::unique_ptr<MemoryFileSystem> copy(uint64_t seed) const;

  /// What a kernel does when the disk refuses pages: they are clean from now on, and no later sync writes them unless
  /// they are written again.
  void forget_unsynced(const std::string& path);

  /// Paths of all files, ascending.
  [[nodiscard]] std::vector<std::string> files() const;
  [[nodiscard]] std::string content(const std::string& path) const;
  /// Makes a file of these bytes, or replaces one; durable.
  void set_content(const std::string& path, std::string_view bytes);
  /// Writes everything below a real directory, to be looked at.
  void save_to(const std::string& directory) const;

  Result<std::unique_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override;
  bool exists(const std::string& path) override;
  bool is_directory(const std::string& path) override;
  Status make_directories(const std::string& path) override;
  Status remove(const std::string& path) override;
  Status remove_all(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Status sync_directory(const std::string& path) override;
  Status sync_everything(const std::string& directory) override;
  Result<std::unique_ptr<io::DirectoryLock>> lock(const std::string& path) override;
  double used_ratio(const std::string&) override { return 0.1; }

 private:
  class Inode;
  class Handle;
  class Region;
  class Lock;
  struct NameChange {
    enum class Kind : uint8_t { kAdd, kRemove, kRename } kind;
    std::string path, to;
    std::shared_ptr<Inode> inode;  // of what is added; null: a directory
    bool synced = false;           // in its directory, whose own name is not durable yet
  };
  using Tree = std::map<std::string, std::shared_ptr<Inode>>;  // path to file, or null for a directory

  static std::string parent(const std::string& path) { return path.substr(0, path.rfind('/')); }
  [[nodiscard]] static bool apply(const NameChange& change, Tree& tree);
  void change(NameChange change);
  void step(const char* call, const std::string& path);
  void write_something_back();
  [[nodiscard]] std::unique_ptr<MemoryFileSystem> image(uint64_t seed) const;
  [[nodiscard]] Status missing(const char* call, const std::string& path) const;

  mutable std::mutex mutex_;
  Random random_;                             // guarded by mutex_
  Tree live_, durable_;                       // guarded by mutex_
  std::vector<NameChange> pending_;           // guarded by mutex_: changes of live_ that durable_ has not
  std::set<std::string> locked_;              // guarded by mutex_
  int64_t calls_ = 0;                         // guarded by mutex_
  std::multimap<int64_t, uint64_t> planned_;  // guarded by mutex_: seeds by call
  std::vector<Loss> losses_;                  // guarded by mutex_
  std::function<void()> listener_;            // guarded by mutex_
};

}  // namespace apogee::test
