#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

namespace apogee::config {

/// A config field that may change while others read it. Numbers, bools and enums are relaxed atomics, so that
/// reading one on a hot path costs a plain load; a string is copied under a lock.
template <typename T>
class Tunable {
 public:
  Tunable(T value = T{}) : value_(value) {}  // NOLINT: assigned as the plain type would be
  Tunable(const Tunable& other) : value_(other.get()) {}
  Tunable& operator=(const Tunable& other) {
    set(other.get());
    return *this;
  }
  [[nodiscard]] T get() const { return value_.load(std::memory_order_relaxed); }
  void set(T value) { value_.store(value, std::memory_order_relaxed); }
  operator T() const { return get(); }  // NOLINT: read as the plain type would be

 private:
  std::atomic<T> value_;
};

template <>
class Tunable<std::string> {
 public:
  Tunable(std::string value = {}) : value_(std::move(value)) {}  // NOLINT
  Tunable(const char* value) : value_(value) {}                  // NOLINT
  Tunable(const Tunable& other) : value_(other.get()) {}
  Tunable& operator=(const Tunable& other) {
    if (this != &other) set(other.get());
    return *this;
  }
  [[nodiscard]] std::string get() const {
    std::lock_guard lock(mutex_);
    return value_;
  }
  void set(std::string value) {
    std::lock_guard lock(mutex_);
    value_ = std::move(value);
    version_.fetch_add(1, std::memory_order_release);
  }
  /// Another one after each change, for those who keep what they have made of the value.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  mutable std::mutex mutex_;
  std::atomic<uint64_t> version_{1};
  std::string value_;
};

}  // namespace apogee::config
