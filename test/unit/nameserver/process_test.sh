#!/usr/bin/env bash
# The mqnamesrv process: start, settings, taken port, stop by mqshutdown.  usage: process_test.sh MQNAMESRV SOURCE_DIR
set -euo pipefail
mqnamesrv=$1
source_dir=$2
folder=$(mktemp -d)
pid=""
cleanup() {
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
export HOME=$folder
unset ROCKETMQ_HOME

"$mqnamesrv" -c "$source_dir/conf/namesrv.conf" --bindAddress 127.0.0.1 --listenPort 0 >"$folder/out" 2>"$folder/err" &
pid=$!
for _ in $(seq 200); do
  [ -s "$folder/out" ] && break
  kill -0 "$pid" 2>/dev/null || fail "it ended: $(cat "$folder/err")"
  sleep 0.05
done
pattern='^The Name Server boot success\. serializeType=JSON, address 127\.0\.0\.1:([0-9]+)$'
[[ $(cat "$folder/out") =~ $pattern ]] || fail "start line: $(cat "$folder/out")"
port=${BASH_REMATCH[1]}

if "$mqnamesrv" --bindAddress 127.0.0.1 --listenPort "$port" --logDir "" >/dev/null 2>"$folder/taken"; then
  fail "a second one started on port $port"
fi
grep -q "$port" "$folder/taken" || fail "the error does not name the port: $(cat "$folder/taken")"
if "$mqnamesrv" --listnPort 1 2>"$folder/unknown"; then fail "an unknown option was taken"; fi
grep -q 'did you mean --listenPort?' "$folder/unknown" || fail "unknown option: $(cat "$folder/unknown")"
"$mqnamesrv" -p --orderMessageEnable true | grep -qx 'orderMessageEnable=true' || fail "-p"

kill -HUP "$pid"
"$source_dir/tools/mqshutdown" namesrv --pid "$pid" --timeout 20 >"$folder/stop" || fail "mqshutdown: $(cat "$folder/stop")"
grep -q "mqnamesrv stopped ($pid)" "$folder/stop" || fail "mqshutdown said: $(cat "$folder/stop")"
code=0
wait "$pid" || code=$?
[ "$code" = 0 ] || fail "exit code $code"
grep -q 'name server stopped' "$folder/logs/apogeemq/namesrv.log" || fail "the log lacks the end"
if "$source_dir/tools/mqshutdown" namesrv --pid "$pid" 2>"$folder/gone"; then fail "a process that is gone was stopped"; fi
pid=""
code=0
"$source_dir/tools/mqshutdown" controller 2>/dev/null || code=$?
[ "$code" = 2 ] || fail "mqshutdown controller: exit code $code"
echo "passed"
