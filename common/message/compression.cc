#include "common/message/compression.h"

#include <fmt/format.h>
#include <lz4frame.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "common/message/sys_flag.h"

namespace apogee::message {

namespace {

constexpr size_t kChunkBytes = 64 * 1024;

Error corrupt(const char* type, const char* what) { return Error{Errc::kCorrupt, fmt::format("{}: {}", type, what)}; }
Error too_large(size_t bytes_max) {
  return Error{Errc::kTooLarge, fmt::format("more than {} bytes after decompression", bytes_max)};
}

/// Makes room for the next piece, one byte more than is allowed at the most.
char* grow(std::string& out, size_t used, size_t bytes_max) {
  if (out.size() - used < kChunkBytes)
    out.resize(std::min(std::max(out.size() * 2, used + kChunkBytes), bytes_max + 1));
  return out.data() + used;
}

Result<std::string> compress_zlib(std::string_view bytes, int level) {
  std::string out(compressBound(static_cast<uLong>(bytes.size())), '\0');
  auto size = static_cast<uLongf>(out.size());
  int code = compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                       static_cast<uLong>(bytes.size()), level == 0 ? 5 : std::min(level, 9));
  if (code != Z_OK) return Error{Errc::kInternal, "zlib: compress2"};
  out.resize(size);
  return out;
}

Result<std::string> decompress_zlib(std::string_view bytes, size_t bytes_max) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return Error{Errc::kInternal, "zlib: inflateInit"};
  std::unique_ptr<z_stream, decltype(&inflateEnd)> end(&stream, &inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  size_t used = 0;
  while (true) {
    stream.next_out = reinterpret_cast<Bytef*>(grow(out, used, bytes_max));
    stream.avail_out = static_cast<uInt>(out.size() - used);
    int code = inflate(&stream, Z_NO_FLUSH);
    used = out.size() - stream.avail_out;
    if (used > bytes_max) return too_large(bytes_max);
    if (code == Z_STREAM_END) break;
    if (code != Z_OK || (stream.avail_in == 0 && stream.avail_out > 0)) return corrupt("zlib", "no whole stream");
  }
  out.resize(used);
  return out;
}

Result<std::string> compress_lz4(std::string_view bytes, int level) {
  LZ4F_preferences_t preferences{};
  preferences.compressionLevel = level;
  std::string out(LZ4F_compressFrameBound(bytes.size(), &preferences), '\0');
  size_t size = LZ4F_compressFrame(out.data(), out.size(), bytes.data(), bytes.size(), &preferences);
  if (LZ4F_isError(size) != 0) return Error{Errc::kInternal, "lz4: compressFrame"};
  out.resize(size);
  return out;
}

Result<std::string> decompress_lz4(std::string_view bytes, size_t bytes_max) {
  LZ4F_dctx* context = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)) != 0)
    return Error{Errc::kInternal, "lz4: createDecompressionContext"};
  std::unique_ptr<LZ4F_dctx, decltype(&LZ4F_freeDecompressionContext)> end(context, &LZ4F_freeDecompressionContext);
  std::string out;
  size_t used = 0;
  while (true) {
    char* to = grow(out, used, bytes_max);
    size_t produced = out.size() - used, consumed = bytes.size();
    size_t hint = LZ4F_decompress(context, to, &produced, bytes.data(), &consumed, nullptr);
    if (LZ4F_isError(hint) != 0) return corrupt("lz4", LZ4F_getErrorName(hint));
    used += produced;
    bytes.remove_prefix(consumed);
    if (used > bytes_max) return too_large(bytes_max);
    if (hint == 0) break;
    if (produced == 0 && bytes.empty()) return corrupt("lz4", "no whole frame");
  }
  out.resize(used);
  return out;
}

Result<std::string> compress_zstd(std::string_view bytes, int level) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), level == 0 ? 3 : level);
  if (ZSTD_isError(size) != 0) return Error{Errc::kInternal, "zstd: compress"};
  out.resize(size);
  return out;
}

Result<std::string> decompress_zstd(std::string_view bytes, size_t bytes_max) {
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(), &ZSTD_freeDCtx);
  if (!context) return Error{Errc::kInternal, "zstd: createDCtx"};
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  std::string out;
  size_t used = 0;
  while (true) {
    ZSTD_outBuffer to{grow(out, used, bytes_max), 0, 0};
    to.size = out.size() - used;
    size_t hint = ZSTD_decompressStream(context.get(), &to, &in);
    if (ZSTD_isError(hint) != 0) return corrupt("zstd", ZSTD_getErrorName(hint));
    used += to.pos;
    if (used > bytes_max) return too_large(bytes_max);
    if (hint == 0) break;
    if (in.pos == in.size && to.pos < to.size) return corrupt("zstd", "no whole frame");
  }
  out.resize(used);
  return out;
}

}  // namespace

int32_t sys_flag_of(Compression type) {
  switch (type) {
    case Compression::kLz4: return sys_flag::kCompressed | sys_flag::kCompressionLz4;
    case Compression::kZstd: return sys_flag::kCompressed | sys_flag::kCompressionZstd;
    default: return sys_flag::kCompressed | sys_flag::kCompressionZlib;
  }
}

Result<Compression> compression_of(int32_t sys_flag) {
  switch (sys_flag & sys_flag::kCompressionMask) {
    case 0:
    case sys_flag::kCompressionZlib: return Compression::kZlib;
    case sys_flag::kCompressionLz4: return Compression::kLz4;
    case sys_flag::kCompressionZstd: return Compression::kZstd;
    default: return Error{Errc::kInvalidArgument, fmt::format("system flag {:#x}: unknown compression", sys_flag)};
  }
}

Result<std::string> compress(Compression type, std::string_view bytes, int level) {
  switch (type) {
    case Compression::kLz4: return compress_lz4(bytes, level);
    case Compression::kZstd: return compress_zstd(bytes, level);
    default: return compress_zlib(bytes, level);
  }
}

Result<std::string> decompress(Compression type, std::string_view bytes, size_t bytes_max) {
  switch (type) {
    case Compression::kLz4: return decompress_lz4(bytes, bytes_max);
    case Compression::kZstd: return decompress_zstd(bytes, bytes_max);
    default: return decompress_zlib(bytes, bytes_max);
  }
}

}  // namespace apogee::message
