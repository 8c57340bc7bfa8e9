#include "common/base/crc32.h"

#include <libdeflate.h>

namespace apogee {

uint32_t crc32(std::string_view bytes, uint32_t so_far) {
  return bytes.empty() ? so_far : libdeflate_crc32(so_far, bytes.data(), bytes.size());
}

}  // namespace apogee
