#include "store/ha/record_assembler.h"

#include "store/ha/log_agreement.h"
#include "test/support/catch.h"
#include "test/support/memory_log.h"
#include "test/support/random.h"

using namespace apogee;
using namespace apogee::store;
using namespace apogee::test;

namespace {

constexpr int64_t kFileBytes = 1024;

/// Several records and blanks over three files.
std::string log_of_three_files() {
  MemoryLog log(kFileBytes);
  for (int i = 0; log.end() < 2 * kFileBytes + 300; ++i) log.put(std::string(static_cast<size_t>(i * 37 % 150), 'b'));
  return log.content();
}

/// Everything that can be taken; an error ends it.
std::string take_all(RecordAssembler& assembler, int64_t bytes_max, std::optional<Error>* error = nullptr) {
  std::string all;
  for (;;) {
    auto run = assembler.take(bytes_max);
    if (!run) {
      if (error) *error = run.error();
      return all;
    }
    if (!*run) return all;
    // Within one file.
    CHECK((*run)->at / kFileBytes == ((*run)->at + static_cast<int64_t>((*run)->bytes.size()) - 1) / kFileBytes);
    all += (*run)->bytes;
  }
}

}  // namespace

TEST_CASE("a stream that is cut at any byte gives the same records", "[ha]") {
  const auto log = log_of_three_files();
  for (size_t cut = 0; cut <= log.size(); ++cut) {
    RecordAssembler assembler(kFileBytes);
    assembler.begin_at(0);
    assembler.add(std::string_view(log).substr(0, cut));
    auto first = take_all(assembler, 300);
    REQUIRE(log.starts_with(first));
    REQUIRE(assembler.received_end() == static_cast<int64_t>(cut));
    assembler.add(std::string_view(log).substr(cut));
    REQUIRE((first + take_all(assembler, 300)) == log);
    // The same when the connection ends there, and the next one goes on from the log's end.
    RecordAssembler again(kFileBytes);
    again.begin_at(static_cast<int64_t>(first.size()));
    again.add(std::string_view(log).substr(first.size()));
    REQUIRE((first + take_all(again, 1 << 20)) == log);
  }
}

TEST_CASE("single bytes make the same records", "[ha]") {
  const auto log = log_of_three_files();
  RecordAssembler assembler(kFileBytes);
  assembler.begin_at(0);
  std::string all;
  for (char byte : log) {
    assembler.add({&byte, 1});
    all += take_all(assembler, 100);
  }
  CHECK(all == log);
  CHECK(assembler.buffered() == 0);
}

TEST_CASE("bytes received into the assembler's room make the same records, of any length", "[ha]") {
  constexpr int64_t kLargeFile = 1 << 20;
  MemoryLog source(kLargeFile);
  Random random(run_seed("room"));
  while (source.end() < 5 * kLargeFile + 12'345) {
    const auto bytes = random.below(20) == 0 ? random.below(400'000) : random.below(3'000);
    source.put(std::string(static_cast<size_t>(bytes), 'r'));
  }
  const auto log = source.content();
  RecordAssembler assembler(kLargeFile);
  assembler.begin_at(0);
  std::string all;
  for (size_t at = 0; at < log.size();) {
    const auto wanted = std::min(log.size() - at, static_cast<size_t>(random.between(1, 600'000)));
    if (random.below(5) == 0) {
      assembler.add(std::string_view(log).substr(at, wanted));
      at += wanted;
    } else {
      const auto [to, size] = assembler.room(wanted);
      REQUIRE(size >= 1);
      REQUIRE(size <= wanted);
      const auto came = static_cast<size_t>(random.between(1, static_cast<int64_t>(size)));
      std::copy_n(log.data() + at, came, to);
      assembler.received(came);
      at += came;
    }
    REQUIRE(assembler.received_end() == static_cast<int64_t>(at));
    if (random.below(3) != 0) continue;  // the log is slow
    for (;;) {
      auto run = assembler.take(4 << 20);
      REQUIRE(run);
      if (!*run) break;
      CHECK((*run)->at == static_cast<int64_t>(all.size()));
      all += (*run)->bytes;
    }
  }
  for (auto run = assembler.take(4 << 20); run && *run; run = assembler.take(4 << 20)) all += (*run)->bytes;
  CHECK(all == log);
  CHECK(assembler.buffered() == 0);
}

TEST_CASE("a log that begins within a file is taken from there", "[ha]") {
  const auto log = log_of_three_files();
  const auto second = log_record(0, 0, "").size();
  RecordAssembler assembler(kFileBytes);
  assembler.begin_at(static_cast<int64_t>(second));
  assembler.add(std::string_view(log).substr(second));
  CHECK(take_all(assembler, 1 << 20) == log.substr(second));
}

TEST_CASE("any damaged byte of a record is noticed", "[ha]") {
  MemoryLog log(kFileBytes);
  log.put("first");
  const auto at = static_cast<size_t>(log.put(std::string(40, 'c')));
  const auto end = static_cast<size_t>(log.put("behind"));
  const auto good = log.content();
  // Of the fields behind the body's CRC some are covered by nothing in the record: only the structure is checked there.
  const auto body = good.find(std::string(40, 'c'));
  for (size_t damaged = at; damaged < end; ++damaged) {
    const size_t within = damaged - at;
    const bool covered = within < 12 || (within >= 28 && within < 36) || (damaged >= body && damaged < body + 40);
    if (!covered) continue;
    auto bytes = good;
    bytes[damaged] = static_cast<char>(bytes[damaged] ^ 0x41);
    RecordAssembler assembler(kFileBytes);
    assembler.begin_at(0);
    assembler.add(bytes);
    std::optional<Error> error;
    auto taken = take_all(assembler, 1 << 20, &error);
    CAPTURE(within);
    CHECK(taken == good.substr(0, at));
    // A wild length may ask for more bytes than there are; they are damage as soon as they have come.
    if (!error) {
      assembler.add(std::string(kFileBytes - bytes.size(), 'z'));
      CHECK(take_all(assembler, 1 << 20, &error).empty());
    }
    REQUIRE(error.has_value());
    CHECK(error->code == Errc::kCorrupt);
    // Good bytes the next time: a fault of the network.
    assembler.begin_at(static_cast<int64_t>(at));
    assembler.add(std::string_view(good).substr(at));
    CHECK(take_all(assembler, 1 << 20) == good.substr(at));
  }
}

TEST_CASE("the same damage again is the master's own, and is given out up to the next record", "[ha]") {
  const auto good = log_of_three_files();
  MemoryLog layout(kFileBytes);
  std::vector<size_t> records;
  for (size_t at = 0; at < good.size();) {
    records.push_back(at);
    at += load_be<uint32_t>(good.data() + at);
  }
  for (size_t i = 0; i + 1 < records.size(); ++i) {
    for (size_t offset : {size_t{0}, size_t{5}, size_t{30}}) {
      if (offset >= records[i + 1] - records[i]) continue;
      auto bytes = good;
      // Whole stretches, and single bits.
      if (i % 2 == 0) {
        bytes[records[i] + offset] ^= 0x10;
      } else {
        std::fill(bytes.begin() + static_cast<ptrdiff_t>(records[i]),
                  bytes.begin() + static_cast<ptrdiff_t>(records[i + 1]), '\0');
      }
      // The padding of a blank means nothing, so that it has no damage.
      if (i % 2 == 0 && load_be<int32_t>(good.data() + records[i] + 4) == message::kBlankMagic && offset >= 8) continue;
      CAPTURE(i, offset);
      RecordAssembler assembler(kFileBytes);
      assembler.begin_at(0);
      assembler.add(bytes);
      std::optional<Error> error;
      auto taken = take_all(assembler, 1 << 20, &error);
      REQUIRE(error.has_value());
      REQUIRE(taken.size() == records[i]);
      // Byte by byte, as the worst network brings it.
      assembler.begin_at(static_cast<int64_t>(records[i]));
      int damaged = 0;
      for (size_t at = records[i]; at < bytes.size(); ++at) {
        assembler.add(std::string_view(bytes).substr(at, 1));
        for (;;) {
          auto run = assembler.take(1 << 20);
          REQUIRE(run.has_value());
          if (!*run) break;
          taken += (*run)->bytes;
          if ((*run)->damaged) {
            ++damaged;
            CHECK((*run)->at == static_cast<int64_t>(records[i]));
            // Only a record ends it, so that a blank behind it belongs to it.
            const bool blank_next = load_be<int32_t>(good.data() + records[i + 1] + 4) == message::kBlankMagic;
            CHECK((*run)->bytes.size() == records[blank_next ? i + 2 : i + 1] - records[i]);
          }
        }
      }
      CHECK(damaged == 1);
      CHECK(taken == bytes);
    }
  }
}

TEST_CASE("damage up to the end of a file ends there", "[ha]") {
  auto bytes = log_of_three_files();
  std::fill(bytes.begin(), bytes.begin() + kFileBytes, '\x7E');
  RecordAssembler assembler(kFileBytes);
  for (int round = 0; round < 2; ++round) {
    assembler.begin_at(0);
    assembler.add(bytes);
    auto run = assembler.take(1 << 20);
    if (round == 0) {
      CHECK_FALSE(run.has_value());
      continue;
    }
    REQUIRE(run.has_value());
    REQUIRE(run->has_value());
    CHECK((*run)->damaged);
    CHECK((*run)->bytes.size() == kFileBytes);
    CHECK(take_all(assembler, 1 << 20) == bytes.substr(kFileBytes));
  }
}

TEST_CASE("where two logs part, by their epochs", "[ha]") {
  using Action = LogAgreement::Action;
  const std::vector<Epoch> one{{1, 0}}, two{{1, 0}, {2, 500}}, other{{7, 0}};
  auto result = [](const LogSide& slave, const LogSide& master, bool truncate) {
    auto agreed = agree(slave, master, truncate);
    return std::pair(agreed.action, agreed.end);
  };
  // Behind, level, in an older epoch.
  CHECK(result({0, 400, one}, {0, 900, two}, false) == std::pair(Action::kFollow, LogOffset{400}));
  CHECK(result({0, 500, one}, {0, 900, two}, false) == std::pair(Action::kFollow, LogOffset{500}));
  CHECK(result({0, 900, two}, {0, 900, two}, false) == std::pair(Action::kFollow, LogOffset{900}));
  // Ahead: it is cut only when that is wanted.
  CHECK(result({0, 600, one}, {0, 900, two}, false).first == Action::kRefuse);
  CHECK(result({0, 600, one}, {0, 900, two}, true) == std::pair(Action::kTruncate, LogOffset{500}));
  CHECK(result({0, 600, one}, {0, 550, one}, true) == std::pair(Action::kTruncate, LogOffset{550}));
  CHECK(agree({0, 600, one}, {0, 550, one}, false).why.find("haTruncateAhead") != std::string::npos);
  // Nothing in common, or a gap.
  CHECK(result({0, 600, other}, {0, 900, two}, true).first == Action::kRefuse);
  CHECK(result({0, 600, one}, {700, 900, {{1, 0}}}, true).first == Action::kRefuse);
  // Both began the same epoch on their own: the proof has told, and what lies in front of it is looked at.
  auto parted = [](LogOffset at) { return LogSide{0, 900, {{1, 0}, {2, 500}}, at}; };
  CHECK(result(parted(500), {0, 950, two}, true) == std::pair(Action::kTruncate, LogOffset{500}));
  CHECK(result(parted(500), {0, 950, two}, false).first == Action::kRefuse);
  CHECK(result(parted(0), {0, 950, two}, true) == std::pair(Action::kTruncate, LogOffset{0}));
  CHECK(agree(parted(0), {0, 950, two}, false).why.find("haTruncateAhead") != std::string::npos);
  // Bytes in front of all epochs, from the time under a classic master.
  CHECK(result({0, 400, {}}, {0, 900, {{1, 500}}}, false) == std::pair(Action::kFollow, LogOffset{400}));
  CHECK(result({0, 600, {}}, {0, 900, {{1, 500}}}, true) == std::pair(Action::kTruncate, LogOffset{500}));
  CHECK(result({0, 600, {}}, {0, 900, {{1, 0}}}, true).first == Action::kRefuse);
}

TEST_CASE("what an assembler has given stays as it is until it is released", "[ha]") {
  constexpr int64_t kLargeFile = 8 << 20;
  MemoryLog source(kLargeFile);
  Random random(run_seed("lent"));
  // Also longer ones than a block.
  while (source.end() < 3 * kLargeFile + 12'345) {
    const auto bytes = random.below(200) == 0 ? random.below(3'000'000) : random.below(30'000);
    source.put(std::string(static_cast<size_t>(bytes), static_cast<char>('a' + random.below(26))));
  }
  const auto log = source.content();
  RecordAssembler assembler(kLargeFile);
  assembler.begin_at(0);
  std::string all;
  std::optional<RecordAssembler::Run> run;
  for (size_t at = 0; at < log.size() || run;) {
    if (at < log.size()) {
      const auto [to, size] = assembler.room(std::min<size_t>(log.size() - at, 1 + random.below(400'000)));
      std::copy_n(log.data() + at, size, to);
      assembler.received(size);
      at += size;
    }
    // One run at a time is in use while more is received.
    if (run && (at == log.size() || random.below(3) == 0)) {
      REQUIRE(run->at == static_cast<int64_t>(all.size()));
      all += run->bytes;
      run.reset();
      assembler.runs_released();
    }
    if (!run) {
      auto taken = assembler.take(1 << 20);
      REQUIRE(taken);
      run = std::move(*taken);
      if (!run && at == log.size()) break;
    }
  }
  CHECK((all == log));
}
