// Files of a store directory are cut, flipped, zeroed, exchanged, taken away; then the store is started on them.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>

#include "store/file_names.h"
#include "test/badday/store/ledger.h"
#include "test/badday/store/opened.h"
#include "test/support/catch.h"
#include "test/support/memory_file_system.h"
#include "test/support/wait.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {
namespace {

using test::MemoryFileSystem;

enum class Stop : uint8_t { kClean, kCrash, kCleanThenCrash };

/// A store that was written and stopped, or not stopped, and what is in it.
struct Base {
  std::string name;
  Stop stop = Stop::kClean;
  StoreOptions options;
  Ledger ledger;
  std::unique_ptr<MemoryFileSystem> files;
  Reading reading;
};

std::unique_ptr<Base> make_base(const std::string& name, Stop stop, int64_t queue_file_bytes, uint64_t seed) {
  test::Random random(seed);
  auto base = std::make_unique<Base>();
  base->name = name;
  base->stop = stop;
  base->options = bad_day_options(random);
  base->options.commit_log_file_bytes = 32 * 1024;
  base->options.consume_queue_file_bytes = queue_file_bytes;
  MemoryFileSystem files(seed);
  Traffic traffic;
  traffic.sync_flush = false;
  traffic.messages = 160;
  traffic.outstanding = 1;
  traffic.topics = 2;
  for (int run = 0; run < (stop == Stop::kCleanThenCrash ? 2 : 1); ++run) {
    Opened store(base->options, files);
    REQUIRE(store);
    REQUIRE(store->start());
    REQUIRE(send_traffic(*store, base->ledger, traffic, random.next()) == 0);
    if (run > 0) REQUIRE(send_traffic(*store, base->ledger, traffic, random.next()) == 0);
    // A topic that is deleted leaves its floor behind.
    const auto& sent = base->ledger.write("Deleted", 0, 0, 50, random);
    auto result = put(*store, sent.topic, 0, sent.body, sent.properties);
    REQUIRE(test::eventually([&] { return store->max_offset("Deleted", 0) > result.queue_offset; }));
    store->delete_topic("Deleted");
    base->ledger.deleted("Deleted");
    if (stop == Stop::kClean || (stop == Stop::kCleanThenCrash && run == 0)) {
      store->stop();
    } else {
      base->files = files.copy(random.next());
    }
  }
  if (!base->files) base->files = files.copy(random.next());
  auto copy = base->files->copy(1);
  Opened store(base->options, *copy);
  REQUIRE(store);
  base->reading = read_everything(*store, base->ledger);
  return base;
}

/// Ranges of bytes, by file.
class Damage {
 public:
  Damage(Base& base, MemoryFileSystem& files, test::Random& random) : base_(base), files_(files), random_(random) {}

  void do_something() {
    std::string path = some_file();
    std::string bytes = files_.content(path);
    const auto size = static_cast<int64_t>(bytes.size());
    switch (random_.below(10)) {
      case 0: {
        auto kept = random_.chance(0.2) ? 0 : random_.below(size);
        note(path, kept, INT64_MAX, fmt::format("cut to {} bytes", kept));
        files_.set_content(path, std::string_view(bytes).substr(0, static_cast<size_t>(kept)));
        return;
      }
      case 1:
        for (int64_t left = random_.between(1, 12); left > 0 && size > 0; --left) {
          auto at = place_in(bytes);
          bytes[static_cast<size_t>(at)] = static_cast<char>(bytes[static_cast<size_t>(at)] ^ (1 << random_.below(8)));
          note(path, at, at + 1, fmt::format("bit flipped at {}", at));
        }
        return files_.set_content(path, bytes);
      case 2: return overwrite(path, bytes, 4096, true, "page zeroed");
      case 3: return overwrite(path, bytes, 512, false, "sector of garbage");
      case 4: return overwrite(path, bytes, random_.between(1, 300), random_.chance(0.5), "overwritten");
      case 5:
        note(path, 0, INT64_MAX, "taken away");
        REQUIRE(files_.remove(path));
        return;
      case 6: return exchange(path);
      case 7: {
        auto more = random_.between(1, 5'000);
        note(path, size, INT64_MAX, fmt::format("{} bytes longer", more));
        return files_.set_content(path, bytes + (random_.chance(0.5) ? random_.bytes(static_cast<size_t>(more))
                                                                     : std::string(static_cast<size_t>(more), '\0')));
      }
      case 8:
        note(path, 0, INT64_MAX, "replaced by garbage");
        return files_.set_content(path, random_.bytes(random_.chance(0.5) ? bytes.size() : 100));
      default: return add_file(path);
    }
  }

  [[nodiscard]] bool hits_log(LogOffset offset, int64_t bytes) const {
    for (const auto& each : ranges_) {
      auto begin = log_begin_of(each.path);
      if (!begin) continue;
      if (offset < *begin + std::min(each.end, base_.options.commit_log_file_bytes) &&
          offset + bytes > *begin + each.begin)
        return true;
    }
    return false;
  }
  /// Whether so much was hit that nobody can tell any more how far the queue went: its files and the floor table, or
  /// where it begins: its files were exchanged, and the log's first file is gone.
  [[nodiscard]] bool hits_queue_and_floors(const std::string& topic, int32_t queue_id) const {
    auto hits = [&](const std::string& part) {
      return std::any_of(ranges_.begin(), ranges_.end(),
                         [&](const auto& each) { return each.path.find(part) != std::string::npos; });
    };
    if (!hits(fmt::format("/consumequeue/{}/{}/", topic, queue_id))) return false;
    return hits("/queueFloors") || (exchanged_ && hits("/commitlog/00000000000000000000"));
  }
  /// Whether a text names a file that was damaged, or its directory.
  [[nodiscard]] bool is_named_in(const std::string& text) const {
    return std::any_of(ranges_.begin(), ranges_.end(), [&](const auto& each) {
      std::string name = each.path.substr(each.path.rfind('/') + 1);
      return text.find(name) != std::string::npos ||
             text.find(each.path.substr(0, each.path.rfind('/'))) != std::string::npos;
    });
  }
  [[nodiscard]] const std::string& told() const { return told_; }

 private:
  struct Range {
    std::string path;
    int64_t begin, end;
  };
  static std::optional<LogOffset> log_begin_of(const std::string& path) {
    auto slash = path.rfind('/');
    if (path.find("/commitlog/") == std::string::npos) return std::nullopt;
    return offset_of_file_name(path.substr(slash + 1));
  }
  void note(const std::string& path, int64_t begin, int64_t end, const std::string& what) {
    ranges_.push_back({path, begin, end});
    told_ += fmt::format("; {}: {}", path, what);
  }
  std::string some_file() {
    // A kind first: there are many more queue files than others.
    std::map<std::string, std::vector<std::string>> kinds;
    for (const auto& path : files_.files()) {
      std::string kind = path.find("/commitlog/") != std::string::npos      ? "log"
                         : path.find("/consumequeue/") != std::string::npos ? "queues"
                                                                            : path;
      kinds[kind].push_back(path);
    }
    const std::string first = random_.chance(0.4) ? "log" : random_.chance(0.5) ? "queues" : "";
    auto kind = kinds.find(first);
    if (kind == kinds.end()) {
      kind = kinds.begin();
      std::advance(kind, random_.below(static_cast<int64_t>(kinds.size())));
    }
    return kind->second[static_cast<size_t>(random_.below(static_cast<int64_t>(kind->second.size())))];
  }
  /// Mostly where there is something.
  int64_t place_in(const std::string& bytes) {
    auto used = bytes.find_last_not_of('\0');
    auto limit = used == std::string::npos || random_.chance(0.1) ? bytes.size() : used + 1;
    return random_.below(static_cast<int64_t>(limit));
  }
  void overwrite(const std::string& path, std::string& bytes, int64_t count, bool zeros, const char* what) {
    auto at = place_in(bytes);
    if (count >= 512) at = at / count * count;
    count = std::min(count, static_cast<int64_t>(bytes.size()) - at);
    if (count <= 0) return;
    std::string put = zeros ? std::string(static_cast<size_t>(count), '\0') : random_.bytes(static_cast<size_t>(count));
    bytes.replace(static_cast<size_t>(at), put.size(), put);
    note(path, at, at + count, fmt::format("{} at {}, {} bytes", what, at, count));
    files_.set_content(path, bytes);
  }
  void exchange(const std::string& path) {
    std::string other = some_file();
    if (other == path) return;
    exchanged_ = true;
    std::string bytes = files_.content(path);
    note(path, 0, INT64_MAX, "exchanged with " + other);
    note(other, 0, INT64_MAX, "exchanged");
    files_.set_content(path, files_.content(other));
    files_.set_content(other, bytes);
  }
  void add_file(const std::string& beside) {
    constexpr const char* kNames[] = {"00000000000000000000",
                                      "00000000000000000007",
                                      "00000000000001000000",
                                      "99999999999999999999",
                                      "0",
                                      "core",
                                      "timerwheel",
                                      "x.tmp",
                                      "00000000000000032768.bak"};
    std::string path = beside.substr(0, beside.rfind('/') + 1) + kNames[random_.below(std::size(kNames))];
    if (files_.exists(path)) return;
    note(path, 0, INT64_MAX, "added");
    files_.set_content(path, random_.bytes(static_cast<size_t>(random_.below(3'000))));
  }

  Base& base_;
  MemoryFileSystem& files_;
  test::Random& random_;
  std::vector<Range> ranges_;
  std::string told_;
  bool exchanged_ = false;
};

struct Tally {
  int variants = 0, refused = 0, queue_entries_lost = 0;
};

bool has_remedy(const std::string& text) {
  for (const char* word : {"restore", "Restore", "remove", "move ", "set it", "start on", "delete", "copy"})
    if (text.find(word) != std::string::npos) return true;
  return false;
}

/// Whether nothing was made but what belongs in a store directory.
std::vector<std::string> strange_paths(const MemoryFileSystem& files, const MemoryFileSystem& before) {
  std::vector<std::string> strange;
  auto known = before.files();
  for (const auto& path : files.files()) {
    if (std::binary_search(known.begin(), known.end(), path)) continue;
    bool plain = path.rfind("/data/store/", 0) == 0 && path.find("//") == std::string::npos &&
                 path.find("..") == std::string::npos &&
                 std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c < 127; });
    auto depth = std::count(path.begin(), path.end(), '/');
    if (!plain || (path.find("/consumequeue/") != std::string::npos && depth != 6)) strange.push_back("made " + path);
  }
  return strange;
}

/// Every message that was not damaged is where it was.
void check_kept(const Base& base, const Damage& damage, Reading& reading, Tally& tally) {
  auto problem = [&](std::string text) {
    if (reading.problems.size() < 20) reading.problems.push_back(std::move(text));
  };
  // A record whose topic, queue or offset was hit stands in another place now, and nobody can tell which of two
  // messages of one offset is the right one.
  std::set<QueueOffset> claimed;
  for (const auto& [id, offset] : base.reading.in_queue) {
    auto place = base.reading.in_log.find(id);
    if (place == base.reading.in_log.end() ||
        !damage.hits_log(place->second.offset, base.ledger.sent(id).record_bytes()))
      continue;
    claimed.insert(offset);
    if (auto now = reading.in_queue.find(id); now != reading.in_queue.end()) claimed.insert(now->second);
  }
  for (const auto& [id, place] : base.reading.in_log) {
    const auto& sent = base.ledger.sent(id);
    if (damage.hits_log(place.offset, sent.record_bytes())) continue;
    auto found = reading.in_log.find(id);
    if (found == reading.in_log.end()) {
      problem(fmt::format("message {} at {} is gone", id, place.offset));
      continue;
    }
    auto queued = base.reading.in_queue.find(id);
    if (queued == base.reading.in_queue.end() || base.ledger.is_deleted(sent.topic)) continue;
    auto found_in_queue = reading.in_queue.find(id);
    if (found_in_queue == reading.in_queue.end()) {
      ++tally.queue_entries_lost;
      if (!damage.hits_queue_and_floors(sent.topic, sent.queue_id) && claimed.count(queued->second) == 0)
        problem(fmt::format("message {} of {} queue {} is not at {} any more", id, sent.topic, sent.queue_id,
                            queued->second));
    } else if (found_in_queue->second != queued->second) {
      problem(fmt::format("message {} is at {} of its queue, not at {}", id, found_in_queue->second, queued->second));
    }
  }
}

/// Sends to each queue: no offset of a message that is still there is given again.
void check_offsets(MessageStore& store, const Base& base, const Damage& damage, Reading& reading) {
  std::map<std::pair<std::string, int32_t>, QueueOffset> next;
  for (const auto& [id, place] : reading.in_log) {
    const auto& sent = base.ledger.sent(id);
    if (damage.hits_log(place.offset, sent.record_bytes())) continue;  // its offset may be a wrong one
    if (!sent.takes_queue_offset() || base.ledger.is_deleted(sent.topic)) continue;
    if (damage.hits_queue_and_floors(sent.topic, sent.queue_id)) continue;
    auto& after = next[{sent.topic, sent.queue_id}];
    after = std::max(after, place.queue_offset + 1);
  }
  for (const auto& each : next) {
    const auto& queue = each.first;
    const QueueOffset least = each.second;
    auto result = put(store, queue.first, queue.second, "more");
    if (result.status != PutStatus::kOk)
      reading.problems.push_back(fmt::format("{}: not taken: {}", queue.first, result.detail));
    else if (result.queue_offset < least)
      reading.problems.push_back(fmt::format("{} queue {}: offset {} is given again, {} are taken", queue.first,
                                             queue.second, result.queue_offset, least));
  }
}

void look_at_variant(Base& base, uint64_t seed, Tally& tally) {
  test::Random random(seed);
  auto files = base.files->copy(seed);
  Damage damage(base, *files, random);
  for (int64_t left = random.chance(0.8) ? 1 : random.between(2, 4); left > 0; --left) damage.do_something();
  if (damage.told().empty()) return;
  ++tally.variants;
  INFO("variant " << seed << " of " << base.name << damage.told());
  auto before = files->copy(1);
  std::vector<std::string> problems;
  Opened store(base.options, *files);
  if (store) {
    REQUIRE(store->start());
    auto reading = read_everything(*store, base.ledger,
                                   [&](LogOffset offset, int64_t bytes) { return damage.hits_log(offset, bytes); });
    check_kept(base, damage, reading, tally);
    check_offsets(*store, base, damage, reading);
    store->stop();
    problems = reading.problems;
    for (auto& path : strange_paths(*files, *before)) problems.push_back(std::move(path));
  } else {
    ++tally.refused;
    if (std::getenv("APOGEE_TELL")) fmt::print("refused:{}\n  {}\n", damage.told(), store.error().message);
    const auto& text = store.error().message;
    if (!damage.is_named_in(text)) problems.push_back("refused without a file's name: " + text);
    if (!has_remedy(text)) problems.push_back("refused without a remedy: " + text);
  }
  if (problems.empty()) return;
  for (const auto& line : store.lines()) problems.push_back("  logged: " + line);
  std::string text;
  for (const auto& problem : problems) text += "\n  " + problem;
  auto kept = std::filesystem::temp_directory_path() / fmt::format("apogee-damage-{}", seed);
  before->save_to(kept.string());
  FAIL_CHECK(text << "\n  the directory in front of the start: " << kept.string());
}

std::vector<std::unique_ptr<Base>> make_bases(uint64_t seed) {
  std::vector<std::unique_ptr<Base>> bases;
  bases.push_back(make_base("clean stop", Stop::kClean, 2'000, seed));
  bases.push_back(make_base("crash", Stop::kCrash, 2'000, seed + 1));
  bases.push_back(make_base("clean stop, short queue files", Stop::kClean, 200, seed + 2));
  bases.push_back(make_base("clean stop, then a crash", Stop::kCleanThenCrash, 200, seed + 3));
  return bases;
}

}  // namespace

/// APOGEE_SEED and APOGEE_VARIANT as a failure of the test below has told them.
TEST_CASE("Damage: one variant", "[.][variant]") {
  const uint64_t seed = test::run_seed("damage");
  const char* variant = std::getenv("APOGEE_VARIANT");
  REQUIRE(variant != nullptr);
  Tally tally;
  for (auto& base : make_bases(seed)) look_at_variant(*base, std::strtoull(variant, nullptr, 10), tally);
}

TEST_CASE("Damage: a start goes on or tells the file and the remedy, and invents nothing", "[badday]") {
  const uint64_t seed = test::run_seed("damage");
  auto bases = make_bases(seed);
  for (const auto& base : bases) {
    INFO(base->name);
    CHECK(base->reading.problems == std::vector<std::string>());
  }
  const int variants = test::is_soak() ? 40'000 : 2'000;
  auto begin = std::chrono::steady_clock::now();
  test::Random seeds(seed);
  Tally tally;
  for (size_t i = 0; tally.variants < variants; ++i) look_at_variant(*bases[i % bases.size()], seeds.next(), tally);
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("damage: {} variants, {} starts refused, {} queue entries lost with their files, {} ms\n", tally.variants,
             tally.refused, tally.queue_entries_lost, ms);
}

}  // namespace apogee::store
