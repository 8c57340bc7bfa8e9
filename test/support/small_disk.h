#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

namespace apogee::test {

/// A file system of its own size on a directory, seen by the calling thread and by what it starts from now on, and gone
/// with them. Needs root; why_not() tells. Thread: the one that made it.
class SmallDisk {
 public:
  SmallDisk(const std::filesystem::path& directory, int mib)
      : directory_(directory), home_(::open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC)) {
    std::filesystem::create_directories(directory_);
    if (::geteuid() != 0)
      why_not_ = "not root";
    else if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
             ::mount("tmpfs", directory_.c_str(), "tmpfs", 0, size(mib).c_str()) != 0)
      why_not_ = std::strerror(errno);
  }
  ~SmallDisk() {
    ::umount2(directory_.c_str(), MNT_DETACH);
    if (why_not_.empty() && ::setns(home_, CLONE_NEWNS) != 0) std::abort();
    ::close(home_);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] const std::string& why_not() const { return why_not_; }
  [[nodiscard]] bool resize(int mib) {
    return ::mount("tmpfs", directory_.c_str(), "tmpfs", MS_REMOUNT, size(mib).c_str()) == 0;
  }
  [[nodiscard]] int64_t available_bytes() const {
    return static_cast<int64_t>(std::filesystem::space(directory_).available);
  }

 private:
  static std::string size(int mib) { return "size=" + std::to_string(mib) + "m"; }
  const std::filesystem::path directory_;
  const int home_;
  std::string why_not_;
};

}  // namespace apogee::test
