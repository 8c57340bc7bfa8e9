#include "client/src/offset_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "common/remoting/bodies/client_bodies.h"

namespace apogee {
namespace {

Error io_error(const std::string& path, const char* what, int number) {
  return {number == ENOSPC ? Errc::kDiskFull : Errc::kIo, path + ": " + what + ": " + std::strerror(number)};
}

Result<std::map<MessageQueue, int64_t>> load_one(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error{Errc::kNotFound, path + ": cannot be opened"};
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto body = remoting::decode_reset_offset_body(text);
  if (!body) return Error{Errc::kCorrupt, path + ": " + body.error().message};
  return std::move(body->offset_table);
}

}  // namespace

void OffsetStore::update(const MessageQueue& queue, int64_t offset, bool increase_only) {
  std::lock_guard lock(mutex_);
  auto [entry, fresh] = entries_.try_emplace(queue);
  if (fresh || !increase_only || offset > entry->second.offset) entry->second.offset = offset;
}

void OffsetStore::set_persisted(const MessageQueue& queue, int64_t offset) {
  std::lock_guard lock(mutex_);
  entries_[queue] = {offset, offset};
}

std::optional<int64_t> OffsetStore::get(const MessageQueue& queue) const {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(queue);
  if (found == entries_.end()) return std::nullopt;
  return found->second.offset;
}

void OffsetStore::remove(const MessageQueue& queue) {
  std::lock_guard lock(mutex_);
  entries_.erase(queue);
}

std::map<MessageQueue, int64_t> OffsetStore::all() const {
  std::lock_guard lock(mutex_);
  std::map<MessageQueue, int64_t> offsets;
  for (const auto& [queue, entry] : entries_) offsets[queue] = entry.offset;
  return offsets;
}

std::map<MessageQueue, int64_t> OffsetStore::unpersisted() const {
  std::lock_guard lock(mutex_);
  std::map<MessageQueue, int64_t> offsets;
  for (const auto& [queue, entry] : entries_) {
    if (entry.offset != entry.persisted) offsets[queue] = entry.offset;
  }
  return offsets;
}

void OffsetStore::mark_persisted(const MessageQueue& queue, int64_t offset) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(queue);
  if (found != entries_.end()) found->second.persisted = offset;
}

OffsetFile::OffsetFile(const std::string& directory, const std::string& client_id, const std::string& group) {
  std::string base = directory;
  if (base.empty()) {
    const char* home = std::getenv("HOME");
    base = std::string(home != nullptr ? home : ".") + "/.rocketmq_offsets";
  }
  path_ = base + "/" + client_id + "/" + group + "/offsets.json";
}

Result<std::map<MessageQueue, int64_t>> OffsetFile::load() const {
  auto offsets = load_one(path_);
  if (offsets) return offsets;
  auto backup = load_one(path_ + ".bak");
  if (backup) return backup;
  if (offsets.error().code == Errc::kNotFound && backup.error().code == Errc::kNotFound) {
    return std::map<MessageQueue, int64_t>{};
  }
  return offsets.error().code == Errc::kNotFound ? std::move(backup) : std::move(offsets);
}

Status OffsetFile::save(const std::map<MessageQueue, int64_t>& offsets) const {
  std::error_code code;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), code);
  if (code) return io_error(path_, "its directory cannot be made", code.value());
  const std::string temporary = path_ + ".tmp";
  const std::string text = remoting::encode(remoting::ResetOffsetBody{offsets});
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return io_error(temporary, "cannot be opened", errno);
  size_t written = 0;
  while (written < text.size()) {
    const auto count = write(fd, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int number = errno;
      close(fd);
      return io_error(temporary, "cannot be written", number);
    }
    written += static_cast<size_t>(count);
  }
  const int synced = fsync(fd);
  const int sync_error = errno;
  close(fd);
  if (synced != 0) return io_error(temporary, "cannot be synced", sync_error);
  // Whenever the process ends, one of the two names is a whole file.
  if (rename(path_.c_str(), (path_ + ".bak").c_str()) != 0 && errno != ENOENT) {
    return io_error(path_, "cannot be renamed", errno);
  }
  if (rename(temporary.c_str(), path_.c_str()) != 0) return io_error(temporary, "cannot be renamed", errno);
  return {};
}

}  // namespace apogee
