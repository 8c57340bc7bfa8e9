#!/usr/bin/env bash
# Checks the tree without running it: format, structure (which folder may include which), file length,
# leftovers, and clang-tidy over what changed since the base revision.
#   tools/check.sh [--tidy-all] [--fix-format]
set -euo pipefail
cd "$(dirname "$0")/.."

tidy_all=0 fix=0
for argument in "$@"; do
  case "$argument" in
    --tidy-all) tidy_all=1 ;;
    --fix-format) fix=1 ;;
    *) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done

failed=0
complain() { echo "check: $*" >&2; failed=1; }
mapfile -t sources < <(git ls-files '*.cc' '*.h')

# Format.
if [ "$fix" = 1 ]; then clang-format -i "${sources[@]}"; fi
unformatted=$(clang-format --dry-run -Werror "${sources[@]}" 2>&1 | sed -n 's/^\([^:]*\):.*error:.*/\1/p' | sort -u || true)
for file in $unformatted; do complain "$file is not formatted (tools/check.sh --fix-format)"; done

# Arrows: a folder includes only what stands below it.
forbid() {  # forbid PATHSPEC PATTERN WHY
  local found
  found=$(git grep -nE "#include \"($2)" -- $1 || true)
  [ -z "$found" ] || { echo "$found" >&2; complain "$3"; }
}
forbid 'common/*' '(store|broker|nameserver|client|tools|test)/' "common/ may include only common/"
forbid 'store/*' '(broker|nameserver|client|tools|test|common/remoting)/' "store/ may not include requests or anything above it"
forbid 'store/*.cc store/*.h' 'common/loop/(tcp_|loop_buffers)' "of the store only store/ha/ has connections"
forbid 'nameserver/*' '(store|broker|client|tools|test)/' "nameserver/ may include only common/"
forbid 'broker/*' '(client|tools|test)/' "broker/ may include common/ and store/"
forbid 'client/*' '(store|broker|nameserver|tools|test)/' "client/ may include only common/"
forbid 'tools/mqadmin/*' '(store|broker|nameserver|test)/' "mqadmin uses the SDK"
found=$(git grep -lE '#include "nameserver/' -- 'broker/*' | grep -v '^broker/main.cc$' || true)
[ -z "$found" ] || complain "only broker/main.cc may include nameserver/: $found"
found=$(git grep -lE '#include <uv\.h>' -- '*.cc' '*.h' | grep -vE '^(common/loop|tools/mqbench/net)/' || true)
[ -z "$found" ] || complain "uv.h is for common/loop, and for the bare loop of mqbench: $found"
found=$(git grep -lE '#include [<"](rocksdb/|spdlog/|nlohmann/json\.hpp|CLI/)' -- '*.h' |
  grep -v '^common/remoting/bodies/body_reader.h$' || true)  # templates over the tree, for the four .cc beside it
[ -z "$found" ] || complain "heavy headers belong into a .cc: $found"
found=$(git grep -nE '#include "' -- 'client/include/*' 'common/include/*' | grep -vE '#include "apogee/' || true)
[ -z "$found" ] || { echo "$found" >&2; complain "installed headers include only installed ones"; }

version=$(sed -n 's/^project(apogee VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
grep -q "\"$version\"" common/base/version.h || complain "common/base/version.h and CMakeLists.txt disagree about the version"

# Size and leftovers.
for file in "${sources[@]}"; do
  lines=$(wc -l <"$file")
  [ "$lines" -le 600 ] || complain "$file has $lines lines: look for the second idea in it"
done
found=$(git grep -nIwE 'TODO|FIXME|XXX|HACK' -- '*.cc' '*.h' '*.sh' '*.txt' '*.cmake' | grep -v '^tools/check.sh' || true)
[ -z "$found" ] || { echo "$found" >&2; complain "leftovers"; }
found=$(git grep -nE 'sleep_for|usleep\(' -- 'test/*.cc' 'test/*.h' || true)
[ -z "$found" ] || { echo "$found" >&2; complain "a sleep in a test: wait for the condition instead"; }
found=$(git grep -nIE '"resolved": *"https?://' -- '*lock*.json' || true)
[ -z "$found" ] || complain "a registry's address in a lock file: $found"

# clang-tidy: the whole tree takes long, so by default what changed since APOGEE_TIDY_BASE (or the last commit).
tools/build.sh dev help >/dev/null 2>&1 || cmake --preset dev >/dev/null
if [ "$tidy_all" = 1 ]; then
  mapfile -t tidy < <(git ls-files 'common/*.cc' 'store/*.cc' 'nameserver/*.cc' 'broker/*.cc' 'client/*.cc' 'tools/*.cc')
else
  base=${APOGEE_TIDY_BASE:-HEAD~1}
  git rev-parse -q --verify "$base" >/dev/null || base=HEAD
  mapfile -t tidy < <(git diff --name-only --diff-filter=d "$base" -- '*.cc' | grep -vE '^test/' || true)
fi
if [ ${#tidy[@]} -gt 0 ]; then
  printf '%s\0' "${tidy[@]}" | xargs -0 -n 4 -P "$(nproc)" clang-tidy -p build/dev --quiet 2>/dev/null || complain "clang-tidy"
fi

[ "$failed" = 0 ] && echo "check: ${#sources[@]} files fine, clang-tidy over ${#tidy[@]}"
exit "$failed"
