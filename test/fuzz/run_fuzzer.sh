#!/bin/sh
# usage: run_fuzzer.sh TARGET CORPUS_DIR WORK_DIR
# A short run that is part of the tests; with APOGEE_FUZZ_SECONDS a run of that many seconds. New inputs go to
# WORK_DIR, never into the corpus of the source tree.
set -e
mkdir -p "$3"
if [ -n "$APOGEE_FUZZ_SECONDS" ]; then
  limits="-max_total_time=$APOGEE_FUZZ_SECONDS"
else
  limits="-runs=20000 -max_total_time=10"
fi
# shellcheck disable=SC2086
exec "$1" $limits -rss_limit_mb=2048 -timeout=10 -max_len=16384 -print_final_stats=0 -verbosity=0 -artifact_prefix="$3/" "$3" "$2"
