#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/mqbench/loads/request_load.h"
#include "tools/mqbench/wire/frame_builder.h"

namespace mqbench {

/// Asks a NameServer for the routes of topics in turn.
class RouteLoad : public RequestLoad {
 public:
  /// requests: whole frames, shared by all workers.
  RouteLoad(Worker& worker, Problems& problems, RequestPlan plan,
            std::shared_ptr<const std::vector<RequestFrame>> requests);

 private:
  void write_request(Lane& lane, uint32_t opaque, uint64_t first_sequence, int64_t intended, int64_t now) override;
  std::shared_ptr<const std::vector<RequestFrame>> requests_;
};

}  // namespace mqbench
