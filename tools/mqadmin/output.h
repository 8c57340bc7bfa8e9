#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "tools/mqadmin/json_writer.h"

namespace mqadmin {

struct Column {
  std::string title;      ///< as RocketMQ's mqadmin prints it
  std::string json_name;  ///< of the member in each row's object
  int width = 0;          ///< at least; the last column of a line needs none
  bool right = false;
};

/// One value of a table: what a person reads, and the same as JSON.
struct Cell {
  std::string text;
  std::string json;

  Cell(std::string_view t) : text(t), json(json_quote(t)) {}
  Cell(const std::string& t) : Cell(std::string_view(t)) {}
  Cell(const char* t) : Cell(std::string_view(t)) {}
  template <typename Int, typename = std::enable_if_t<std::is_integral_v<Int>>>
  Cell(Int number) : text(std::to_string(number)), json(text) {}
  Cell(std::string t, std::string j) : text(std::move(t)), json(std::move(j)) {}
};

/// What standard output is: a terminal, how wide, and whether it takes colours (the environment's NO_COLOR and
/// TERM=dumb say no). Columns is 0 where nobody knows.
struct Screen {
  bool terminal = false;
  bool colours = false;
  size_t columns = 0;
  static Screen of(int descriptor);
};

/// Places on a terminal that a UTF-8 text takes.
size_t display_width(std::string_view text);

class Table {
 public:
  explicit Table(std::vector<Column> columns, bool with_header = true)
      : columns_(std::move(columns)), with_header_(with_header) {}
  void row(std::vector<Cell> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  [[nodiscard]] size_t size() const { return rows_.size(); }
  /// In a pipe or a file the columns have at least the widths of RocketMQ's mqadmin. On a terminal they are as narrow
  /// as they can be, with numbers at the right, and what does not fit is shown as a block of lines for each row.
  [[nodiscard]] std::string to_text(const Screen& screen) const;
  void to_json(JsonWriter& json) const;

 private:
  [[nodiscard]] std::vector<size_t> widths(bool narrow) const;
  [[nodiscard]] bool all_numbers(size_t column) const;
  [[nodiscard]] std::string blocks(const Screen& screen) const;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
  bool with_header_;
};

/// Standard output, in one of the two forms. What is printed for people is dropped where JSON is wanted, and
/// the other way round, so that a command writes both.
class Output {
 public:
  explicit Output(bool json);
  [[nodiscard]] bool json() const { return json_; }
  /// For people; ends the line.
  void line(std::string_view text);
  void text(std::string_view text);
  /// For people.
  void rows(const Table& table) { text(table.to_text(screen_)); }
  /// For either: a table, or an array of objects.
  void table(const Table& table);
  /// For programs; ends the line.
  void write(const JsonWriter& json);
  /// For programs; a piece of a text that is too long to be built first.
  void json_part(std::string_view json);
  /// false when standard output did not take everything.
  [[nodiscard]] bool flush();

 private:
  bool json_;
  Screen screen_;
};

/// A bar on standard error while work goes on; only where a person looks at it.
class Progress {
 public:
  explicit Progress(std::string what, int64_t total = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void advance(int64_t by = 1) { set(done_ + by, total_); }
  void set(int64_t done, int64_t total);
  /// Takes the bar away, so that something can be printed.
  void hide();

 private:
  std::string what_;
  int64_t total_;
  int64_t done_ = 0;
  bool enabled_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_{};
};

/// "2026-01-31 10:20:30" in local time.
std::string human_time(int64_t ms);
/// "2026-01-31 10:20:30,123" in local time.
std::string human_time_ms(int64_t ms);
/// A cell with a time for people, and its ms for programs; 0 and less is `none`.
Cell time_cell(int64_t ms, const char* none, bool with_ms);
/// Reads "now", ms since 1970, or "yyyy-MM-dd#HH:mm:ss:SSS" in local time. Error: kInvalidArgument.
apogee::Result<int64_t> parse_time(std::string_view text);
int64_t now_ms();
/// Converts a text from another character set. Error: kInvalidArgument for a set that is not known.
apogee::Result<std::string> to_utf8(std::string_view text, const std::string& charset);

}  // namespace mqadmin
