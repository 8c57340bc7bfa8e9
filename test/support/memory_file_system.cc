#include "test/support/memory_file_system.h"

#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace apogee::test {

namespace {

constexpr size_t kPage = 4096, kSector = 512;
constexpr size_t kReserved = 64u << 20;  // address space of a file

size_t up_to_page(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

/// Copies what another thread may be writing to, as a disk does.
#if defined(__SANITIZE_THREAD__)
#define APOGEE_TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define APOGEE_TEST_TSAN 1
#endif
#endif
#ifdef APOGEE_TEST_TSAN
__attribute__((no_sanitize("thread"))) void copy_racing(char* to, const char* from, size_t bytes) {
  for (volatile size_t i = 0; i < bytes; i = i + 1) to[i] = static_cast<const volatile char*>(from)[i];
}
#else
void copy_racing(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }
#endif

}  // namespace

/// Everything but the bytes behind memory() is guarded by the file system's mutex.
class MemoryFileSystem::Inode {
 public:
  Inode() {
    void* reserved = ::mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) throw std::runtime_error("no address space for a file in memory");
    memory_ = static_cast<char*>(reserved);
  }
  ~Inode() { ::munmap(memory_, kReserved); }
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  [[nodiscard]] char* memory() const { return memory_; }
  [[nodiscard]] size_t size() const { return size_; }

  [[nodiscard]] bool resize(size_t bytes) {
    if (bytes > kReserved) return false;
    if (bytes < size_) std::memset(memory_ + bytes, 0, up_to_page(size_) - bytes);
    size_t usable = up_to_page(bytes);
    if (usable > usable_) ::mprotect(memory_ + usable_, usable - usable_, PROT_READ | PROT_WRITE);
    if (usable < usable_) ::mprotect(memory_ + usable, usable_ - usable, PROT_NONE);
    usable_ = usable;
    size_ = bytes;
    return true;
  }
  [[nodiscard]] bool write(size_t offset, std::string_view bytes) {
    if (offset + bytes.size() > size_ && !resize(offset + bytes.size())) return false;
    std::memcpy(memory_ + offset, bytes.data(), bytes.size());
    return true;
  }
  [[nodiscard]] std::string content() const {
    std::string bytes(size_, '\0');
    copy_racing(bytes.data(), memory_, size_);
    return bytes;
  }

  /// Makes the pages of a range durable, and the length.
  void sync(size_t begin, size_t end) {
    durable_.resize(size_, '\0');
    end = std::min(end, size_);
    for (size_t page = begin / kPage * kPage; page < end; page += kPage) sync_page(page);
  }
  void sync_page(size_t page) {
    if (durable_.size() < size_) durable_.resize(size_, '\0');
    if (page >= size_) return;
    size_t bytes = std::min(kPage, size_ - page);
    if (auto taken = taken_for_clean_.find(page); taken != taken_for_clean_.end()) {
      std::string now(bytes, '\0');
      copy_racing(now.data(), memory_ + page, bytes);
      if (now == taken->second) return;
      taken_for_clean_.erase(taken);
    }
    if (durable_.size() < page + bytes) durable_.resize(page + bytes, '\0');
    copy_racing(durable_.data() + page, memory_ + page, bytes);
  }
  void forget_unsynced() {
    std::string now = content();
    for (size_t page = 0; page < now.size(); page += kPage) {
      std::string bytes = now.substr(page, kPage);
      if (durable_.compare(std::min(page, durable_.size()), kPage, bytes) != 0)
        taken_for_clean_[page] = std::move(bytes);
    }
  }

  /// What is found after the power has failed. pages, torn: how likely a page survives, or some of its sectors do.
  [[nodiscard]] std::string survivor(Random& random, double pages, double torn) const {
    std::string now = content();
    std::string found = durable_;
    if (now.size() != found.size() && random.chance(pages)) found.resize(now.size(), '\0');
    for (size_t page = 0; page < std::min(now.size(), found.size()); page += kPage) {
      size_t end = std::min({page + kPage, now.size(), found.size()});
      if (found.compare(page, end - page, now, page, end - page) == 0) continue;
      bool whole = random.chance(pages), in_sectors = random.chance(torn);
      for (size_t sector = page; sector < end; sector += kSector) {
        size_t bytes = std::min(kSector, end - sector);
        if (in_sectors ? random.chance(0.5) : whole) found.replace(sector, bytes, now, sector, bytes);
      }
    }
    return found;
  }

 private:
  char* memory_;
  size_t size_ = 0, usable_ = 0;
  std::string durable_;
  std::map<size_t, std::string> taken_for_clean_;  // by position: pages that no sync writes as long as they are so
};

class MemoryFileSystem::Region final : public io::MappedRegion {
 public:
  Region(std::shared_ptr<Inode> inode, size_t bytes) : inode_(std::move(inode)), bytes_(bytes) {}
  char* data() const override { return inode_->memory(); }
  size_t size() const override { return bytes_; }
  bool populate(size_t, size_t) override { return true; }
  bool lock_in_memory() override { return true; }

 private:
  std::shared_ptr<Inode> inode_;
  size_t bytes_;
};

class MemoryFileSystem::Handle final : public io::File {
 public:
  Handle(MemoryFileSystem& files, std::string path, std::shared_ptr<Inode> inode)
      : files_(files), path_(std::move(path)), inode_(std::move(inode)) {}

  Result<size_t> read_at(int64_t offset, char* to, size_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    auto from = std::min(static_cast<size_t>(offset), inode_->size());
    bytes = std::min(bytes, inode_->size() - from);
    std::memcpy(to, inode_->memory() + from, bytes);
    return bytes;
  }
  Status write_at(int64_t offset, std::string_view bytes) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("write", path_);
    return done(inode_->write(static_cast<size_t>(offset), bytes));
  }
  Status sync() override {
    std::lock_guard lock(files_.mutex_);
    files_.step("sync", path_);
    inode_->sync(0, inode_->size());
    return {};
  }
  Status sync_range(int64_t offset, int64_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("sync", path_);
    inode_->sync(static_cast<size_t>(offset), static_cast<size_t>(offset + bytes));
    return {};
  }
  Status write_zeros(int64_t offset, int64_t bytes, bool on_disk) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("write zeros", path_);
    const bool fits = inode_->write(static_cast<size_t>(offset), std::string(static_cast<size_t>(bytes), '\0'));
    if (fits && on_disk) inode_->sync(static_cast<size_t>(offset), static_cast<size_t>(offset + bytes));
    return done(fits);
  }
  void start_write_back(int64_t offset, int64_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("write back", path_);
    for (int64_t page = offset / static_cast<int64_t>(kPage); page * static_cast<int64_t>(kPage) < offset + bytes;
         ++page)
      if (files_.random_.chance(0.5)) inode_->sync_page(static_cast<size_t>(page) * kPage);
  }
  Result<int64_t> next_data(int64_t offset) override {
    std::lock_guard lock(files_.mutex_);
    auto at = static_cast<size_t>(offset);
    std::string now = inode_->content();
    auto found = now.find_first_not_of('\0', at);
    if (found == std::string::npos) return static_cast<int64_t>(inode_->size());
    return std::max(offset, static_cast<int64_t>(found / kPage * kPage));  // known by page, as with real ones
  }
  Status allocate(int64_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("allocate", path_);
    return static_cast<size_t>(bytes) <= inode_->size() ? Status() : done(inode_->resize(static_cast<size_t>(bytes)));
  }
  Status resize(int64_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("resize", path_);
    return done(inode_->resize(static_cast<size_t>(bytes)));
  }
  Status zero(int64_t offset, int64_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    files_.step("zero", path_);
    size_t begin = std::min(static_cast<size_t>(offset), inode_->size());
    size_t end = std::min(static_cast<size_t>(offset + bytes), inode_->size());
    std::memset(inode_->memory() + begin, 0, end - begin);
    return {};
  }
  Result<int64_t> size() override {
    std::lock_guard lock(files_.mutex_);
    return static_cast<int64_t>(inode_->size());
  }
  Result<std::shared_ptr<io::MappedRegion>> map(size_t bytes) override {
    std::lock_guard lock(files_.mutex_);
    return std::shared_ptr<io::MappedRegion>(std::make_shared<Region>(inode_, bytes));
  }

 private:
  Status done(bool fits) const { return fits ? Status() : Status(Error(Errc::kDiskFull, path_ + ": too large")); }
  MemoryFileSystem& files_;
  const std::string path_;
  const std::shared_ptr<Inode> inode_;
};

class MemoryFileSystem::Lock final : public io::DirectoryLock {
 public:
  Lock(MemoryFileSystem& files, std::string path) : files_(files), path_(std::move(path)) {}
  ~Lock() override {
    std::lock_guard lock(files_.mutex_);
    files_.locked_.erase(path_);
  }

 private:
  MemoryFileSystem& files_;
  const std::string path_;
};

MemoryFileSystem::MemoryFileSystem(uint64_t seed) : random_(seed) { live_[""] = durable_[""] = nullptr; }
MemoryFileSystem::~MemoryFileSystem() = default;

Status MemoryFileSystem::missing(const char* call, const std::string& path) const {
  return Error(Errc::kNotFound, fmt::format("{} {}: No such file or directory", call, path));
}

/// Changes the tree unless what the change needs is not there.
bool MemoryFileSystem::apply(const NameChange& change, Tree& tree) {
  auto has_directory = [&tree](const std::string& path) {
    auto found = tree.find(path);
    return found != tree.end() && !found->second;
  };
  auto below = [&tree](const std::string& path) { return tree.lower_bound(path + "/"); };
  auto is_below = [&tree](Tree::iterator at, const std::string& path) {
    return at != tree.end() && at->first.compare(0, path.size() + 1, path + "/") == 0;
  };
  if (change.kind == NameChange::Kind::kAdd) {
    if (!has_directory(parent(change.path))) return false;
    tree[change.path] = change.inode;
    return true;
  }
  if (change.kind == NameChange::Kind::kRemove) {
    if (tree.count(change.path) == 0 || is_below(below(change.path), change.path)) return false;
    tree.erase(change.path);
    return true;
  }
  if (tree.count(change.path) == 0 || !has_directory(parent(change.to))) return false;
  if (is_below(below(change.to), change.to)) return false;
  tree[change.to] = tree[change.path];
  tree.erase(change.path);
  std::vector<std::pair<std::string, std::shared_ptr<Inode>>> moved;
  for (auto at = below(change.path); is_below(at, change.path); at = tree.erase(at))
    moved.emplace_back(change.to + at->first.substr(change.path.size()), at->second);
  for (auto& each : moved) tree.insert(std::move(each));
  return true;
}

void MemoryFileSystem::change(NameChange change) {
  if (!apply(change, live_)) throw std::logic_error("a change of names that cannot be");
  pending_.push_back(std::move(change));
}

void MemoryFileSystem::step(const char* call, const std::string& path) {
  ++calls_;
  for (auto due = planned_.begin(); due != planned_.end() && due->first <= calls_; due = planned_.erase(due)) {
    if (listener_) listener_();
    losses_.push_back({image(due->second), fmt::format("{} {}", call, path)});
  }
  if (random_.chance(0.2)) write_something_back();
}

void MemoryFileSystem::write_something_back() {
  if (random_.chance(0.1)) {
    // As a journal does: names in their order.
    for (const auto& each : pending_) static_cast<void>(apply(each, durable_));
    pending_.clear();
  }
  auto chosen = live_.begin();
  std::advance(chosen, random_.below(static_cast<int64_t>(live_.size())));
  if (!chosen->second) return;
  Inode& inode = *chosen->second;
  for (size_t page = 0; page < inode.size(); page += kPage)
    if (random_.chance(0.5)) inode.sync_page(page);
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::image(uint64_t seed) const {
  Random random(seed);
  auto some = [&random] {
    constexpr double kChances[] = {0, 0, 1, 0.5, 0.1, 0.9};
    return kChances[random.below(std::size(kChances))];
  };
  const double pages = some(), torn = random.chance(0.5) ? 0 : some(), names = some();
  Tree tree = durable_;
  bool in_order = random.chance(0.5), going = true;
  for (const auto& each : pending_) {
    bool happened = each.synced || random.chance(names);
    going = going && happened;
    if (in_order ? going : happened) static_cast<void>(apply(each, tree));
  }
  auto made = std::make_unique<MemoryFileSystem>(random.next());
  for (const auto& [path, inode] : tree) {
    if (inode) {
      made->set_content(path, inode->survivor(random, pages, torn));
    } else {
      made->live_[path] = made->durable_[path] = nullptr;
    }
  }
  return made;
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::lose_power(uint64_t seed) {
  std::lock_guard lock(mutex_);
  return image(seed);
}

void MemoryFileSystem::plan_loss(int64_t calls, uint64_t seed) {
  std::lock_guard lock(mutex_);
  planned_.emplace(calls_ + std::max<int64_t>(1, calls), seed);
}

void MemoryFileSystem::on_loss(std::function<void()> listener) {
  std::lock_guard lock(mutex_);
  listener_ = std::move(listener);
}

std::vector<MemoryFileSystem::Loss> MemoryFileSystem::take_losses() {
  std::lock_guard lock(mutex_);
  planned_.clear();
  return std::exchange(losses_, {});
}

int64_t MemoryFileSystem::calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

std::unique_ptr<MemoryFileSystem> MemoryFileSystem::copy(uint64_t seed) const {
  std::lock_guard lock(mutex_);
  auto made = std::make_unique<MemoryFileSystem>(seed);
  for (const auto& [path, inode] : live_) {
    if (inode) {
      made->set_content(path, inode->content());
    } else {
      made->live_[path] = made->durable_[path] = nullptr;
    }
  }
  return made;
}

void MemoryFileSystem::forget_unsynced(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (auto found = live_.find(path); found != live_.end() && found->second) found->second->forget_unsynced();
}

std::vector<std::string> MemoryFileSystem::files() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> paths;
  for (const auto& [path, inode] : live_)
    if (inode) paths.push_back(path);
  return paths;
}

std::string MemoryFileSystem::content(const std::string& path) const {
  std::lock_guard lock(mutex_);
  auto found = live_.find(path);
  return found == live_.end() || !found->second ? std::string() : found->second->content();
}

void MemoryFileSystem::set_content(const std::string& path, std::string_view bytes) {
  std::lock_guard lock(mutex_);
  auto inode = std::make_shared<Inode>();
  if (!inode->write(0, bytes)) throw std::length_error(path);
  inode->sync(0, bytes.size());
  live_[path] = durable_[path] = std::move(inode);
}

void MemoryFileSystem::save_to(const std::string& directory) const {
  std::lock_guard lock(mutex_);
  for (const auto& [path, inode] : live_) {
    std::filesystem::path to = directory + path;
    if (inode) {
      std::string bytes = inode->content();
      std::ofstream(to, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    } else {
      std::filesystem::create_directories(to);
    }
  }
}

Result<std::unique_ptr<io::File>> MemoryFileSystem::open(const std::string& path, io::OpenMode mode) {
  std::lock_guard lock(mutex_);
  auto found = live_.find(path);
  if (found == live_.end()) {
    auto above = live_.find(parent(path));
    if (mode == io::OpenMode::kExisting || above == live_.end()) return missing("open", path).error();
    if (above->second) return Error(Errc::kIo, fmt::format("open {}: Not a directory", path));
    step("create", path);
    change({NameChange::Kind::kAdd, path, {}, std::make_shared<Inode>()});
    found = live_.find(path);
  }
  if (!found->second) return Error(Errc::kIo, fmt::format("open {}: Is a directory", path));
  return std::unique_ptr<io::File>(std::make_unique<Handle>(*this, path, found->second));
}

Result<std::vector<std::string>> MemoryFileSystem::list(const std::string& directory) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  auto itself = live_.find(directory);
  if (itself == live_.end()) return names;
  if (itself->second) return Error(Errc::kIo, fmt::format("list {}: Not a directory", directory));
  for (auto at = live_.lower_bound(directory + "/"); at != live_.end(); ++at) {
    if (at->first.compare(0, directory.size() + 1, directory + "/") != 0) break;
    std::string name = at->first.substr(directory.size() + 1);
    if (name.find('/') == std::string::npos) names.push_back(std::move(name));
  }
  return names;
}

bool MemoryFileSystem::exists(const std::string& path) {
  std::lock_guard lock(mutex_);
  return path == "/" || live_.count(path) != 0;
}

bool MemoryFileSystem::is_directory(const std::string& path) {
  std::lock_guard lock(mutex_);
  auto found = live_.find(path);
  return found != live_.end() && !found->second;
}

Status MemoryFileSystem::make_directories(const std::string& path) {
  std::lock_guard lock(mutex_);
  for (size_t slash = path.find('/', 1); true; slash = path.find('/', slash + 1)) {
    std::string prefix = path.substr(0, slash);
    auto found = live_.find(prefix);
    if (found != live_.end() && found->second)
      return Error(Errc::kIo, fmt::format("create {}: {} is not a directory", path, prefix));
    if (found == live_.end()) {
      step("make", prefix);
      change({NameChange::Kind::kAdd, prefix, {}, nullptr});
    }
    if (slash == std::string::npos) return {};
  }
}

Status MemoryFileSystem::remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  auto found = live_.find(path);
  if (found == live_.end()) return missing("remove", path);
  if (!found->second) return Error(Errc::kIo, fmt::format("remove {}: Is a directory", path));
  step("remove", path);
  change({NameChange::Kind::kRemove, path, {}, nullptr});
  return {};
}

Status MemoryFileSystem::remove_all(const std::string& path) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> below;
  for (const auto& [each, inode] : live_)
    if (each == path || each.compare(0, path.size() + 1, path + "/") == 0) below.push_back(each);
  for (auto each = below.rbegin(); each != below.rend(); ++each) {
    step("remove", *each);
    change({NameChange::Kind::kRemove, *each, {}, nullptr});
  }
  return {};
}

Status MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  if (live_.count(from) == 0 || live_.count(parent(to)) == 0) return missing("rename", from);
  step("rename", from);
  NameChange renamed{NameChange::Kind::kRename, from, to, nullptr};
  if (!apply(renamed, live_)) return Error(Errc::kIo, fmt::format("rename {}: {} is in the way", from, to));
  pending_.push_back(std::move(renamed));
  return {};
}

Status MemoryFileSystem::sync_directory(const std::string& of) {
  std::lock_guard lock(mutex_);
  const std::string path = of == "/" ? "" : of;
  auto found = live_.find(path);
  if (found == live_.end() || found->second) return missing("sync", path);
  step("sync directory", path);
  std::vector<NameChange> left;
  for (auto& each : pending_) {
    each.synced = each.synced || parent(each.path) == path || (!each.to.empty() && parent(each.to) == path);
    if (!each.synced || !apply(each, durable_)) left.push_back(std::move(each));
  }
  pending_ = std::move(left);
  return {};
}

Status MemoryFileSystem::sync_everything(const std::string& directory) {
  std::lock_guard lock(mutex_);
  if (live_.count(directory) == 0) return missing("sync", directory);
  step("sync everything", directory);
  for (auto& [path, inode] : live_)
    if (inode) inode->sync(0, inode->size());
  durable_ = live_;
  pending_.clear();
  return {};
}

Result<std::unique_ptr<io::DirectoryLock>> MemoryFileSystem::lock(const std::string& path) {
  APOGEE_TRY_ASSIGN(auto file, open(path, io::OpenMode::kCreate));
  {
    std::lock_guard lock(mutex_);
    if (!locked_.insert(path).second)
      return Error(
          Errc::kAlreadyExists,
          fmt::format("{} is held by process {}: only one broker can work on a store directory", path, ::getpid()));
  }
  auto held = std::make_unique<Lock>(*this, path);
  std::string content = fmt::format("lock\n{}\n", ::getpid());
  APOGEE_TRY(file->write_at(0, content));
  APOGEE_TRY(file->resize(static_cast<int64_t>(content.size())));
  return std::unique_ptr<io::DirectoryLock>(std::move(held));
}

}  // namespace apogee::test
