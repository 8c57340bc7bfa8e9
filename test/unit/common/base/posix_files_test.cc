#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "common/io/file_system.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"
#include "test/support/wait.h"

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

TEST_CASE("what is on the disk is read where it is asked for, with what follows as far as wanted", "[io]") {
  constexpr size_t kFileBytes = 32 << 20, kAt = (8 << 20) + 5'000, kBytes = 300'000, kAhead = 600'000;
  test::TemporaryDirectory directory;
  const std::string path = (directory.path() / "log").string();
  auto file = io::posix_file_system().open(path, io::OpenMode::kCreate);
  REQUIRE(file);
  for (size_t at = 0; at < kFileBytes; at += 1 << 20)
    REQUIRE((*file)->write_at(static_cast<int64_t>(at), std::string(1 << 20, static_cast<char>('a' + (at >> 20)))));
  REQUIRE((*file)->sync());
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(descriptor >= 0);
  REQUIRE(::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) == 0);
  ::close(descriptor);
  auto map = (*file)->map(kFileBytes);
  REQUIRE(map);
  const bool in_memory_anyway = (*map)->in_memory(0, 4'096);  // tmpfs
  REQUIRE((*map)->in_memory(kAt, kBytes) == in_memory_anyway);
  REQUIRE((*map)->load(kAt, kBytes, kAhead));
  CHECK((*map)->in_memory(kAt, kBytes));
  CHECK(test::eventually([&] { return (*map)->in_memory(kAt + kBytes, kAhead); }));
  // Read-ahead by the kernel would be of megabytes in one go, with nobody else on the processor.
  for (const size_t beside : {kAt + kBytes + kAhead + (1 << 20), kAt - (256 << 10)})
    CHECK((*map)->in_memory(beside, 4'096) == in_memory_anyway);
  CHECK((*map)->data()[kAt] == 'i');
  REQUIRE((*map)->load(kFileBytes - 10, 100, kAhead));
  REQUIRE((*map)->load(kFileBytes, 100, kAhead));
  CHECK((*map)->data()[kFileBytes - 1] == static_cast<char>('a' + 31));
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
