#include "store/open_files.h"

#include <set>

namespace apogee::store {

namespace {

/// More files than this are synced with their whole file system, at one wait for the disk.
constexpr size_t kSyncsMax = 64;

}  // namespace

Result<std::shared_ptr<io::File>> OpenFiles::get(const std::string& path, io::OpenMode mode) {
  std::lock_guard lock(mutex_);
  if (auto found = by_path_.find(path); found != by_path_.end()) {
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }
  APOGEE_TRY_ASSIGN(auto opened, files_.open(path, mode));
  std::shared_ptr<io::File> file = std::move(opened);
  order_.emplace_front(path, file);
  by_path_[path] = order_.begin();
  if (order_.size() > limit_) {
    by_path_.erase(order_.back().first);
    order_.pop_back();
  }
  return file;
}

void OpenFiles::forget(const std::string& path) {
  std::lock_guard lock(mutex_);
  auto found = by_path_.find(path);
  if (found == by_path_.end()) return;
  order_.erase(found->second);
  by_path_.erase(found);
}

void OpenFiles::forget_below(const std::string& directory) {
  std::string prefix = directory + "/";
  std::lock_guard lock(mutex_);
  for (auto it = order_.begin(); it != order_.end();) {
    if (it->first.compare(0, prefix.size(), prefix) == 0) {
      by_path_.erase(it->first);
      it = order_.erase(it);
    } else {
      ++it;
    }
  }
}

void OpenFiles::mark_dirty(const std::string& path, bool made) {
  std::lock_guard lock(mutex_);
  bool& dirty_and_made = dirty_[path];
  dirty_and_made = dirty_and_made || made;
}

Status OpenFiles::sync_dirty(const std::string& directory) {
  std::unordered_map<std::string, bool> dirty;
  {
    std::lock_guard lock(mutex_);
    dirty.swap(dirty_);
  }
  if (dirty.size() > kSyncsMax) return files_.sync_everything(directory);
  std::set<std::string> directories;
  for (const auto& [path, made] : dirty) {
    auto file = get(path, io::OpenMode::kExisting);
    if (!file && file.error().code == Errc::kNotFound) continue;
    if (!file) return file.error();
    APOGEE_TRY((*file)->sync());
    if (!made) continue;
    std::string above = path;
    for (int level = 0; level < 3; ++level) {  // queue, topic, all queues
      above.resize(above.rfind('/'));
      directories.insert(above);
    }
  }
  for (const auto& made : directories) {
    auto synced = files_.sync_directory(made);
    if (!synced && synced.error().code != Errc::kNotFound) return synced;
  }
  return {};
}

}  // namespace apogee::store
