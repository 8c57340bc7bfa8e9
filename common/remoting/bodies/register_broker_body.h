#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/remoting/bodies/topic_bodies.h"

namespace apogee::remoting {

struct RegisterBrokerBody {
  TopicConfigSerializeWrapper topic_config_wrapper;
  std::vector<std::string> filter_server_list;
};
std::string encode(const RegisterBrokerBody& body);
[[nodiscard]] Result<RegisterBrokerBody> decode_register_broker_body(std::string_view json);

/// First header version whose compressed registration ends with a mapping section (V5_0_0).
inline constexpr int32_t kCompressedRegistrationMappingVersion = 413;
inline constexpr size_t kRegisterBrokerBodyBytesMax = 64 * 1024 * 1024;  ///< after inflating

/// The compressed form (ext field compressed=true): a zlib stream. Topic system flags and the order mark are lost.
/// `header_version` is the version that the request's header will carry.
std::string encode_compressed(const RegisterBrokerBody& body, int32_t header_version);
/// Errors: kCorrupt for bytes that do not inflate or do not hold what they announce; kTooLarge beyond
/// kRegisterBrokerBodyBytesMax.
[[nodiscard]] Result<RegisterBrokerBody> decode_compressed_register_broker_body(std::string_view bytes,
                                                                                int32_t header_version);

}  // namespace apogee::remoting
