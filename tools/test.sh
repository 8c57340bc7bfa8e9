#!/usr/bin/env bash
# Installs the packages, builds and runs every test.
#   tools/test.sh               release build, all tests
#   tools/test.sh --sanitize    also ASan+UBSan over everything, TSan over unit and integration tests (and over those of
#                               business messages, six minutes for it, with --soak)
#                               --sanitize=address or --sanitize=thread: only the one
#   tools/test.sh --soak        also the long runs (more connections, longer times)
#   tools/test.sh --fuzz        also an hour of fuzzing, shared by the fuzz targets
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }
address=0 thread=0 soak=0 fuzz=0
for argument in "$@"; do
  case "$argument" in
    --sanitize) address=1 thread=1 ;;
    --sanitize=address) address=1 ;;
    --sanitize=thread) thread=1 ;;
    --soak) soak=1 ;;
    --fuzz) fuzz=1 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test.sh: unknown option $argument" >&2; usage >&2; exit 2 ;;
  esac
done

stage_names=() stage_seconds=()
stage() {  # stage NAME COMMAND...
  local name=$1 begin=$SECONDS
  shift
  echo "== $name"
  "$@"
  stage_names+=("$name")
  stage_seconds+=($((SECONDS - begin)))
  echo "== $name: $((SECONDS - begin)) s"
}
run_ctest() {  # run_ctest PRESET ARGUMENTS...
  local preset=$1
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$(nproc)" "$@"
}
# Reports go into files: the programs that tests start have outputs of their own, which end with the test, and a test
# that expects its broker to die would not notice that it died of a report. Any report fails the stage.
run_sanitized() {  # run_sanitized PRESET ARGUMENTS...
  local failed=0 report
  rm -f "build/$1"/sanitizer.*
  run_ctest "$@" || failed=1
  for report in "build/$1"/sanitizer.*; do
    [ -e "$report" ] || continue
    echo "== $report"
    cat "$report"
    failed=1
  done
  return "$failed"
}

[ "$soak" = 0 ] || export APOGEE_SOAK=1
stage "packages" tools/install-deps.sh
if [ "$address" = 1 ]; then
  export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1:log_path=$PWD/build/asan/sanitizer UBSAN_OPTIONS=print_stacktrace=1
  stage "build asan+ubsan (clang)" tools/build.sh asan
  stage "tests asan+ubsan" run_sanitized asan -LE interop
fi
if [ "$thread" = 1 ]; then
  export TSAN_OPTIONS=second_deadlock_stack=1:suppressions=$PWD/test/support/tsan.supp:log_path=$PWD/build/tsan/sanitizer
  labels='unit|integration'
  [ "$soak" = 0 ] || labels+='|business'
  # shellcheck disable=SC2046
  stage "build tsan (clang)" tools/build.sh tsan mqnamesrv $(tr '|' '\n' <<<"$labels" | sed 's/^/tests_/')
  stage "tests tsan" run_sanitized tsan -L "$labels"
fi
if [ "$fuzz" = 1 ]; then
  stage "build fuzzers" tools/build.sh asan
  stage "fuzzing" env APOGEE_FUZZ_SECONDS=600 ctest --test-dir build/asan --output-on-failure -L fuzz
fi
stage "build release (gcc)" tools/build.sh release
stage "tests release" run_ctest release

echo "== seconds by stage"
for i in "${!stage_names[@]}"; do printf '%6d  %s\n' "${stage_seconds[$i]}" "${stage_names[$i]}"; done
