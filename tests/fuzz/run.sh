#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for SECONDS from its seeds, tests/fuzz/corpus/TARGET.
#   tests/fuzz/run.sh SECONDS [TARGET...]
# As many run at a time as there are processors, or EMBER_FUZZ_JOBS.
# What is found is kept in build-fuzz/findings; with EMBER_FUZZ_KEEP=1 the grown corpora too, in build-fuzz/corpus.
# A single allocation of more than 72 MB, 60 s for one input, and 1 GB in all (AddressSanitizer's own included) count as
# findings: inputs are a few kB, and a reader may take their size and 64 MB.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/../.."
[[ ${1:-} =~ ^[0-9]+$ ]] || { echo "usage: tests/fuzz/run.sh SECONDS [TARGET...]" >&2; exit 2; }
seconds=$1
shift
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(safetensors pickle torch_file config fast_tokenizer vocabulary tsv jsonl csv)

folder=build-fuzz
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
compiler=$(command -v clang++-14 || command -v clang++) || { echo "tests/fuzz/run.sh: clang++ is missing" >&2; exit 2; }
mkdir -p "$folder/findings"
cmake -S . -B "$folder" -G Ninja -DEMBER_FUZZ=ON -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_COMPILER="$compiler" \
  "${launcher[@]}" >"$folder/cmake.log" 2>&1 || { cat "$folder/cmake.log" >&2; exit 1; }
cmake --build "$folder" --target "${targets[@]/#/fuzz_}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
run() { # TARGET
  local target=$1 grown=$scratch/$1
  [ "${EMBER_FUZZ_KEEP:-}" != 1 ] || grown=$folder/corpus/$target
  mkdir -p "$grown"
  "$folder/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=1024 -malloc_limit_mb=72 \
    -max_len=16384 -print_final_stats=1 -artifact_prefix="$folder/findings/$target-" \
    "$grown" "tests/fuzz/corpus/$target" >"$scratch/$target.log" 2>&1 || {
    echo "fuzz: $target: a finding" >&2
    tail -n 60 "$scratch/$target.log" >&2
    return 1
  }
  echo "fuzz: $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/$target.log") inputs in $seconds s"
}

jobs=${EMBER_FUZZ_JOBS:-$(nproc)}
running=0 failed=0
for target in "${targets[@]}"; do
  if ((running == jobs)); then
    wait -n || failed=1
    ((running -= 1)) || true
  fi
  run "$target" &
  ((running += 1))
done
while ((running > 0)); do
  wait -n || failed=1
  ((running -= 1)) || true
done
exit "$failed"
