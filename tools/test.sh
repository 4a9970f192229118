#!/usr/bin/env bash
# Installs, builds and runs every test: once as released, once under AddressSanitizer and UBSan.
#   tools/test.sh [--no-sanitizers]
# The tests that need the real data look for it in ../shared beside the checkout, or in $EMBER_SHARED, and say SKIPPED
# without it; with EMBER_REQUIRE_DATA=1 they fail instead.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)

tools/install_packages.sh --tests

echo "== format"
git ls-files --cached --others --exclude-standard '*.cpp' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror

build_and_test() { # NAME FOLDER CMAKE-OPTION...
  local name=$1 folder=$2
  shift 2
  echo "== build: $name"
  cmake -S . -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
  cmake --build "$folder" -j "$jobs"
  echo "== test: $name"
  ctest --test-dir "$folder" --output-on-failure -j "$jobs"
  awk '/: Skipped$/ { getline; why = $0 }
       /^\[  SKIPPED \] .* ms\)$/ { print "SKIPPED " $4 ": " why }' "$folder/Testing/Temporary/LastTest.log"
}

build_and_test release build -DCMAKE_BUILD_TYPE=Release
if [ "${1:-}" != "--no-sanitizers" ]; then
  export UBSAN_OPTIONS=print_stacktrace=1
  build_and_test "address and undefined-behaviour sanitizers" build-asan -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DEMBER_SANITIZE=address,undefined
fi
