#include "common/config/properties_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

namespace apogee::config {
namespace {

Error from_errno(const std::string& path, const char* action, int error) {
  Errc code = Errc::kIo;
  if (error == ENOENT) code = Errc::kNotFound;
  if (error == EACCES || error == EPERM || error == EROFS) code = Errc::kPermission;
  if (error == ENOSPC || error == EDQUOT) code = Errc::kDiskFull;
  return {code, fmt::format("{}: cannot {}: {}", path, action, std::strerror(error))};
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\f'; }

/// A natural line: its bytes without the line end, and where the next one begins.
struct NaturalLine {
  std::string_view text;
  size_t next;
};
NaturalLine natural_line(std::string_view text, size_t from) {
  size_t end = text.find_first_of("\r\n", from);
  if (end == std::string_view::npos) return {text.substr(from), text.size()};
  size_t next = end + 1;
  if (text[end] == '\r' && next < text.size() && text[next] == '\n') ++next;
  return {text.substr(from, end - from), next};
}
std::string_view without_leading_blanks(std::string_view text) {
  size_t first = 0;
  while (first < text.size() && is_blank(text[first])) ++first;
  return text.substr(first);
}
bool goes_on(std::string_view line) {
  size_t slashes = 0;
  while (slashes < line.size() && line[line.size() - 1 - slashes] == '\\') ++slashes;
  return slashes % 2 == 1;
}

/// One logical line: still escaped, continuation lines joined; `begin`..`end` is its place in the text.
struct LogicalLine {
  std::string escaped;
  size_t begin = 0, end = 0;
  int line = 0;
};
std::vector<LogicalLine> logical_lines(std::string_view text) {
  std::vector<LogicalLine> lines;
  int number = 0;
  for (size_t at = 0; at < text.size();) {
    LogicalLine line;
    line.begin = at;
    auto part = natural_line(text, at);
    line.line = ++number;
    at = part.next;
    std::string_view content = without_leading_blanks(part.text);
    if (content.empty() || content[0] == '#' || content[0] == '!') continue;
    while (goes_on(content)) {
      line.escaped.append(content.substr(0, content.size() - 1));
      if (at >= text.size()) {
        content = {};
        break;
      }
      part = natural_line(text, at);
      ++number;
      at = part.next;
      content = without_leading_blanks(part.text);
    }
    line.escaped.append(content);
    line.end = at;
    lines.push_back(std::move(line));
  }
  return lines;
}

void append_utf8(std::string& to, uint32_t point) {
  if (point < 0x80) {
    to += static_cast<char>(point);
  } else if (point < 0x800) {
    to += static_cast<char>(0xC0 | (point >> 6));
    to += static_cast<char>(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    to += static_cast<char>(0xE0 | (point >> 12));
    to += static_cast<char>(0x80 | ((point >> 6) & 0x3F));
    to += static_cast<char>(0x80 | (point & 0x3F));
  } else {
    to += static_cast<char>(0xF0 | (point >> 18));
    to += static_cast<char>(0x80 | ((point >> 12) & 0x3F));
    to += static_cast<char>(0x80 | ((point >> 6) & 0x3F));
    to += static_cast<char>(0x80 | (point & 0x3F));
  }
}
std::optional<uint32_t> four_hex_digits(std::string_view text) {
  if (text.size() < 4) return std::nullopt;
  uint32_t value = 0;
  for (char c : text.substr(0, 4)) {
    value <<= 4;
    if (c >= '0' && c <= '9')
      value |= static_cast<uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      value |= static_cast<uint32_t>(c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      value |= static_cast<uint32_t>(c - 'A' + 10);
    else
      return std::nullopt;
  }
  return value;
}

/// nullopt for a malformed \uXXXX.
std::optional<std::string> unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) break;
    switch (text[i]) {
      case 't': out += '\t'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 'f': out += '\f'; break;
      case 'u': {
        auto unit = four_hex_digits(text.substr(i + 1));
        if (!unit) return std::nullopt;
        i += 4;
        if (*unit >= 0xD800 && *unit < 0xDC00 && text.substr(i + 1, 2) == "\\u") {
          auto low = four_hex_digits(text.substr(i + 3));
          if (low && *low >= 0xDC00 && *low < 0xE000) {
            unit = 0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00);
            i += 6;
          }
        }
        append_utf8(out, *unit);
        break;
      }
      default: out += text[i];
    }
  }
  return out;
}

std::string escape(std::string_view text, bool is_key) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    switch (c) {
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\f': out += "\\f"; break;
      case ' ':
        if (is_key || i == 0) out += '\\';
        out += c;
        break;
      case '=':
      case ':':
      case '#':
      case '!':
        if (is_key) out += '\\';
        out += c;
        break;
      default: out += c;
    }
  }
  return out;
}

Result<Property> split_line(const LogicalLine& line) {
  std::string_view text = line.escaped;
  size_t end = 0;
  while (end < text.size() && !is_blank(text[end]) && text[end] != '=' && text[end] != ':')
    end += text[end] == '\\' && end + 1 < text.size() ? 2 : 1;
  std::string_view rest = without_leading_blanks(text.substr(end));
  if (!rest.empty() && (rest[0] == '=' || rest[0] == ':')) rest = without_leading_blanks(rest.substr(1));
  auto key = unescape(text.substr(0, end));
  auto value = unescape(rest);
  if (!key || !value)
    return Error{Errc::kCorrupt, fmt::format("{}: \\u must be followed by four hexadecimal digits", line.line)};
  return Property{std::move(*key), std::move(*value), line.line};
}

Status write_all(int fd, const std::string& path, std::string_view content) {
  while (!content.empty()) {
    ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return from_errno(path, "write", errno);
    }
    content.remove_prefix(static_cast<size_t>(written));
  }
  if (::fsync(fd) != 0) return from_errno(path, "sync", errno);
  return {};
}

Status write_new_file(const std::string& path, std::string_view content) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return from_errno(path, "create", errno);
  Status status = write_all(fd, path, content);
  ::close(fd);
  return status;
}

}  // namespace

Result<std::vector<Property>> parse_properties(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  std::vector<Property> properties;
  for (const auto& line : logical_lines(text)) {
    APOGEE_TRY_ASSIGN(auto property, split_line(line));
    properties.push_back(std::move(property));
  }
  return properties;
}

Result<std::string> read_whole_file(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return from_errno(path, "open", errno);
  std::string text;
  char chunk[16384];
  while (true) {
    ssize_t count = ::read(fd, chunk, sizeof chunk);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      Error error = from_errno(path, "read", errno);
      ::close(fd);
      return error;
    }
    if (count == 0) break;
    text.append(chunk, static_cast<size_t>(count));
  }
  ::close(fd);
  return text;
}

Result<std::vector<Property>> read_properties_file(const std::string& path) {
  APOGEE_TRY_ASSIGN(auto text, read_whole_file(path));
  auto properties = parse_properties(text);
  if (!properties) return Error{properties.error().code, path + ":" + properties.error().message};
  return properties;
}

std::string to_properties_text(const std::map<std::string, std::string>& values) {
  std::string text;
  for (const auto& [key, value] : values) text += escape(key, true) + "=" + escape(value, false) + "\n";
  return text;
}

static bool last_line_goes_on(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  return goes_on(text);
}

std::string with_properties(std::string_view text, const std::map<std::string, std::string>& values) {
  std::map<std::string, LogicalLine> last;
  for (auto& line : logical_lines(text))
    if (auto property = split_line(line); property && values.count(property->key) != 0) last[property->key] = line;
  std::map<size_t, std::pair<size_t, std::string>> by_place;  // begin -> end, new text
  std::string tail;
  for (const auto& [key, value] : values) {
    std::string line = escape(key, true) + "=" + escape(value, false) + "\n";
    if (auto found = last.find(key); found != last.end())
      by_place[found->second.begin] = {found->second.end, std::move(line)};
    else
      tail += line;
  }
  std::string out;
  size_t at = 0;
  for (const auto& [begin, replacement] : by_place) {
    out.append(text.substr(at, begin - at));
    out += replacement.second;
    at = replacement.first;
  }
  out.append(text.substr(at));
  if (!tail.empty() && !out.empty() && out.back() != '\n') out += '\n';
  if (!tail.empty() && last_line_goes_on(out)) out += '\n';
  return out + tail;
}

// The file that is about to be replaced goes on as PATH.bak: under a second name, which costs no copy, where the file
// system has such. The copy is a convenience, so nothing fails for it.
void keep_copy(const std::string& path) {
  const std::string link = path + ".bak.tmp";
  ::unlink(link.c_str());
  if (::link(path.c_str(), link.c_str()) == 0) {
    if (::rename(link.c_str(), (path + ".bak").c_str()) == 0) return;
    ::unlink(link.c_str());
  }
  if (auto before = read_whole_file(path)) write_new_file(path + ".bak", *before).ignore("see above");
}

Status replace_file(const std::string& path, std::string_view content) {
  std::filesystem::path place(path);
  std::error_code failure;
  if (place.has_parent_path()) {
    std::filesystem::create_directories(place.parent_path(), failure);
    if (failure) return from_errno(place.parent_path().string(), "make the folder", failure.value());
  }
  const std::string temporary = path + ".tmp";
  APOGEE_TRY(write_new_file(temporary, content));
  keep_copy(path);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return from_errno(path, "rename over", errno);
  std::string folder = place.has_parent_path() ? place.parent_path().string() : ".";
  if (int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    int synced = ::fsync(fd);
    int error = errno;
    ::close(fd);
    if (synced != 0) return from_errno(folder, "sync", error);
  }
  return {};
}

Status update_properties_file(const std::string& path, const std::map<std::string, std::string>& values) {
  auto text = read_whole_file(path);
  if (!text && text.error().code != Errc::kNotFound) return std::move(text).error();
  return replace_file(path, with_properties(text ? *text : std::string(), values));
}

}  // namespace apogee::config
