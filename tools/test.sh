#!/usr/bin/env bash
# Installs, builds and runs every test.
#   tools/test.sh [--sanitizers | --thorough]
# --sanitizers: then all again under AddressSanitizer and UBSan. --thorough, what .ci/run does: also the CUDA backend
# under the emulator's other schedules and under ThreadSanitizer, which sees races within a block and between two; the
# programs by g++ 11; then each fuzz target for 20 seconds.
# The CUDA backend is compiled where nvcc is; with EMBER_CUDA=ON in the environment its absence is an error. Its tests
# under the emulator need CUDA's headers and say SKIPPED without them.
# The tests that need the real data look for it in ../shared beside the checkout, or in $EMBER_SHARED, and say SKIPPED
# without it; with EMBER_REQUIRE_DATA=1 they fail instead.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."
jobs=$(nproc)
case "$*" in
  "") depth=release ;;
  --sanitizers) depth=sanitizers ;;
  --thorough) depth=thorough ;;
  --help | -h) sed -n '2,11s/^# \{0,1\}//p' tools/test.sh; exit 0 ;;
  *) echo "usage: tools/test.sh [--sanitizers | --thorough]" >&2; exit 2 ;;
esac

stage() { echo "== $1 (after $SECONDS s)"; }

tools/install_packages.sh --tests

# What has not changed since an earlier run is not compiled again, even in another checkout.
export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

if ! command -v clang-format-14 >/dev/null; then
  echo "SKIPPED format: clang-format-14 is not here, and other versions format otherwise"
elif [ -e .git ]; then
  stage "format"
  git ls-files --cached --others --exclude-standard '*.cpp' '*.h' '*.cu' '*.cuh' |
    xargs clang-format-14 --dry-run --Werror
else
  echo "SKIPPED format: this is no checkout, which says what files are the repository's"
fi

build() { # NAME FOLDER TARGET CMAKE-OPTION...
  local folder=$2 target=$3
  stage "build: $1"
  shift 3
  # quickstart.sh configures the same folder without tests, which CMake remembers.
  cmake -S . -B "$folder" -G Ninja -DEMBER_WERROR=ON -DEMBER_TESTS=ON -DEMBER_BENCH=ON "$@" >"$folder.log" 2>&1 ||
    { cat "$folder.log" >&2; exit 1; }
  cmake --build "$folder" -j "$jobs" --target "$target"
}
run_tests() { # NAME FOLDER [CTEST-ARGUMENT...]
  local folder=$2
  stage "test: $1"
  shift 2
  # Some wait more than they compute.
  ctest --test-dir "$folder" --no-tests=error --output-on-failure -j $((jobs + 1)) "$@"
  awk '/: Skipped$/ { getline; why = $0 }
       /^\[  SKIPPED \] .* ms\)$/ { print "SKIPPED " $4 ": " why }
       /^SKIPPED: / { print }' "$folder/Testing/Temporary/LastTest.log"
}

# An older configuration of the same folder, or the caller's filters, must not decide what is tested.
unset "${!GTEST_@}"
build release build all -DCMAKE_BUILD_TYPE=Release -UEMBER_MARCH -DEMBER_CUDA="${EMBER_CUDA:-AUTO}"
run_tests release build
[ "$depth" != release ] || exit 0

# Compiling is most of what this costs, so little is optimised and the benchmarks are left out.
debug=(-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-g1 -DEMBER_CUDA=OFF -DEMBER_BENCH=OFF)
export UBSAN_OPTIONS=print_stacktrace=1
build "address and undefined-behaviour sanitizers" build-asan all "${debug[@]}" -DEMBER_SANITIZE=address,undefined
run_tests "address and undefined-behaviour sanitizers" build-asan
[ "$depth" = thorough ] || exit 0

[ "${EMBER_CUDA:-AUTO}" != ON ] || cmake --build build -j "$jobs" --target gpu_tests
# The oldest compiler that is promised, Ubuntu 22.04's; of the levels of the CPU kernels the one with most code.
if command -v g++-11 >/dev/null; then
  build "programs, g++ 11" build-gcc11 all -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=g++-11 -DEMBER_TESTS=OFF \
    -DEMBER_BENCH=OFF -DEMBER_CUDA=OFF -DEMBER_MARCH=sapphirerapids
else
  echo "SKIPPED programs, g++ 11: g++-11 is not here"
fi
# Of the levels of the CPU kernels the tests ran the best that is here, and those above AVX2 in software (tests/levels);
# now the others that are here.
names=$(cd tests/kernels && printf '%s\n' *_test.cpp | sed 's/\.cpp$//' | paste -sd '|')
lesser=
for level in avx2:avx2 avx2_vnni:avx_vnni avx512:avx512f avx512_vnni:avx512_vnni avx512_bf16:avx512_bf16 \
  amx:amx_bf16; do # LEVEL:what it needs
  grep -qw "${level#*:}" /proc/cpuinfo || continue
  [ -z "$lesser" ] ||
    EMBER_CPU_LEVEL=$lesser run_tests "CPU kernels, level $lesser" build -R "^($names|golden_test)\$"
  lesser=${level%:*}
done
# simt_bench_test calls the kernels that the other tests check. Half of the schedules are on a device like a T4, which
# has less shared memory and starts no grid early.
for run in lifo:9.0 random:1:9.0 random:2:9.0 random:3:7.5 random:4:7.5 random:5:7.5; do # SCHEDULE:COMPUTE-CAPABILITY
  EMBER_SIMT_SCHEDULE=${run%:*} EMBER_SIMT_DEVICE=${run##*:} \
    run_tests "CUDA backend, schedule ${run%:*}, device ${run##*:}" build -R '^simt_' -E '^simt_bench_test$'
done
build "thread sanitizer" build-tsan simt_tests "${debug[@]}" -DEMBER_SANITIZE=thread
run_tests "thread sanitizer" build-tsan -R '^simt_'
stage "fuzz targets"
tests/fuzz/run.sh 20
