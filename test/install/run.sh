#!/usr/bin/env bash
# `cmake --install` into an empty prefix, then a project of its own finds the package, compiles against the
# installed headers, static and shared, and runs. usage: run.sh BUILD_DIR SOURCE_DIR
set -euo pipefail
build=$1 source=$2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

cmake --install "$build" --prefix "$directory/prefix" >"$directory/install.log"
for file in bin/mqbroker bin/mqnamesrv bin/mqadmin bin/mqshutdown include/apogee/producer.h; do
  [ -e "$directory/prefix/$file" ] || { echo "not installed: $file" >&2; exit 1; }
done
find "$directory/prefix" -name 'mqbroker.service' | grep -q . || { echo "not installed: systemd units" >&2; exit 1; }
find "$directory/prefix" -name 'broker.conf' | grep -q . || { echo "not installed: configuration" >&2; exit 1; }

cmake -S "$source/test/install/app" -B "$directory/app" -G Ninja -DCMAKE_PREFIX_PATH="$directory/prefix" \
  -DCMAKE_BUILD_TYPE=Debug >"$directory/configure.log" || { cat "$directory/configure.log" >&2; exit 1; }
cmake --build "$directory/app"
"$directory/app/app_static"
"$directory/app/app_shared"
# The README's example is the one that compiles here.
"$directory/prefix/bin/mqbroker" --version
"$directory/prefix/bin/mqadmin" --version
