#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "apogee/message_queue.h"

namespace apogee {

/// How the queues of a topic are divided among the members of a group. Every member computes its own share,
/// so all must use the same strategy and see the same input: both lists come sorted.
struct AllocationStrategy {
  /// Name, as Java clients report it.
  std::string name;
  std::function<std::vector<MessageQueue>(const std::string& group, const std::string& client_id,
                                          const std::vector<MessageQueue>& queues,
                                          const std::vector<std::string>& client_ids)>
      allocate;
};

/// "AVG": contiguous shares that differ by at most one. The default.
AllocationStrategy allocate_averagely();
/// "AVG_BY_CIRCLE": queue i goes to member i modulo the number of members.
AllocationStrategy allocate_averagely_by_circle();
/// "CONFIG": always these queues.
AllocationStrategy allocate_by_config(std::vector<MessageQueue> queues);
/// "MACHINE_ROOM": only queues whose broker is named `room@name` with one of these rooms.
AllocationStrategy allocate_by_machine_room(std::set<std::string> rooms);
/// "MACHINE_ROOM_NEARBY-<inner>": the inner strategy for each room; rooms without members are shared by all.
AllocationStrategy allocate_nearby_machine_room(AllocationStrategy inner,
                                                std::function<std::string(const MessageQueue&)> room_of_queue,
                                                std::function<std::string(const std::string&)> room_of_client);
/// "CONSISTENT_HASH": a ring of MD5 hashes with so many points per member.
AllocationStrategy allocate_by_consistent_hash(int virtual_nodes = 10);

}  // namespace apogee
