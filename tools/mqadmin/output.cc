#include "tools/mqadmin/output.h"

#include <fmt/format.h>
#include <iconv.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "common/base/hex.h"
#include "common/base/text.h"

namespace mqadmin {

using apogee::Errc;
using apogee::Error;
using apogee::Result;

namespace {

/// Replaces every byte that is not part of a UTF-8 character.
std::string made_utf8(std::string_view text) {
  std::string clean;
  for (size_t at = 0; at < text.size();) {
    size_t length = 0;
    for (size_t candidate = 1; candidate <= 4 && at + candidate <= text.size(); ++candidate) {
      if (apogee::is_utf8(text.substr(at, candidate))) {
        length = candidate;
        break;
      }
    }
    if (length == 0) {
      clean += "\xEF\xBF\xBD";
      ++at;
    } else {
      clean += text.substr(at, length);
      at += length;
    }
  }
  return clean;
}

}  // namespace

std::string json_quote(std::string_view text) {
  std::string clean;
  if (!apogee::is_utf8(text)) {
    clean = made_utf8(text);
    text = clean;
  }
  std::string quoted = "\"";
  for (char c : text) {
    switch (c) {
      case '"': quoted += "\\\""; break;
      case '\\': quoted += "\\\\"; break;
      case '\n': quoted += "\\n"; break;
      case '\r': quoted += "\\r"; break;
      case '\t': quoted += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          quoted += fmt::format("\\u{:04x}", static_cast<int>(c));
        } else {
          quoted += c;
        }
    }
  }
  return quoted + "\"";
}

JsonWriter& JsonWriter::key(std::string_view name) {
  before_value();
  text_ += json_quote(name);
  text_ += indent_ > 0 ? ": " : ":";
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) { return raw(json_quote(text)); }

JsonWriter& JsonWriter::value(double number) {
  return raw(std::isfinite(number) ? fmt::format("{}", number) : std::string("null"));
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  before_value();
  text_ += json;
  return *this;
}

JsonWriter& JsonWriter::bytes_member(const std::string& name, std::string_view bytes) {
  if (apogee::is_utf8(bytes)) return member(name, bytes);
  return member(name + "Hex", apogee::to_hex(bytes));
}

JsonWriter& JsonWriter::begin(char bracket) {
  before_value();
  text_ += bracket;
  empty_.push_back(true);
  return *this;
}

JsonWriter& JsonWriter::end(char bracket) {
  bool empty = empty_.back();
  empty_.pop_back();
  if (!empty) new_line();
  text_ += bracket;
  return *this;
}

void JsonWriter::before_value() {
  if (after_key_) {
    after_key_ = false;
    return;
  }
  if (empty_.empty()) return;
  if (!empty_.back()) text_ += ',';
  empty_.back() = false;
  new_line();
}

void JsonWriter::new_line() {
  if (indent_ > 0) text_ += "\n" + std::string(empty_.size() * static_cast<size_t>(indent_), ' ');
}

Screen Screen::of(int descriptor) {
  Screen screen;
  screen.terminal = isatty(descriptor) == 1;
  if (!screen.terminal) return screen;
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0) screen.columns = size.ws_col;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  screen.colours = (no_color == nullptr || *no_color == '\0') && term != nullptr && std::string_view(term) != "dumb";
  return screen;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<unsigned char>(text[at]);
    const size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    uint32_t point = length == 1 ? first : first & (0xFFU >> (length + 1));
    for (size_t i = 1; i < length && at + i < text.size(); ++i)
      point = point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3FU);
    // East Asian scripts and pictures take two places.
    const bool wide = (point >= 0x1100 && point <= 0x115F) || (point >= 0x2E80 && point <= 0xA4CF) ||
                      (point >= 0xAC00 && point <= 0xD7A3) || (point >= 0xF900 && point <= 0xFAFF) ||
                      (point >= 0xFE30 && point <= 0xFE6F) || (point >= 0xFF00 && point <= 0xFF60) ||
                      (point >= 0x1F300 && point <= 0x1F9FF) || (point >= 0x20000 && point <= 0x3FFFD);
    width += wide ? 2 : 1;
    at += length;
  }
  return width;
}

namespace {

std::string bold(const std::string& text, const Screen& screen) {
  return screen.colours ? "\x1b[1m" + text + "\x1b[0m" : text;
}

std::string padded(const std::string& text, size_t width, bool right) {
  const size_t own = display_width(text);
  const std::string space(width > own ? width - own : 0, ' ');
  return right ? space + text : text + space;
}

}  // namespace

std::vector<size_t> Table::widths(bool narrow) const {
  std::vector<size_t> all;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = narrow ? 0 : static_cast<size_t>(columns_[i].width);
    if (with_header_) width = std::max(width, display_width(columns_[i].title));
    for (const auto& row : rows_) width = std::max(width, display_width(row[i].text));
    all.push_back(width);
  }
  return all;
}

bool Table::all_numbers(size_t column) const {
  return std::all_of(rows_.begin(), rows_.end(), [column](const std::vector<Cell>& row) {
    const auto& cell = row[column];
    return cell.text.empty() ||
           (cell.text == cell.json && cell.text.find_first_not_of("-0123456789") == std::string::npos);
  });
}

std::string Table::to_text(const Screen& screen) const {
  const auto wanted = widths(screen.terminal);
  size_t total = wanted.size() - 1;
  for (size_t width : wanted) total += width;
  if (screen.columns != 0 && total > screen.columns && with_header_ && columns_.size() > 2) return blocks(screen);
  std::vector<bool> right;
  for (size_t i = 0; i < columns_.size(); ++i)
    right.push_back(columns_[i].right || (screen.terminal && all_numbers(i)));
  std::string text;
  auto line_of = [&](const auto& text_of) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (i > 0) line += ' ';
      line += padded(text_of(i), wanted[i], right[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
  };
  if (with_header_)
    text += bold(line_of([this](size_t i) -> const std::string& { return columns_[i].title; }), screen) + "\n";
  for (const auto& row : rows_) text += line_of([&row](size_t i) -> const std::string& { return row[i].text; }) + "\n";
  return text;
}

std::string Table::blocks(const Screen& screen) const {
  size_t width = 0;
  for (const auto& column : columns_) width = std::max(width, display_width(column.title));
  std::string text;
  for (const auto& row : rows_) {
    if (!text.empty()) text += '\n';
    for (size_t i = 0; i < columns_.size(); ++i) {
      std::string value = row[i].text;
      value.erase(0, value.find_first_not_of(' '));
      text += bold(padded(columns_[i].title, width, false), screen) + ' ' + value + '\n';
    }
  }
  return text;
}

void Table::to_json(JsonWriter& json) const {
  json.begin_array();
  for (const auto& row : rows_) {
    json.begin_object();
    for (size_t i = 0; i < columns_.size(); ++i) json.key(columns_[i].json_name).raw(row[i].json);
    json.end_object();
  }
  json.end_array();
}

Output::Output(bool json) : json_(json), screen_(Screen::of(STDOUT_FILENO)) {}

void Output::line(std::string_view given) {
  text(given);
  text("\n");
}

void Output::text(std::string_view given) {
  if (!json_) std::fwrite(given.data(), 1, given.size(), stdout);
}

void Output::table(const Table& table) {
  if (!json_) return rows(table);
  JsonWriter json;
  table.to_json(json);
  write(json);
}

void Output::write(const JsonWriter& json) { json_part(json.text() + "\n"); }

void Output::json_part(std::string_view json) {
  if (json_) std::fwrite(json.data(), 1, json.size(), stdout);
}

bool Output::flush() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }

Progress::Progress(std::string what, int64_t total)
    : what_(std::move(what)), total_(total), enabled_(isatty(STDERR_FILENO) == 1) {
  if (total_ > 1) set(0, total_);
}

Progress::~Progress() { hide(); }

void Progress::set(int64_t done, int64_t total) {
  total_ = total;
  done_ = std::min(total, done);
  if (!enabled_ || total_ <= 0) return;
  auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::milliseconds(100) && done_ < total_) return;
  last_ = now;
  constexpr int64_t kCells = 30;
  auto filled = static_cast<size_t>(done_ * kCells / total_);
  std::string bar = std::string(filled, '=') + std::string(static_cast<size_t>(kCells) - filled, ' ');
  fmt::print(stderr, "\r\x1b[K[{}] {:3}% {} {}/{}", bar, done_ * 100 / total_, what_, done_, total_);
  std::fflush(stderr);
  shown_ = true;
}

void Progress::hide() {
  if (!shown_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  shown_ = false;
}

std::string human_time(int64_t ms) {
  time_t seconds = static_cast<time_t>(ms / 1000);
  tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  size_t length = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return {text, length};
}

std::string human_time_ms(int64_t ms) { return fmt::format("{},{:03}", human_time(ms), ms % 1000); }

Cell time_cell(int64_t ms, const char* none, bool with_ms) {
  if (ms <= 0) return {none, "0"};
  return {with_ms ? human_time_ms(ms) : human_time(ms), std::to_string(ms)};
}

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Result<int64_t> parse_time(std::string_view given) {
  std::string text(apogee::trim(given));
  if (text == "now") return now_ms();
  int64_t ms = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) return ms;
  tm parts{};
  int millis = 0;
  int used = 0;
  int fields = std::sscanf(text.c_str(), "%4d-%2d-%2d#%2d:%2d:%2d:%3d%n", &parts.tm_year, &parts.tm_mon, &parts.tm_mday,
                           &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &millis, &used);
  bool in_range = parts.tm_mon >= 1 && parts.tm_mon <= 12 && parts.tm_mday >= 1 && parts.tm_mday <= 31 &&
                  parts.tm_hour <= 23 && parts.tm_min <= 59 && parts.tm_sec <= 60;
  if (fields != 7 || static_cast<size_t>(used) != text.size() || !in_range) {
    return Error{Errc::kInvalidArgument,
                 fmt::format("\"{}\" is no time; write now, ms since 1970, or yyyy-MM-dd#HH:mm:ss:SSS", text)};
  }
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  parts.tm_isdst = -1;
  return static_cast<int64_t>(std::mktime(&parts)) * 1000 + millis;
}

Result<std::string> to_utf8(std::string_view text, const std::string& charset) {
  if (apogee::equals_ignore_case(charset, "UTF-8") || apogee::equals_ignore_case(charset, "UTF8")) {
    return std::string(text);
  }
  iconv_t converter = iconv_open("UTF-8", charset.c_str());
  if (reinterpret_cast<intptr_t>(converter) == -1) {
    return Error{Errc::kInvalidArgument, fmt::format("the character set {} is not known", charset)};
  }
  std::string input(text);
  std::string output(text.size() * 4 + 4, '\0');
  char* from = input.data();
  char* to = output.data();
  size_t from_left = input.size();
  size_t to_left = output.size();
  while (from_left > 0 && iconv(converter, &from, &from_left, &to, &to_left) == static_cast<size_t>(-1)) {
    if (to_left < 4 || from_left == 0) break;
    *to++ = '?';  // a byte that is no character of that set
    --to_left;
    ++from;
    --from_left;
  }
  iconv_close(converter);
  output.resize(output.size() - to_left);
  return output;
}

}  // namespace mqadmin
