#!/usr/bin/env bash
# Installs what Ember builds with from the distribution's packages (Debian 12 and 13, Ubuntu 22.04, 24.04 and 26.04),
# as root or through sudo. Does nothing when all of them are there.
#   tools/install_packages.sh [--tests]     --tests: what the tests need as well
set -euo pipefail

case "$*" in
  "" | --tests) ;;
  --help | -h) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "usage: tools/install_packages.sh [--tests]" >&2; exit 2 ;;
esac

# oneDNN's CMake configuration looks for OpenCL, which its package only recommends.
packages=(g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev libutf8proc-dev nlohmann-json3-dev libcli11-dev
          libfmt-dev zlib1g-dev libzip-dev ca-certificates curl)
if [ "${1:-}" = "--tests" ]; then
  # locales: a test makes one whose numbers have a comma.
  packages+=(libgtest-dev libbenchmark-dev libboost-context-dev python3 git xz-utils ccache locales)
  # The versions that the tests name, where the release still has them; tests/fuzz needs the sanitizers' runtimes, which
  # Ubuntu 22.04 has in clang-14's own packages.
  case $(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true) in
    jammy) packages+=(g++-11 clang-14 clang-format-14) ;;
    bookworm | noble) packages+=(g++-11 clang-14 clang-format-14 libclang-rt-14-dev) ;;
    *) packages+=(clang libclang-rt-dev) ;;
  esac
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

die() { echo "install_packages: $*" >&2; exit 2; }
command -v apt-get >/dev/null || die "apt-get is not here; install by hand: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "run as root, or install sudo; missing: ${missing[*]}"
  as_root=(sudo)
fi
echo "Installing ${missing[*]}"
log=$(mktemp 2>/dev/null) || die "TMPDIR, ${TMPDIR:-/tmp}: no file can be made there"
trap 'rm -f "$log"' EXIT
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
}
# The package lists may be missing or old on a new machine.
install || { "${as_root[@]}" apt-get update >"$log" 2>&1 && install; } || {
  tail -n 5 "$log" >&2
  echo "install_packages: the packages could not be installed: ${missing[*]}" >&2
  exit 2
}
