#include "tools/mqbench/measure/histogram.h"

#include <algorithm>
#include <cmath>

namespace mqbench {

int64_t Histogram::value_of(uint32_t index) {
  if (index < (2U << kSubBits)) return index;
  const uint32_t shift = (index >> kSubBits) - 1;
  const auto low = static_cast<int64_t>(index - (shift << kSubBits)) << shift;
  return low + (int64_t{1} << shift) / 2;
}

void Histogram::merge(const Histogram& other) {
  for (uint32_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
  min_ = std::min(min_, other.min_);
}

void Histogram::merge(const Sparse& other) {
  for (const auto& bucket : other) record(value_of(bucket.index), bucket.count);
}

void Histogram::clear() {
  if (count_ != 0)
    std::fill(counts_.begin() + index_of(static_cast<uint64_t>(min_)),
              counts_.begin() + index_of(static_cast<uint64_t>(max_)) + 1, 0);
  count_ = 0;
  sum_ = 0;
  max_ = 0;
  min_ = kValueMax;
}

Histogram::Sparse Histogram::sparse() const {
  Sparse all;
  if (count_ == 0) return all;
  for (uint32_t i = index_of(static_cast<uint64_t>(min_)); i <= index_of(static_cast<uint64_t>(max_)); ++i)
    if (counts_[i] != 0) all.push_back({i, static_cast<uint32_t>(std::min<uint64_t>(counts_[i], UINT32_MAX))});
  return all;
}

int64_t Histogram::quantile(double share) const {
  if (count_ == 0) return 0;
  const auto wanted = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (uint32_t i = index_of(static_cast<uint64_t>(min_)); i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= wanted) return std::clamp(value_of(i), min_, max_);
  }
  return max_;
}

}  // namespace mqbench
