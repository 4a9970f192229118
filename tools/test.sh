#!/usr/bin/env bash
# Installs, builds and runs every test: as released, with the CUDA backend under the emulator's other schedules; under
# AddressSanitizer and UBSan; the CUDA backend under ThreadSanitizer, whose findings are races within a block; then each
# fuzz target for 20 seconds.
#   tools/test.sh [--no-sanitizers]     neither sanitizers nor fuzzing
# The CUDA backend is compiled where nvcc is; with EMBER_CUDA=ON in the environment its absence is an error. Its tests
# under the emulator need CUDA's headers and say SKIPPED without them.
# The tests that need the real data look for it in ../shared beside the checkout, or in $EMBER_SHARED, and say SKIPPED
# without it; with EMBER_REQUIRE_DATA=1 they fail instead.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)

tools/install_packages.sh --tests

echo "== format"
git ls-files --cached --others --exclude-standard '*.cpp' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror

build() { # NAME FOLDER TARGET CMAKE-OPTION...
  local folder=$2 target=$3
  echo "== build: $1"
  shift 3
  cmake -S . -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
  cmake --build "$folder" -j "$jobs" --target "$target"
}
run_tests() { # NAME FOLDER [CTEST-ARGUMENT...]
  local folder=$2
  echo "== test: $1"
  shift 2
  ctest --test-dir "$folder" --output-on-failure -j "$jobs" "$@"
  awk '/: Skipped$/ { getline; why = $0 }
       /^\[  SKIPPED \] .* ms\)$/ { print "SKIPPED " $4 ": " why }
       /^SKIPPED: / { print }' "$folder/Testing/Temporary/LastTest.log"
}

build release build all -DCMAKE_BUILD_TYPE=Release -DEMBER_CUDA="${EMBER_CUDA:-AUTO}"
run_tests release build
for schedule in lifo random:1 random:2 random:3 random:4 random:5; do
  echo "== test: CUDA backend, schedule $schedule"
  EMBER_SIMT_SCHEDULE=$schedule ctest --test-dir build --output-on-failure -j "$jobs" -R '^simt_'
done
if [ "${1:-}" != "--no-sanitizers" ]; then
  export UBSAN_OPTIONS=print_stacktrace=1
  build "address and undefined-behaviour sanitizers" build-asan all -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-g1 \
    -DEMBER_SANITIZE=address,undefined -DEMBER_CUDA=OFF
  run_tests "address and undefined-behaviour sanitizers" build-asan
  build "thread sanitizer" build-tsan simt_tests -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-g1 -DEMBER_SANITIZE=thread \
    -DEMBER_CUDA=OFF -DEMBER_BENCH=OFF
  run_tests "thread sanitizer" build-tsan -R '^simt_'
fi
[ "${1:-}" = "--no-sanitizers" ] || tests/fuzz/run.sh 20
