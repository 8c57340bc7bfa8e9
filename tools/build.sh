#!/usr/bin/env bash
# Configures and builds one preset of CMakePresets.json into build/<preset>.
#   tools/build.sh [release|dev|asan|tsan] [ninja target ...]
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
shift || true
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
export CCACHE_SLOPPINESS=pch_defines,time_macros  # precompiled headers are cached with this only
cmake --preset "$preset" >"build-$preset.log" 2>&1 || { cat "build-$preset.log" >&2; rm -f "build-$preset.log"; exit 1; }
rm -f "build-$preset.log"
# A terminal gets ninja's progress line; a log file gets only what went wrong.
if [ -t 1 ]; then
  ninja -C "build/$preset" "$@"
else
  ninja -C "build/$preset" --quiet "$@"
fi
