# The servers of tools/bench.sh: started on one processor with a store of their own below the output directory, stopped
# by process id. Sourced.
server_wrapper=() server_cpu=0 broker_pid='' namesrv_pid='' broker_port='' namesrv_port='' broker_store='' broker_started_ms=''

# server_begin BIN: where the programs are; all that was started ends with the script.
server_begin() {
  server_bin=$(realpath "$1")
  server_root=$(mktemp -d "${APOGEE_BENCH_DIR:-${TMPDIR:-/tmp}}/apogee-bench-XXXXXX")
  trap 'server_stop; rm -rf "$server_root"' EXIT
  trap 'exit 130' INT TERM
}
free_port() {  # a port P of loopback with P-2 to P+4 free, below those that the tests use
  local port p taken
  for _ in $(seq 1 50); do
    port=$((10002 + RANDOM % 248 * 8)) taken=0
    for p in $(seq $((port - 2)) $((port + 4))); do
      (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null && taken=1
    done
    [ "$taken" = 0 ] && echo "$port" && return
  done
  echo "no free port on 127.0.0.1" >&2
  return 1
}
# broker_start KEY=VALUE...: a broker with a NameServer of its own inside and an empty store; until it has registered.
# Sets broker_pid, broker_port, broker_store and broker_started_ms.
broker_start() {
  rm -rf "${server_root:?}"/*
  broker_port=$(free_port)
  namesrv_port=$((broker_port + 4)) broker_store=$server_root/store
  printf '%s\n' brokerName=broker-bench bindAddress=127.0.0.1 brokerIP1=127.0.0.1 "listenPort=$broker_port" \
    "namesrvListenPort=$namesrv_port" "storePathRootDir=$broker_store" "logDir=$server_root/logs" "$@" >"$server_root/broker.conf"
  broker_restart
}
# broker_restart: stops the broker where one runs, and starts it on the store as it is.
broker_restart() {
  server_stop
  local begin line
  begin=$(date +%s%N)
  coproc BROKER { exec taskset -c "$server_cpu" "${server_wrapper[@]}" "$server_bin/broker/mqbroker" --standalone -c "$server_root/broker.conf" 2>&1; }
  broker_pid=$BROKER_PID
  exec 7<&"${BROKER[0]}"
  while IFS= read -r -t 120 line <&7; do
    case "$line" in *'boot success'*)
      broker_started_ms=$((($(date +%s%N) - begin) / 1000000))
      cat <&7 >>"$server_root/broker.out" &
      return ;;
    esac
    echo "$line" >>"$server_root/broker.out"
  done
  echo "the broker did not start:" >&2
  cat "$server_root/broker.out" >&2
  return 1
}
# namesrv_start: a NameServer alone. Sets namesrv_pid and namesrv_port.
namesrv_start() {
  server_stop
  namesrv_port=$(free_port)
  taskset -c "$server_cpu" "$server_bin/nameserver/mqnamesrv" --listenPort "$namesrv_port" --bindAddress 127.0.0.1 \
    >"$server_root/namesrv.out" 2>&1 &
  namesrv_pid=$!
  for _ in $(seq 1 100); do
    grep -q 'boot success' "$server_root/namesrv.out" && return
    sleep 0.05
  done
  cat "$server_root/namesrv.out" >&2
  return 1
}
server_stop() {
  local pid
  for pid in $broker_pid $namesrv_pid; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  broker_pid='' namesrv_pid=''
  { exec 7<&-; } 2>/dev/null || true
}
# anonymous_mib PID: resident anonymous memory, MiB.
anonymous_mib() { awk '/^RssAnon:/ { printf "%.1f\n", $2 / 1024 }' "/proc/$1/status"; }
# broker_restart_cold: the same, with nothing of the log in the page cache. A process that has it mapped would keep it there.
broker_restart_cold() {
  local file
  server_stop
  sync -f "$broker_store"
  for file in "$broker_store"/commitlog/*; do dd if="$file" iflag=nocache count=0 status=none; done
  broker_restart
}
