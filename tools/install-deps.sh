#!/usr/bin/env bash
# Installs everything that building and testing ApogeeMQ needs on Debian 12. The one list of packages.
# Does nothing when all of it is there already; needs root (or sudo) otherwise.
set -euo pipefail

packages=(
  # build
  g++ clang cmake ninja-build ccache pkg-config git
  # libraries
  libuv1-dev nlohmann-json3-dev libfmt-dev libspdlog-dev librocksdb-dev libcli11-dev
  tao-pegtl-dev
  zlib1g-dev liblz4-dev libzstd-dev libdeflate-dev libxxhash-dev libssl-dev
  # tests and checks
  catch2 libclang-rt-14-dev llvm clang-format clang-tidy
  iproute2 nftables valgrind jq
)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [ "$state" = "install ok installed" ] || missing+=("$package")
done
# Debian's npm conflicts with other Node.js packages, so it comes in only where there is no npm at all.
command -v npm >/dev/null 2>&1 || missing+=(nodejs npm)

if [ ${#missing[@]} -eq 0 ]; then
  echo "install-deps: everything is installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || {
    echo "install-deps: run as root, or install sudo; missing packages: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "install-deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "install-deps: done"
