#!/bin/sh
# usage: run.sh MQNAMESRV MQBROKER WORK_DIR
# Installs the foreign client, as package-lock.json pins it, below WORK_DIR, and runs the tests with it.
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$3"
if ! cmp -s "$here/package-lock.json" "$3/package-lock.json" || [ ! -d "$3/node_modules/ali-ons" ]; then
  cp "$here/package.json" "$here/package-lock.json" "$3/"
  (cd "$3" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund)
fi
rm -rf "$3/lib"
cp -r "$here/run.cjs" "$here/lib" "$3/"
cd "$3"
exec node run.cjs "$1" "$2"
