// The power fails at random points, also during recoveries and stops, and again during the recovery after that.
#include <fmt/core.h>

#include <chrono>
#include <filesystem>

#include "test/badday/store/ledger.h"
#include "test/badday/store/opened.h"
#include "test/support/catch.h"
#include "test/support/memory_file_system.h"

namespace apogee::store {
namespace {

using test::MemoryFileSystem;

/// A power loss may leave good records behind pages that did not survive. Whether a start goes on behind such a hole.
constexpr bool kHolesAreSkipped = true;

struct Tally {
  int points = 0, refused = 0, holes = 0, lives = 0;
  int64_t messages = 0;
};

struct Point {
  std::unique_ptr<MemoryFileSystem> image;
  Ledger::Promise promise;
  std::string when;
};

/// One store from its beginning through several losses of power.
class Life {
 public:
  Life(uint64_t seed, Tally& tally) : seed_(seed), random_(seed), tally_(tally) {
    options_ = bad_day_options(random_);
    sync_ = random_.chance(0.7);
    options_.flush_disk_type = sync_ ? FlushDiskType::kSync : FlushDiskType::kAsync;
    files_ = std::make_unique<MemoryFileSystem>(random_.next());
  }

  void run() {
    ++tally_.lives;
    const int64_t generations = random_.between(1, 4);
    for (int64_t generation = 0; generation < generations && files_; ++generation) {
      auto points = live();
      if (points.empty()) return;
      const auto next = static_cast<size_t>(random_.below(static_cast<int64_t>(points.size())));
      auto goes_on = points[next].image->copy(random_.next());
      for (auto& point : points) look_at(point);
      ledger_.take_back_to(points[next].promise);
      files_ = std::move(goes_on);
    }
  }

 private:
  /// One run of the broker on what the last loss has left.
  std::vector<Point> live() {
    std::vector<Point> points;
    std::vector<Ledger::Promise> promises;
    files_->on_loss([&] { promises.push_back(ledger_.promise()); });
    for (int i = 0; i < 4; ++i) files_->plan_loss(random_.below(calls_of_a_life_), random_.next());
    const int64_t calls_before = files_->calls();
    {
      auto before = files_->copy(1);
      Opened store(options_, *files_);
      if (!store) {
        refused(store.error(), *before, "the start of a further life");
        return points;
      }
      auto reading = read_everything(*store, ledger_);
      check_promise(ledger_.promise(), reading);
      report(store, reading, *before, "the start of a further life");
      ledger_.go_on_with(reading.places());
      REQUIRE(store->start());
      Traffic traffic;
      traffic.sync_flush = sync_;
      traffic.senders = static_cast<int>(random_.between(1, 3));
      traffic.messages = static_cast<int>(random_.between(1, 100));
      traffic.outstanding = static_cast<int>(random_.between(1, 8));
      traffic.body_bytes_max = static_cast<size_t>(random_.chance(0.1) ? options_.commit_log_file_bytes - 300 : 3'000);
      tally_.messages += traffic.messages;
      CHECK(send_traffic(*store, ledger_, traffic, random_.next()) == 0);
      points.push_back({nullptr, ledger_.promise(), "after the last answer"});
      points.back().image = files_->lose_power(random_.next());
      store->stop();
    }
    ledger_.durable_to(INT64_MAX);
    points.push_back({files_->lose_power(random_.next()), ledger_.promise(), "after a clean stop"});
    calls_of_a_life_ = std::max<int64_t>(20, files_->calls() - calls_before);
    auto losses = files_->take_losses();
    for (size_t i = 0; i < losses.size(); ++i)
      points.push_back({std::move(losses[i].image), std::move(promises[i]), "in front of " + losses[i].before});
    return points;
  }

  void look_at(Point& point) {
    ++tally_.points;
    auto before = point.image->copy(1);
    Ledger::Promise found;
    std::unique_ptr<MemoryFileSystem> lost_again;
    {
      Opened store(options_, *point.image);
      if (!store) return refused(store.error(), *before, point.when);
      auto reading = read_everything(*store, ledger_);
      check_promise(point.promise, reading);
      report(store, reading, *before, point.when);
      found.places = reading.places();
      // What a recovery has found, consumers may have seen: it stays, although nothing was written since.
      if (!random_.chance(0.3)) return;
      lost_again = point.image->lose_power(random_.next());
    }
    ++tally_.points;
    before = lost_again->copy(1);
    Opened again(options_, *lost_again);
    std::string when = point.when + ", and again after the recovery";
    if (!again) return refused(again.error(), *before, when);
    auto reading = read_everything(*again, ledger_);
    check_promise(found, reading);
    report(again, reading, *before, when);
  }

  void refused(const Error& error, const MemoryFileSystem& before, const std::string& when) {
    ++tally_.refused;
    if (!kHolesAreSkipped && error.code == Errc::kCorrupt && error.message.find("goes on at") != std::string::npos)
      return;
    fail({"the store does not start: " + error.message}, before, when);
  }

  void report(const Opened& store, Reading& reading, const MemoryFileSystem& before, const std::string& when) {
    const bool has_holes = store.logged("the log is damaged");
    tally_.holes += has_holes ? 1 : 0;
    had_holes_ = had_holes_ || has_holes;
    if (!had_holes_ && reading.gaps != 0) {
      reading.problems.push_back(fmt::format("{} offsets of queues have no message", reading.gaps));
    }
    if (reading.problems.empty()) return;
    for (const auto& line : store.lines()) reading.problems.push_back("  logged: " + line);
    fail(reading.problems, before, when);
  }

  void fail(const std::vector<std::string>& problems, const MemoryFileSystem& before, const std::string& when) {
    std::string text = fmt::format("life {} ({}), power lost {}", seed_, sync_ ? "SYNC_FLUSH" : "ASYNC_FLUSH", when);
    for (const auto& problem : problems) text += "\n  " + problem;
    auto kept = std::filesystem::temp_directory_path() / fmt::format("apogee-power-loss-{}", seed_);
    before.save_to(kept.string());
    FAIL(text << "\n  the directory in front of the start: " << kept.string());
  }

  const uint64_t seed_;
  test::Random random_;
  Tally& tally_;
  StoreOptions options_;
  bool sync_ = true, had_holes_ = false;
  int64_t calls_of_a_life_ = 150;
  Ledger ledger_;
  std::unique_ptr<MemoryFileSystem> files_;
};

}  // namespace

TEST_CASE("Power loss: nothing promised is lost, damaged or invented, at any point", "[badday]") {
  test::Random seeds(test::run_seed("power loss"));
  const int points = test::is_soak() ? 20'000 : 1'000;
  auto begin = std::chrono::steady_clock::now();
  Tally tally;
  while (tally.points < points) Life(seeds.next(), tally).run();
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
  fmt::print("power loss: {} points in {} lives, {} messages sent, {} holes, {} starts refused, {} ms\n", tally.points,
             tally.lives, tally.messages, tally.holes, tally.refused, ms);
  CHECK(tally.refused <= (kHolesAreSkipped ? 0 : tally.points / 2));
}

}  // namespace apogee::store
