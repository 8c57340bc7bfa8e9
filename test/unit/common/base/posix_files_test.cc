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
  REQUIRE((*map)->populate(kAt, kBytes));
  CHECK((*map)->in_memory(kAt, kBytes));
  // A read-ahead would take megabytes in one go, with nobody else on the processor.
  CHECK_FALSE((*map)->in_memory(kAt + kBytes + (256 << 10), 4'096));
  CHECK_FALSE((*map)->in_memory(kAt - (256 << 10), 4'096));
  (*map)->data()[kAt] = 'x';
  REQUIRE((*map)->populate(kFileBytes - 10, 100));  // the file's end is as far as it goes
  REQUIRE((*map)->populate(kFileBytes, 100));
  char byte = 0;
  REQUIRE((*file)->read_at(static_cast<int64_t>(kAt), &byte, 1));
  CHECK(byte == 'x');
}
