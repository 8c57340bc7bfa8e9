#!/usr/bin/env bash
# From a fresh clone to a running broker: installs the packages, builds a release, starts
# `mqbroker --standalone` on loopback in a temporary directory, lets a producer send 100,000 order
# messages while a group of two consumers takes them in order per order, checks that every message
# arrived exactly as sent, shows a few mqadmin tables and stops.
#   tools/quickstart.sh [--messages N] [--no-install]
set -euo pipefail
cd "$(dirname "$0")/.."

messages=100000 install=1
while [ $# -gt 0 ]; do
  case "$1" in
    --messages) messages=${2:?--messages needs a number}; shift 2 ;;
    --no-install) install=0; shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown option $1" >&2; exit 2 ;;
  esac
done

[ "$install" = 0 ] || tools/install-deps.sh
echo "== building a release (the first time takes some minutes)"
tools/build.sh release mqbroker mqadmin order_flow
bin=build/release
broker=$bin/broker/mqbroker admin=$bin/tools/mqadmin order_flow=$bin/client/order_flow

directory=$(mktemp -d)
broker_pid=
finish() {
  status=$?
  if [ -n "$broker_pid" ] && kill -0 "$broker_pid" 2>/dev/null; then
    kill -TERM "$broker_pid"
    wait "$broker_pid" || true
  fi
  if [ "$status" -ne 0 ]; then
    echo "quickstart: failed; the broker's output:" >&2
    tail -n 20 "$directory/broker.out" >&2 2>/dev/null || true
  fi
  rm -rf "$directory"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() {  # a port P of loopback with P-2 to P+4 free, below those that the tests use
  local port
  for _ in $(seq 1 50); do
    port=$((10002 + RANDOM % 248 * 8))
    local taken=0
    for p in $(seq $((port - 2)) $((port + 4))); do
      (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null && taken=1
    done
    [ "$taken" = 0 ] && { echo "$port"; return; }
  done
  echo "quickstart: no free port on 127.0.0.1" >&2
  return 1
}
broker_port=$(free_port)
namesrv_port=$((broker_port + 4))
export NAMESRV_ADDR=127.0.0.1:$namesrv_port

echo "== starting mqbroker --standalone on 127.0.0.1:$broker_port (NameServer on $namesrv_port)"
"$broker" --standalone --bindAddress 127.0.0.1 --brokerIP1 127.0.0.1 --listenPort "$broker_port" \
  --namesrvListenPort "$namesrv_port" --storePathRootDir "$directory/store" --logDir "$directory/logs" \
  --brokerName broker-a >"$directory/broker.out" 2>&1 &
broker_pid=$!
for _ in $(seq 1 100); do
  grep -q 'boot success' "$directory/broker.out" 2>/dev/null && break
  kill -0 "$broker_pid" 2>/dev/null || { echo "quickstart: the broker ended" >&2; exit 1; }
  sleep 0.1
done
cat "$directory/broker.out"

"$admin" updateTopic -c DefaultCluster -t Orders -r 8 -w 8
"$order_flow" --topic Orders --messages "$messages"

echo "== mqadmin clusterList"
"$admin" clusterList
echo "== mqadmin topicStatus -t Orders"
"$admin" topicStatus -t Orders
echo "== mqadmin consumerProgress -g order_flow"
"$admin" consumerProgress -g order_flow

echo "== stopping the broker"
kill -TERM "$broker_pid"
wait "$broker_pid"
broker_pid=
echo "quickstart: done; every message arrived exactly as sent"
