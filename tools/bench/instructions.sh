#!/usr/bin/env bash
# Instructions that the broker executes in user space for each message, counted by valgrind: they do not depend on what
# else the machine does. Two loads of different length run against two brokers that are otherwise the same; the
# difference belongs to the messages. Called as tools/bench.sh --instructions [--check | --update] [--bin DIR].
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/bench/server.sh

baseline=test/bench/baseline.json mode=print bin=''
while [ $# -gt 0 ]; do
  case "$1" in
    --check) mode=check && shift ;;
    --update) mode=update && shift ;;
    --bin) bin=${2:?--bin needs a directory} && shift 2 ;;
    *) echo "bench.sh --instructions: unknown option $1" >&2 && exit 2 ;;
  esac
done
for tool in valgrind jq; do
  command -v "$tool" >/dev/null || { echo "bench.sh: $tool is missing (tools/install-deps.sh)" >&2; exit 1; }
done
if [ -z "$bin" ]; then
  tools/build.sh release mqbroker mqbench
  bin=build/release
fi
server_begin "$bin"
server_wrapper=(valgrind --tool=callgrind --callgrind-out-file=/dev/null)
mqbench=$bin/tools/mqbench

load() { "$mqbench" "$@" --broker "127.0.0.1:$broker_port" --quiet >"$server_root/load.txt" 2>&1 || { cat "$server_root/load.txt" >&2; exit 1; }; }
# What the broker that has just ended executed in all.
collected() { sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$server_root/broker.out" | tail -1; }
# per_message LESS MORE LOAD...: the difference of two brokers whose load had LESS and MORE messages, for each message,
# in `now`. (Not on standard output: a subshell would leave its broker behind when a load fails.)
per_message() {
  local less=$1 more=$2 counts=() n
  shift 2
  for n in "$less" "$more"; do
    broker_start
    "$@" "$n"
    server_stop
    counts+=("$(collected)")
  done
  now=$(((counts[1] - counts[0]) / (more - less)))
}
send() { load produce --topic bench --queues 8 --mode sync --connections 1 --body 1K --unique-key --warmup 0 --messages "$1"; }
batch() { load produce --topic bench --queues 8 --mode sync --connections 1 --body 1K --unique-key --batch 32 --warmup 0 --messages "$1"; }
# The same messages each time; what is read of them differs.
pull() {
  load produce --topic few --queues 8 --mode sync --connections 1 --body 1K --unique-key --batch 32 --warmup 0 --messages 3200
  load produce --topic many --queues 8 --mode sync --connections 1 --body 1K --unique-key --batch 32 --warmup 0 --messages 35200
  load consume --topic "$([ "$1" = 3200 ] && echo few || echo many)" --pull-batch 32
}

# How often threads wake each other differs a little from run to run: what is too much is counted again, the least holds.
printf '%-28s %12s %12s\n' "instructions per message" now baseline
result='{}' failed=0
for row in "send 2000 12000 send" "batch_32 3200 35200 batch" "pull_32 3200 35200 pull"; do
  read -r name less more what <<<"$row"
  before=$(jq -r --arg name "$name" '.[$name] // 0' "$baseline" 2>/dev/null || echo 0)
  least=0
  for _ in 1 2 3; do
    per_message "$less" "$more" "$what"
    [ "$least" -ne 0 ] && [ "$least" -le "$now" ] || least=$now
    [ "$mode" = check ] && [ $((least * 100)) -gt $((before * 110)) ] || break
  done
  printf '%-28s %12s %12s\n' "$name" "$least" "$before"
  result=$(jq --arg name "$name" --argjson now "$least" '. + {($name): $now}' <<<"$result")
  if [ "$before" -gt 0 ] && [ $((least * 100)) -gt $((before * 110)) ]; then
    echo "   more than 10 % above $baseline: make it cheaper, or say why in the commit that runs --update" >&2
    failed=1
  fi
done
case "$mode" in
  update) jq . <<<"$result" >"$baseline" && echo "written: $baseline" ;;
  check) exit "$failed" ;;
esac
