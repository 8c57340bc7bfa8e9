#!/usr/bin/env bash
# Measures ApogeeMQ on this machine: each row of tools/bench/rows.json several times, each time with its ceiling beside
# it, and writes bench.json and bench.md (a table). The server runs on one processor, the load on another.
#   tools/bench.sh                          everything; --pairs 1 --seconds 1 to see that it works
#   tools/bench.sh --rows sync_64,e2e_5000  some rows (--list tells which there are)
#   tools/bench.sh --versus HOST:PORT       each row also against this broker, in turns; prints ratios and their spread
#                                           (give it the same processor: taskset -c 0; rows that need another
#                                           configuration or a NameServer are measured without it)
#   tools/bench.sh --versus-pid PID         that broker's process, for its processor time and memory
#   tools/bench.sh --instructions           instructions per message of the hot paths, under valgrind (--check: fails
#                                           when one is more than 10 % above test/bench/baseline.json; --update: writes it)
#   --pairs N    runs of each row (default 5)    --seconds S  length of a run (default 5)
#   --fill SIZE  log that is read from the page cache (1G)    --cold SIZE  log that is read from disk (10G; what is free)
#   --mixed S    seconds of the mixed load after which memory is measured (300; --soak: 3600)
#   --touch SIZE memory that is used and given back before each run (3G, at most a quarter of what is free; 0: none):
#                a virtual machine may have given free memory back to its host, and a run of seconds would pay for it anew
#   --out DIR    where results go (default build/bench)    --bin DIR  a release build (default: builds build/release)
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/bench/server.sh

usage() { sed -n '2,19s/^# \{0,1\}//p' "$0"; }
only='' pairs=5 seconds=5 fill=1G cold=10G mixed=300 touch=3G versus='' versus_pid='' out=build/bench bin='' list=0
while [ $# -gt 0 ]; do
  case "$1" in
    --rows) only=${2:?--rows needs names} && shift 2 ;;
    --pairs) pairs=${2:?--pairs needs a number} && shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift 2 ;;
    --fill) fill=${2:?--fill needs a size} && shift 2 ;;
    --cold) cold=${2:?--cold needs a size} && shift 2 ;;
    --mixed) mixed=${2:?--mixed needs seconds} && shift 2 ;;
    --touch) touch=${2:?--touch needs a size} && shift 2 ;;
    --soak) mixed=3600 && shift ;;
    --versus) versus=${2:?--versus needs HOST:PORT} && shift 2 ;;
    --versus-pid) versus_pid=${2:?--versus-pid needs a process id} && shift 2 ;;
    --out) out=${2:?--out needs a directory} && shift 2 ;;
    --bin) bin=${2:?--bin needs a directory} && shift 2 ;;
    --list) list=1 && shift ;;
    --instructions) shift && exec tools/bench/instructions.sh "$@" ;;
    -h | --help) usage && exit 0 ;;
    *) echo "bench.sh: unknown option $1" >&2 && usage >&2 && exit 2 ;;
  esac
done
command -v jq >/dev/null || { echo "bench.sh: jq is missing (tools/install-deps.sh)" >&2; exit 1; }
rows=tools/bench/rows.json
if [ "$list" = 1 ]; then jq -r '.[] | "\(.name)\t\(.title)"' "$rows" | column -t -s $'\t'; exit 0; fi
for row in ${only//,/ }; do
  jq -e --arg row "$row" 'any(.[]; .name == $row)' "$rows" >/dev/null || { echo "bench.sh: no row $row (--list)" >&2; exit 2; }
done
if [ -z "$bin" ]; then
  tools/build.sh release mqbroker mqnamesrv mqbench mqadmin
  bin=build/release
fi
mqbench=$bin/tools/mqbench

rm -rf "$out"
mkdir -p "$out/runs"
out=$(realpath "$out")
server_begin "$bin"
if [ "$(nproc)" -gt 1 ]; then server_cpu=0 load_cpus=1; else server_cpu=0 load_cpus=0; fi

# measure FILE ARGUMENTS...: one run of mqbench; a run whose checks fail ends the whole, its messages were not right.
measure() {
  local file=$1
  shift
  if ! "$mqbench" "$@" --cpus "$load_cpus" --quiet --json "$file" >"$out/last.txt" 2>&1; then
    echo "bench.sh: failed: mqbench $*" >&2
    cat "$out/last.txt" >&2
    exit 1
  fi
}
touch=$(numfmt --from=iec "$touch")
free_quarter=$(awk '/^MemAvailable/ {printf "%d", $2 * 256}' /proc/meminfo)
[ "$touch" -le "$free_quarter" ] || touch=$free_quarter
touch_memory() { [ "$touch" = 0 ] || dd if=/dev/zero of=/dev/null bs="$touch" count=1 status=none; }
timed() {  # what ends at the end of the queues, or has its time already, gets none
  case "$1:$*" in
    consume:*' --again '*) echo "--seconds $seconds" ;;
    consume:* | fsync:* | mapping:*) ;;
    *) echo "--seconds $seconds --warmup 1" ;;
  esac
}
# against FILE WHO ARGUMENTS...: a run whose server is WHO: own, versus, or none (mqbench brings its own).
against() {
  local file=$1 who=$2
  shift 2
  local where=()
  case "$who:$1" in
    *:echo) where=(--server-cpus "$server_cpu") ;;
    *:fsync | *:mapping) where=(--dir "$server_root" --seconds "$seconds") ;;
    own:route) where=(--namesrv "127.0.0.1:$namesrv_port" --pid "$namesrv_pid") ;;
    own:*) where=(--broker "127.0.0.1:$broker_port" --pid "$broker_pid") ;;
    versus:*) where=(--broker "$versus") && [ -z "$versus_pid" ] || where+=(--pid "$versus_pid") ;;
  esac
  [ "$row_touches" = false ] || touch_memory
  # shellcheck disable=SC2046
  measure "$file" "$@" "${where[@]}" $(timed "$@")
}
row_touches=true  # false where the row is about memory that nobody had before
row_field() { jq -r --arg row "$1" ".[] | select(.name == \$row) | $2" "$rows"; }

run_row() {
  local row=$1 pair load ceiling config
  mapfile -t load < <(row_field "$row" '.load[]')
  mapfile -t ceiling < <(row_field "$row" '.ceiling // [] | .[]')
  mapfile -t config < <(row_field "$row" '.broker // [] | .[]')
  echo "== $row: $(row_field "$row" .title)"
  if [ "$(row_field "$row" '.namesrv // false')" = true ]; then namesrv_start; else broker_start "${config[@]}"; fi
  local other=''
  [ -z "$versus" ] || [ ${#config[@]} -gt 0 ] || [ "${load[0]}" = route ] || other=versus
  if [ "$(row_field "$row" '.filled // false')" = true ]; then
    for who in own $other; do fill_topic "$who" bench_fill "$fill"; done
  fi
  row_touches=$(row_field "$row" 'if has("touch") then .touch else true end')
  local is_cold
  is_cold=$(row_field "$row" '.cold // false')
  if [ "$is_cold" = true ]; then for who in own $other; do fill_topic "$who" bench_cold "$cold"; done; fi
  for pair in $(seq 1 "$pairs"); do
    local who
    for who in own $other; do
      if [ ${#ceiling[@]} -gt 0 ] && { [ "$who" = own ] || [ "${ceiling[0]}" != echo ]; }; then
        against "$out/runs/$row.$pair.$([ "$who" = own ] || echo "$who-")ceiling.json" "$who" "${ceiling[@]}"
      fi
      [ "$is_cold$who" != trueown ] || broker_restart_cold
      against "$out/runs/$row.$pair.$who.json" "$who" "${load[@]}"
    done
    jq -r --arg load "$(row_field "$row" .count)" --arg pair "$pair" 'def r: if . then (. * 100 | round / 100) else "?" end; .figures as $f
      | "   run \($pair): \($f[$load + ".rate"] | floor)/s, p50 \($f[$load + ".p50"] | r), p99 \($f[$load + ".p99"] | r), p99.9 \($f[$load + ".p999"] | r) us, server \($f["server.cpu"] | r) us/message"' \
      "$out/runs/$row.$pair.own.json"
  done
  server_stop
  row_touches=true
}
address_of() { if [ "$1" = versus ]; then echo "$versus"; else echo "127.0.0.1:$broker_port"; fi; }
# fill_topic WHO TOPIC SIZE: SIZE of messages of 1 KiB in eight queues.
fill_topic() {
  local count=$(($(numfmt --from=iec "$3") / 1100)) free
  free=$(df --output=avail -B1 "$server_root" | tail -1)
  [ "$1" = versus ] || [ $((count * 1200)) -lt $((free / 2)) ] || count=$((free / 2400))
  echo "   filling $2 with $count messages"
  measure "$out/fill.json" produce --broker "$(address_of "$1")" --topic "$2" --queues 8 --mode async --connections 4 \
    --batch 16 --messages "$count" --warmup 0
}
# Start until registered, on an empty store and again on what the fill left; memory idle and after the mixed load.
run_start() {
  echo "== start"
  local i
  for i in $(seq 1 "$pairs"); do
    broker_start
    start_empty+=("$broker_started_ms")
    sleep 1
    idle+=("$(anonymous_mib "$broker_pid")")
    server_stop
  done
  broker_start
  fill_topic own bench_fill "$fill"
  for i in $(seq 1 "$pairs"); do
    broker_restart
    start_filled+=("$broker_started_ms")
  done
  server_stop
}
run_mixed() {
  echo "== mixed load, $mixed s"
  broker_start
  fill_topic own bench_mixed 256M
  seconds=$mixed against "$out/runs/mixed.json" own mixed --topic bench_mixed --rate 20000 &
  local load=$! half=0 last=0 at=0
  while kill -0 "$load" 2>/dev/null; do
    sleep 1
    at=$((at + 1))
    last=$(anonymous_mib "$broker_pid" 2>/dev/null || echo "$last")
    [ "$at" -ne $((mixed / 2)) ] || half=$last
  done
  wait "$load"
  memory=("$last") growth=("$(jq -n "$last - $half")")
  server_stop
}

start_empty=() start_filled=() idle=() memory=() growth=()
for row in $(jq -r '.[].name' "$rows"); do
  [[ -z "$only" || ",$only," == *",$row,"* ]] || continue
  case "$row" in
    start) run_start ;;
    mixed_memory) run_mixed ;;
    *) run_row "$row" ;;
  esac
done
numbers() { local IFS=,; echo "[$*]"; }
jq -n --argjson empty "$(numbers "${start_empty[@]}")" --argjson filled "$(numbers "${start_filled[@]}")" \
  --argjson idle "$(numbers "${idle[@]}")" --argjson memory "$(numbers "${memory[@]}")" --argjson growth "$(numbers "${growth[@]}")" \
  '{start: {start_empty: $empty, start_filled: $filled, idle_mib: $idle}, mixed_memory: {mib: $memory, growth: $growth}}' \
  >"$out/process.json"
tools/bench/report.sh "$out" "$rows" "$mqbench" "$versus"
echo "== $out/bench.json, $out/bench.md"
