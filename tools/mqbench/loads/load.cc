#include "tools/mqbench/loads/load.h"

#include <fmt/core.h>

#include <bit>

namespace mqbench {

namespace {
constexpr size_t kProblemsMax = 20;
}

void Problems::add(const std::string& text) {
  std::lock_guard lock(mutex_);
  for (auto& [known, times] : list_)
    if (known == text) {
      ++times;
      return;
    }
  if (list_.size() < kProblemsMax) list_.emplace_back(text, 1);
}

std::vector<std::string> Problems::all() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> texts;
  for (const auto& [text, times] : list_)
    texts.push_back(times == 1 ? text : fmt::format("{} ({} times)", text, times));
  return texts;
}

bool Problems::none() const {
  std::lock_guard lock(mutex_);
  return list_.empty();
}

void SequenceSet::merge(const SequenceSet& other) {
  if (words_.size() < other.words_.size()) words_.resize(other.words_.size());
  for (size_t i = 0; i < other.words_.size(); ++i) words_[i] |= other.words_[i];
}

uint64_t SequenceSet::missing_in(const SequenceSet& other) const {
  uint64_t missing = 0;
  for (size_t i = 0; i < words_.size(); ++i)
    missing += static_cast<uint64_t>(std::popcount(words_[i] & ~(i < other.words_.size() ? other.words_[i] : 0)));
  return missing;
}

uint64_t SequenceSet::count() const {
  uint64_t all = 0;
  for (uint64_t word : words_) all += static_cast<uint64_t>(std::popcount(word));
  return all;
}

uint64_t SequenceSet::end() const {
  for (size_t i = words_.size(); i > 0; --i)
    if (words_[i - 1] != 0) return i * 64 - static_cast<uint64_t>(std::countl_zero(words_[i - 1]));
  return 0;
}

}  // namespace mqbench
