// What replication costs: printed, nothing is asserted of it. Figures of a debug build mean nothing.
//   replication [figures]                    in 20 seconds
//   APOGEE_SOAK=1 replication [figures]      with more of everything
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "test/replication/checker.h"
#include "test/replication/senders.h"
#include "test/support/catch.h"
#include "test/support/random.h"
#include "test/support/wait.h"

namespace apogee::test {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaster = ReplicatedCluster::kMaster, kSlave = 1;
constexpr double kMiB = 1 << 20;

double seconds_since(Clock::time_point time) { return std::chrono::duration<double>(Clock::now() - time).count(); }

Settings production() {
  return {{"mappedFileSizeCommitLog", "67108864"},
          {"haHousekeepingInterval", "20000"},
          {"haMaxTimeSlaveNotCatchup", "15000"},
          {"slaveTimeout", "3000"},
          {"logLevel", "WARN"},
          {"mappedFileSizeConsumeQueue", "6000000"}};
}

double cpu_seconds(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  std::stringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Sent send_for(ReplicatedCluster& cluster, const Senders& senders, std::chrono::milliseconds time) {
  const auto end = Clock::now() + time;
  return send_until(cluster.port(kMaster), senders, [&] { return Clock::now() >= end; });
}

void add(Sent& to, const Sent& more) {
  to.answers.insert(to.answers.end(), more.answers.begin(), more.answers.end());
  to.others += more.others;
  to.seconds += more.seconds;
}

double own_cpu_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

struct Cost {
  double seconds = 0, cpu_seconds = 0;
};

/// The same bytes as a program without any idea of them would copy them: sendfile() on one side, read and write to
/// files on the other.
Cost plain_copy(const LogFiles& log, int64_t end, const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ::bind(listener, reinterpret_cast<sockaddr*>(&at), size);
  ::listen(listener, 1);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
  const auto began = Clock::now();
  const double cpu_before = own_cpu_seconds();
  std::thread sender([&] {
    const int out = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(out, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0) {
      for (const auto& [begin, path] : log.files()) {
        const int in = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        auto left = std::min(end - begin, static_cast<int64_t>(std::filesystem::file_size(path)));
        while (left > 0) {
          const ssize_t n = ::sendfile(out, in, nullptr, static_cast<size_t>(left));
          if (n <= 0) break;
          left -= n;
        }
        ::close(in);
      }
    }
    ::close(out);
  });
  const int in = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  std::string part(256 << 10, '\0');
  const int file = ::open((to / "copy").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  int64_t copied = 0;
  for (ssize_t n; (n = ::recv(in, part.data(), part.size(), 0)) > 0; copied += n)
    if (::write(file, part.data(), static_cast<size_t>(n)) != n) break;
  const double took = seconds_since(began);
  sender.join();
  const double cpu = own_cpu_seconds() - cpu_before;
  for (const int each : {listener, in, file}) ::close(each);
  std::filesystem::remove_all(to);
  CHECK(copied >= end - log.begin());
  return {took, cpu};
}

/// A master with so much in its log, and a slave that does not run yet.
struct CatchUp {
  explicit CatchUp(int64_t mib) {
    cluster.start(kMaster);
    prepare(cluster, ledger);
    Senders senders;
    senders.connections = 4;
    senders.body_bytes = 1'024;
    senders.batch = 128;
    int64_t sent = 0;
    const auto wanted = mib << 20;
    SenderLoop loop(cluster.port(kMaster), senders);
    const auto directory = cluster.commit_log(kMaster);
    while (sent < wanted) {
      loop.step();
      // Files are made ahead of their use, up to two.
      const LogFiles log(directory);
      sent = (static_cast<int64_t>(log.files().size()) - 2) * (64 << 20);
    }
    static_cast<void>(loop.finish());
    end = LogFiles(directory).end();
  }
  struct Window {
    Clock::time_point begin, end;
    double master_cpu_seconds = 0, slave_cpu_seconds = 0;
  };
  /// The slave starts with nothing, and gets everything that the master had.
  Window run() {
    cluster.lose_disk(kSlave);
    const auto last = LogFiles(cluster.commit_log(kMaster)).read(end - 64, 64);
    Window window;
    std::thread starter([this] { cluster.start(kSlave); });
    auto has = [&](int64_t at, const std::string& bytes) {
      return LogFiles(cluster.commit_log(kSlave)).read(at, static_cast<int64_t>(bytes.size())) == bytes;
    };
    const auto first = LogFiles(cluster.commit_log(kMaster)).read(0, 16);
    const bool began = eventually([&] { return has(0, first); }, 60s);
    window.begin = Clock::now();
    const double before = cpu_seconds(cluster.process(kMaster).pid());
    const bool ended = eventually([&] { return has(end - 64, last); }, 300s);
    window.end = Clock::now();
    window.master_cpu_seconds = cpu_seconds(cluster.process(kMaster).pid()) - before;
    starter.join();
    window.slave_cpu_seconds = cpu_seconds(cluster.process(kSlave).pid());  // with its start
    CHECK((began && ended));
    cluster.kill(kSlave);
    return window;
  }
  ReplicatedCluster cluster{{.role = "ASYNC_MASTER", .all = production(), .start = false}};
  Ledger ledger;
  int64_t end = 0;
};

}  // namespace

TEST_CASE("figures: SYNC_MASTER against ASYNC_MASTER", "[.][figures]") {
  const int rounds = is_soak() ? 8 : 2;
  const auto time = is_soak() ? 5'000ms : 900ms;
  ReplicatedCluster sync({.role = "SYNC_MASTER", .all = production()});
  ReplicatedCluster async({.role = "ASYNC_MASTER", .all = production()});
  Ledger ledger;
  prepare(sync, ledger);
  prepare(async, ledger);
  for (const int connections : {1, 16, 256}) {
    Senders senders;
    senders.connections = connections;
    Sent of_sync, of_async;
    for (int round = 0; round < rounds; ++round) {
      add(of_async, send_for(async, senders, time));
      add(of_sync, send_for(sync, senders, time));
    }
    std::printf(
        "%3d senders: SYNC_MASTER %.0f/s, p50 %.2f ms, p99 %.2f ms; ASYNC_MASTER %.0f/s, p50 %.2f ms, p99 %.2f ms; "
        "ratio of the rates %.2f%s; not SEND_OK: %zu, %zu\n",
        connections, of_sync.rate(), static_cast<double>(of_sync.percentile(0.5)) / 1e3,
        static_cast<double>(of_sync.percentile(0.99)) / 1e3, of_async.rate(),
        static_cast<double>(of_async.percentile(0.5)) / 1e3, static_cast<double>(of_async.percentile(0.99)) / 1e3,
        of_sync.rate() / std::max(of_async.rate(), 1.0), connections == 256 ? " (aim 0.7)" : "", of_sync.others,
        of_async.others);
    std::fflush(stdout);
  }
}

TEST_CASE("figures: a slave that catches up", "[.][figures]") {
  const int64_t mib = is_soak() ? 2'048 : 384;
  const int rounds = is_soak() ? 5 : 2;
  CatchUp bench(mib);
  const double size = static_cast<double>(bench.end) / kMiB;
  double copied = 0, copied_cpu = 0, caught_up = 0, master_cpu = 0, slave_cpu = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto copy =
        plain_copy(LogFiles(bench.cluster.commit_log(kMaster)), bench.end, bench.cluster.directory() / "copy");
    copied += copy.seconds;
    copied_cpu += copy.cpu_seconds;
    const auto window = bench.run();
    caught_up += std::chrono::duration<double>(window.end - window.begin).count();
    master_cpu += window.master_cpu_seconds;
    slave_cpu += window.slave_cpu_seconds;
  }
  const double ours = size * rounds / caught_up, plain = size * rounds / copied;
  const double per_mib = 1e3 / (size * rounds);
  std::printf(
      "catching up: %.0f MiB/s over %.0f MiB; plain TCP copy to a file %.0f MiB/s; ratio %.2f (aim 0.7); CPU in ms per "
      "MiB: master %.3f, slave %.3f, plain copy %.3f\n",
      ours, size, plain, ours / plain, master_cpu * per_mib, slave_cpu * per_mib, copied_cpu * per_mib);
  std::fflush(stdout);

  Senders senders;
  senders.connections = 16;
  senders.requests_per_second = 2'000;
  Sent quiet, busy;
  for (int round = 0; round < rounds; ++round) {
    // In turns, so that what else the machine does falls on both.
    add(quiet, send_for(bench.cluster, senders, is_soak() ? 5'000ms : 3'000ms));
    CatchUp::Window window;
    std::atomic<bool> done{false};
    std::thread sending;
    Sent all;
    sending = std::thread([&] { all = send_until(bench.cluster.port(kMaster), senders, [&] { return done.load(); }); });
    window = bench.run();
    done = true;
    sending.join();
    for (const auto& each : all.answers)
      if (each.at >= window.begin && each.at <= window.end) busy.answers.push_back(each);
    busy.others += all.others;
  }
  std::printf(
      "producers (2000/s): alone p50 %.2f ms, p99.9 %.2f ms (%zu); with a slave that catches up p50 %.2f ms, p99.9 "
      "%.2f ms (%zu); ratio of p99.9 %.2f (aim at most 1.5)\n",
      static_cast<double>(quiet.percentile(0.5)) / 1e3, static_cast<double>(quiet.percentile(0.999)) / 1e3,
      quiet.answers.size(), static_cast<double>(busy.percentile(0.5)) / 1e3,
      static_cast<double>(busy.percentile(0.999)) / 1e3, busy.answers.size(),
      static_cast<double>(busy.percentile(0.999)) / std::max<double>(1, static_cast<double>(quiet.percentile(0.999))));
}

}  // namespace apogee::test
