#include "apogee/allocation.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>

#include "common/base/bytes.h"

namespace apogee {
namespace {

using Queues = std::vector<MessageQueue>;
using Clients = std::vector<std::string>;

/// nullopt-like: false when the client is not a member.
bool index_of(const Clients& clients, const std::string& client, size_t* index) {
  auto found = std::find(clients.begin(), clients.end(), client);
  if (found == clients.end()) return false;
  *index = static_cast<size_t>(std::distance(clients.begin(), found));
  return true;
}

uint32_t ring_position(std::string_view key) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(key.data(), key.size(), digest.data(), &size, EVP_md5(), nullptr) != 1 || size < 4) return 0;
  return load_be<uint32_t>(digest.data());
}

/// As Java prints a queue: the text that is hashed.
std::string text_of(const MessageQueue& queue) {
  return "MessageQueue [topic=" + queue.topic + ", brokerName=" + queue.broker_name +
         ", queueId=" + std::to_string(queue.queue_id) + "]";
}

}  // namespace

AllocationStrategy allocate_averagely() {
  return {"AVG", [](const std::string&, const std::string& client, const Queues& queues, const Clients& clients) {
            size_t k = 0;
            Queues share;
            if (!index_of(clients, client, &k)) return share;
            const size_t quotient = queues.size() / clients.size();
            const size_t remainder = queues.size() % clients.size();
            const size_t count = quotient + (k < remainder ? 1 : 0);
            const size_t start = k < remainder ? k * (quotient + 1) : k * quotient + remainder;
            for (size_t i = start; i < start + count && i < queues.size(); ++i) share.push_back(queues[i]);
            return share;
          }};
}

AllocationStrategy allocate_averagely_by_circle() {
  return {"AVG_BY_CIRCLE",
          [](const std::string&, const std::string& client, const Queues& queues, const Clients& clients) {
            size_t k = 0;
            Queues share;
            if (!index_of(clients, client, &k)) return share;
            for (size_t i = k; i < queues.size(); i += clients.size()) share.push_back(queues[i]);
            return share;
          }};
}

AllocationStrategy allocate_by_config(Queues fixed) {
  return {"CONFIG",
          [fixed = std::move(fixed)](const std::string&, const std::string&, const Queues& queues, const Clients&) {
            // The list may hold queues of several topics; this call is about one.
            Queues share;
            for (const auto& queue : fixed) {
              if (queues.empty() || queue.topic == queues.front().topic) share.push_back(queue);
            }
            return share;
          }};
}

AllocationStrategy allocate_by_machine_room(std::set<std::string> rooms) {
  return {"MACHINE_ROOM", [rooms = std::move(rooms)](const std::string&, const std::string& client,
                                                     const Queues& queues, const Clients& clients) {
            size_t k = 0;
            Queues share;
            if (!index_of(clients, client, &k)) return share;
            Queues wanted;
            for (const auto& queue : queues) {
              const auto at = queue.broker_name.find('@');
              if (at == std::string::npos || queue.broker_name.find('@', at + 1) != std::string::npos) continue;
              if (rooms.count(queue.broker_name.substr(0, at)) != 0) wanted.push_back(queue);
            }
            const size_t quotient = wanted.size() / clients.size();
            const size_t remainder = wanted.size() % clients.size();
            for (size_t i = k * quotient; i < (k + 1) * quotient; ++i) share.push_back(wanted[i]);
            if (k < remainder) share.push_back(wanted[k + quotient * clients.size()]);
            return share;
          }};
}

AllocationStrategy allocate_nearby_machine_room(AllocationStrategy inner,
                                                std::function<std::string(const MessageQueue&)> room_of_queue,
                                                std::function<std::string(const std::string&)> room_of_client) {
  std::string name = "MACHINE_ROOM_NEARBY-" + inner.name;
  return {std::move(name),
          [inner = std::move(inner.allocate), room_of_queue = std::move(room_of_queue),
           room_of_client = std::move(room_of_client)](const std::string& group, const std::string& client,
                                                       const Queues& queues, const Clients& clients) {
            size_t k = 0;
            Queues share;
            if (!index_of(clients, client, &k)) return share;
            std::map<std::string, Queues> queues_by_room;
            for (const auto& queue : queues) queues_by_room[room_of_queue(queue)].push_back(queue);
            std::map<std::string, Clients> clients_by_room;
            for (const auto& member : clients) clients_by_room[room_of_client(member)].push_back(member);
            const std::string own_room = room_of_client(client);
            for (const auto& [room, of_room] : queues_by_room) {
              Queues part;
              if (room == own_room) {
                part = inner(group, client, of_room, clients_by_room[own_room]);
              } else if (clients_by_room.count(room) == 0) {
                part = inner(group, client, of_room, clients);
              }
              share.insert(share.end(), part.begin(), part.end());
            }
            return share;
          }};
}

AllocationStrategy allocate_by_consistent_hash(int virtual_nodes) {
  return {"CONSISTENT_HASH",
          [virtual_nodes](const std::string&, const std::string& client, const Queues& queues, const Clients& clients) {
            size_t k = 0;
            Queues share;
            if (!index_of(clients, client, &k)) return share;
            std::map<uint32_t, const std::string*> ring;
            for (const auto& member : clients) {
              for (int i = 0; i < virtual_nodes; ++i) ring[ring_position(member + "-" + std::to_string(i))] = &member;
            }
            if (ring.empty()) return share;
            for (const auto& queue : queues) {
              auto node = ring.lower_bound(ring_position(text_of(queue)));
              if (node == ring.end()) node = ring.begin();
              if (*node->second == client) share.push_back(queue);
            }
            return share;
          }};
}

}  // namespace apogee
