#include <string>

#include "common/io/file_system.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"

using namespace apogee;

TEST_CASE("pages are populated where they are asked for, and none are read ahead of them", "[io]") {
  constexpr size_t kFileBytes = 64 << 20, kAt = (16 << 20) + 5'000, kBytes = 300'000;
  test::TemporaryDirectory directory;
  auto file = io::posix_file_system().open((directory.path() / "log").string(), io::OpenMode::kCreate);
  REQUIRE(file);
  REQUIRE((*file)->allocate(kFileBytes));
  auto map = (*file)->map(kFileBytes);
  REQUIRE(map);
  const bool in_memory_anyway = (*map)->in_memory(0, 4'096);  // tmpfs
  REQUIRE((*map)->populate(kAt, kBytes));
  CHECK((*map)->in_memory(kAt, kBytes));
  // A read-ahead would take megabytes in one go, with nobody else on the processor.
  for (const size_t beside : {kAt + kBytes + (256 << 10), kAt - (256 << 10)})
    CHECK((*map)->in_memory(beside, 4'096) == in_memory_anyway);
  (*map)->data()[kAt] = 'x';
  REQUIRE((*map)->populate(kFileBytes - 10, 100));  // the file's end is as far as it goes
  REQUIRE((*map)->populate(kFileBytes, 100));
  char byte = 0;
  REQUIRE((*file)->read_at(static_cast<int64_t>(kAt), &byte, 1));
  CHECK(byte == 'x');
}

TEST_CASE("zeros are written where they are asked for, into memory and to the disk", "[io]") {
  constexpr int64_t kFileBytes = 1 << 20, kAt = 70'001, kBytes = 300'000;
  const bool on_disk = GENERATE(false, true);
  test::TemporaryDirectory directory;
  auto file = io::posix_file_system().open((directory.path() / "log").string(), io::OpenMode::kCreate);
  REQUIRE(file);
  REQUIRE((*file)->allocate(kFileBytes));
  REQUIRE((*file)->write_at(0, std::string(kFileBytes, 'x')));
  auto map = (*file)->map(kFileBytes);
  REQUIRE(map);
  REQUIRE((*file)->write_zeros(kAt, kBytes, on_disk));
  REQUIRE((*file)->write_zeros(kAt, 0, on_disk));
  CHECK((*map)->in_memory(kAt, kBytes));
  const std::string_view now((*map)->data(), kFileBytes);
  CHECK(now.substr(0, kAt).find_first_not_of('x') == now.npos);
  CHECK(now.substr(kAt, kBytes).find_first_not_of('\0') == now.npos);
  CHECK(now.substr(kAt + kBytes).find_first_not_of('x') == now.npos);
  CHECK(now[kAt + kBytes] == 'x');
}
