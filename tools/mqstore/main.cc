#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "common/base/version.h"
#include "tools/command_line/command_line.h"
#include "tools/mqadmin/json_writer.h"
#include "tools/mqadmin/output.h"
#include "tools/mqstore/dump.h"
#include "tools/mqstore/repair.h"
#include "tools/mqstore/verify.h"

namespace mqstore {

namespace {

enum Exit : int { kClean = 0, kFindings = 1, kFailed = 2 };

int fail(const apogee::Error& error) {
  fmt::print(stderr, "mqstore: {}\n", error.message);
  return kFailed;
}

bool print_out(std::string_view text) { return std::fwrite(text.data(), 1, text.size(), stdout) == text.size(); }

struct Bar {
  explicit Bar(const char* what) : bar(std::make_unique<mqadmin::Progress>(what)) {}
  std::unique_ptr<mqadmin::Progress> bar;
  ProgressListener listener() {
    return [this](int64_t done, int64_t total) { bar->set(done >> 20, total >> 20); };
  }
};

void print_json(const Verified& verified) {
  mqadmin::JsonWriter json(2);
  json.begin_object();
  json.member("clean", verified.findings_total == 0).member("findings", verified.findings_total);
  json.member("records", verified.records).member("recordBytes", verified.record_bytes);
  json.member("logBegin", verified.log_begin).member("logEnd", verified.log_end).member("holes", verified.holes);
  json.member("unclean", verified.unclean);
  json.member("queues", verified.queues).member("queueEntries", verified.entries);
  json.member("indexEntries", verified.index_entries);
  json.key("list").begin_array();
  for (const auto& finding : verified.findings) {
    json.begin_object().member("kind", finding.kind);
    json.bytes_member("where", finding.where).bytes_member("what", finding.what).end_object();
  }
  json.end_array().end_object();
  print_out(json.text() + "\n");
}

void print_text(const Verified& verified) {
  for (const auto& finding : verified.findings)
    print_out(fmt::format("{:<20} {}: {}\n", finding.kind, finding.where, finding.what));
  if (auto more = verified.findings_total - static_cast<int64_t>(verified.findings.size()); more > 0)
    print_out(fmt::format("... and {} more of these kinds (--findings)\n", more));
  print_out(fmt::format("log {} to {}: {} messages in {} bytes, {} holes\n", verified.log_begin, verified.log_end,
                        verified.records, verified.record_bytes, verified.holes));
  print_out(fmt::format("{} queues with {} entries; about {} entries in the index\n", verified.queues, verified.entries,
                        verified.index_entries));
  if (verified.unclean)
    print_out("the last broker was killed: the next start cuts the log's tail and adds the last entries by itself\n");
  print_out(verified.findings_total == 0 ? std::string("nothing wrong was found\n")
                                         : fmt::format("{} findings\n", verified.findings_total));
}

struct Arguments {
  StoreDirectory::Options store;
  VerifyOptions verify;
  DumpOptions dump;
  RepairOptions repair;
  std::string for_version, begin, end;
  bool json = false, all_bodies = false, entries = false;
};

int run_verify(Arguments& arguments) {
  auto store = StoreDirectory::open(arguments.store);
  if (!store) return fail(store.error());
  arguments.verify.for_4_9 = arguments.for_version == "4.9";
  Bar bar("MiB of the store");
  auto verified = verify(*store, arguments.verify, bar.listener());
  bar.bar.reset();
  if (!verified) return fail(verified.error());
  arguments.json ? print_json(*verified) : print_text(*verified);
  return verified->findings_total == 0 ? kClean : kFindings;
}

int run_dump(Arguments& arguments) {
  auto store = StoreDirectory::open(arguments.store);
  if (!store) return fail(store.error());
  auto& options = arguments.dump;
  options.json = arguments.json;
  if (arguments.all_bodies) options.body_bytes_max = INT64_MAX;
  for (auto [text, value] : {std::pair(&arguments.begin, &options.begin_ms), {&arguments.end, &options.end_ms}}) {
    if (text->empty()) continue;
    auto time = mqadmin::parse_time(*text);
    if (!time) return fail(time.error());
    *value = *time;
  }
  if (arguments.entries && (options.topic.empty() || options.queue_id < 0))
    return fail(apogee::Error(apogee::Errc::kInvalidArgument, "--entries wants --topic and --queue too"));
  auto printed = arguments.entries ? dump_queue(*store, options, print_out) : dump(*store, options, print_out);
  if (!printed) return fail(printed.error());
  return kClean;
}

int run_repair(Arguments& arguments) {
  auto store = StoreDirectory::open(arguments.store);
  if (!store) return fail(store.error());
  Bar bar("MiB of the store");
  arguments.verify.findings_per_kind = 1'000;
  auto verified = verify(*store, arguments.verify, bar.listener());
  bar.bar.reset();
  if (!verified) return fail(verified.error());
  auto log = [](std::string_view line) { fmt::print(stderr, "  {}\n", line); };
  auto repaired = repair(*store, *verified, arguments.repair, log);
  if (!repaired) return fail(repaired.error());
  for (const auto& done : repaired->done)
    print_out((arguments.repair.dry_run ? "would be done: " : "done: ") + done + "\n");
  for (const auto& left : repaired->left) print_out("left as it is: " + left + "\n");
  if (!repaired->backup_dir.empty()) print_out("what was taken away is in " + repaired->backup_dir + "\n");
  if (repaired->done.empty() && repaired->left.empty()) print_out("there is nothing to repair\n");
  return repaired->left.empty() ? kClean : kFindings;
}

void add_store(const tools::CommandOptions& command, Arguments& arguments) {
  command.add_option("DIR", arguments.store.root, "the store directory (storePathRootDir)").required();
  command.add_option("--commitLogDir", arguments.store.commit_log_dir, "where the log stands, if not in DIR/commitlog");
  command.add_option("--mappedFileSizeCommitLog", arguments.store.log_file_bytes, "bytes; default: as the files are");
  command.add_option("--mappedFileSizeConsumeQueue", arguments.store.queue_file_bytes,
                     "bytes; default: as most files are");
}

}  // namespace

int run(int argc, char** argv) {
  Arguments arguments;
  tools::CommandLine line(
      "mqstore", apogee::kVersion,
      "Looks at, prints and repairs a store directory of ApogeeMQ or Apache RocketMQ, while no broker works on it.");
  line.footer(
      "Examples:\n"
      "  mqstore verify ~/store                      walks everything, tells what is wrong; exit code 1 if anything "
      "is\n"
      "  mqstore verify ~/store --for 4.9            also what a broker of Apache RocketMQ 4.9 could not read\n"
      "  mqstore dump ~/store --topic Orders --limit 10\n"
      "  mqstore dump ~/store --key 4711 --json --body\n"
      "  mqstore repair ~/store --dry-run            what a repair would do\n"
      "Exit codes: 0 nothing wrong, 1 findings (or something that cannot be repaired), 2 could not run.");

  const auto verify =
      line.add_command("verify", "Walks log, queues, configuration and index; reports every inconsistency");
  add_store(verify, arguments);
  verify.add_option("--for", arguments.for_version, "also list what this version of Apache RocketMQ could not read")
      .one_of({"4.9", "5.x"});
  verify.add_option("--findings", arguments.verify.findings_per_kind, "told of each kind; the others are counted")
      .positive()
      .show_default();
  verify.add_flag("!--no-index", arguments.verify.index, "do not look into indexdb/");
  verify.add_flag("--json", arguments.json, "one JSON object");

  const auto dump = line.add_command("dump", "Prints messages in the order of the log, or the entries of a queue");
  add_store(dump, arguments);
  dump.add_option("-t,--topic", arguments.dump.topic, "only this topic");
  dump.add_option("-q,--queue", arguments.dump.queue_id, "only this queue id");
  dump.add_option("-k,--key", arguments.dump.key, "only messages with this key or unique id");
  dump.add_option("--from", arguments.dump.from, "from this place in the log (with --entries: queue offset)");
  dump.add_option("-b,--begin", arguments.begin, "stored from this time on: ms since 1970 or yyyy-MM-dd#HH:mm:ss:SSS");
  dump.add_option("-e,--end", arguments.end, "stored up to this time");
  dump.add_option("-l,--limit", arguments.dump.limit, "messages at most");
  dump.add_flag("--body", arguments.all_bodies, "whole bodies, not their first 100 bytes");
  dump.add_flag("--entries", arguments.entries, "the entries of a queue, with --topic and --queue");
  dump.add_flag("--json", arguments.json, "a line of JSON for each");

  const auto repair = line.add_command("repair",
                                       "Cuts a torn tail, builds queues again from the log, takes a bad index away, "
                                       "restores configuration files; what is replaced is kept");
  add_store(repair, arguments);
  repair.add_flag("--dry-run", arguments.repair.dry_run, "only tell what would be done");
  repair.add_option("--backup", arguments.repair.backup_dir, "where to keep what is replaced; default DIR/repair-TIME");

  if (const auto status = line.parse(argc, argv)) return *status == 0 ? kClean : kFailed;
  if (verify.called()) return run_verify(arguments);
  return dump.called() ? run_dump(arguments) : run_repair(arguments);
}

}  // namespace mqstore

int main(int argc, char** argv) { return mqstore::run(argc, argv); }
