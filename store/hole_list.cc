#include "store/hole_list.h"

#include <algorithm>
#include <iterator>

namespace apogee::store {

void HoleList::add(LogOffset begin, LogOffset end) {
  if (begin >= end) return;
  std::lock_guard lock(mutex_);
  auto it = ends_.upper_bound(begin);
  if (it != ends_.begin() && std::prev(it)->second >= begin) --it;
  while (it != ends_.end() && it->first <= end) {
    begin = std::min(begin, it->first);
    end = std::max(end, it->second);
    it = ends_.erase(it);
  }
  ends_[begin] = end;
  any_ = true;
}

void HoleList::remove(LogOffset begin, LogOffset end) {
  std::lock_guard lock(mutex_);
  auto it = ends_.upper_bound(begin);
  if (it != ends_.begin() && std::prev(it)->second > begin) --it;
  while (it != ends_.end() && it->first < end) {
    const auto [from, to] = *it;
    it = ends_.erase(it);
    if (from < begin) ends_[from] = begin;
    if (to > end) ends_[end] = to;
  }
  any_ = !ends_.empty();
}

LogOffset HoleList::end_at(LogOffset offset) const {
  if (!any_.load(std::memory_order_relaxed)) return -1;
  std::lock_guard lock(mutex_);
  auto it = ends_.upper_bound(offset);
  return it != ends_.begin() && std::prev(it)->second > offset ? std::prev(it)->second : -1;
}

bool HoleList::overlaps(LogOffset begin, LogOffset end) const {
  std::lock_guard lock(mutex_);
  auto it = ends_.lower_bound(end);
  return it != ends_.begin() && std::prev(it)->second > begin;
}

std::vector<Hole> HoleList::all() const {
  std::lock_guard lock(mutex_);
  std::vector<Hole> holes;
  for (const auto& [begin, end] : ends_) holes.push_back({begin, end});
  return holes;
}

}  // namespace apogee::store
