#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "common/remoting/command.h"
#include "common/remoting/header_view.h"

namespace apogee::remoting {

// Frame:  i32 length of what follows | u8 serialize type, u24 header bytes | header | body
inline constexpr size_t kFrameLengthBytes = 4;
inline constexpr size_t kFrameHeadBytes = 8;  ///< in front of the header
inline constexpr size_t kFrameBytesMaxDefault = 16 * 1024 * 1024;

/// Decodes what follows the length field of one frame. The body is a slice of `frame` (kept by its owner);
/// the header is copied. Errors: kCorrupt, naming the field; the connection cannot be used further then.
[[nodiscard]] Result<Command> decode_frame(const SharedBytes& frame);
/// The same of a frame whose JSON header was scanned already; nullopt: only decode_frame() can read it.
[[nodiscard]] std::optional<Command> decode_scanned(const HeaderView& header, const SharedBytes& frame);

/// The whole frame including its length, ready for one gathered write: first the header bytes, then the
/// body parts without copying.
[[nodiscard]] std::vector<SharedBytes> encode_frame(const Command& command);
/// Appends what stands in front of the frame's body: lengths and header.
void append_frame_head(std::string& to, const Command& command);

/// The same as one string; for tests, tools and small messages.
[[nodiscard]] std::string encode_frame_to_string(const Command& command);

/// Header bytes alone, in the command's serialization.
[[nodiscard]] std::string encode_header(const Command& command);

// For those who write the answers of a few codes themselves.

/// What stands behind the opaque in a JSON header of ours that has no remark.
[[nodiscard]] std::string json_header_tail();
/// Writes the kFrameHeadBytes at `frame` that stand in front of a header of so many bytes, and that announce a body.
void store_frame_head(char* frame, SerializeType serialize, size_t header_bytes, size_t body_bytes);

}  // namespace apogee::remoting
