#include "tools/mqbench/loads/route_load.h"

namespace mqbench {

namespace {
/// Neighbouring requests ask for topics far apart: a prime that is no factor of usual numbers of topics.
constexpr size_t kStride = 7'919;
}  // namespace

RouteLoad::RouteLoad(Worker& worker, Problems& problems, RequestPlan plan,
                     std::shared_ptr<const std::vector<RequestFrame>> requests)
    : RequestLoad(worker, problems, std::move(plan)), requests_(std::move(requests)) {}

void RouteLoad::write_request(Lane& lane, uint32_t opaque, uint64_t /*first_sequence*/, int64_t /*intended*/,
                              int64_t /*now*/) {
  const auto& request = (*requests_)[lane.cursor % requests_->size()];
  lane.cursor += kStride;
  char* to = lane.link->append(request.bytes);
  patch_opaque(to, request.opaque_at, request.type, opaque);
}

}  // namespace mqbench
