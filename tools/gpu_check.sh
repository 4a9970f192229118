#!/usr/bin/env bash
# Everything that needs a GPU, in one command, with a table at the end: the tests of the CUDA backend, the same under
# compute-sanitizer's four tools, a short training run twice (equal bits), and the tests again from compute_75 PTX alone,
# the code that a T4 runs, translated by the driver of a newer GPU.
#   tools/gpu_check.sh
# Builds in build-gpu and build-gpu-ptx, for the GPU at hand. Exit status: 0 all passed, 1 something failed, 2 it could
# not be built, 3 there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
logs=build-gpu/logs

no_gpu() { echo "gpu_check: $1; nothing was checked" >&2; exit 3; }
command -v nvidia-smi >/dev/null || no_gpu "there is no nvidia-smi, so no NVIDIA driver"
gpu=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$gpu" ] || no_gpu "nvidia-smi finds no GPU"
echo "GPU, driver, compute capability: $gpu"
architecture=$(tr -d . <<<"${gpu##*, }")

build() { # FOLDER ARCHITECTURES TARGET...
  local folder=$1 architectures=$2
  shift 2
  mkdir -p "$folder"
  { cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DEMBER_CUDA=ON -DEMBER_BENCH=OFF \
      -DCMAKE_CUDA_ARCHITECTURES="$architectures" && cmake --build "$folder" -j "$jobs" --target "$@"; } \
    >"$folder/gpu_check.log" 2>&1 || { tail -n 30 "$folder/gpu_check.log" >&2; exit 2; }
}
echo "building"
build build-gpu "$architecture-real" gpu_tests train
build build-gpu-ptx 75-virtual gpu_tests
mkdir -p "$logs"

table=()
failed=0
check() { # NAME COMMAND...
  local name=$1 log="$logs/${1//[^a-zA-Z0-9]/_}.log" start=$SECONDS result=passed
  shift
  "$@" >"$log" 2>&1 || { result=FAILED; failed=1; tail -n 15 "$log"; }
  table+=("$(printf '%-44s %-7s %5d s' "$name" "$result" $((SECONDS - start)))")
  echo "${table[-1]}"
}
skip() { # NAME REASON
  table+=("$(printf '%-44s SKIPPED (%s)' "$1" "$2")")
  failed=1
}

for program in build-gpu/tests/cuda/gpu_*_test; do
  check "$(basename "$program")" "$program"
done

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    for program in build-gpu/tests/cuda/gpu_*_test; do
      # The test that asks for too much memory makes memcheck report the refusal.
      check "$tool $(basename "$program")" compute-sanitizer --tool "$tool" --error-exitcode 9 --report-api-errors no \
        "$program"
    done
  done
else
  skip "compute-sanitizer" "it is not installed"
fi

# Twice from nothing on the bundled sample: the loss falls, and the two runs end in the same bits.
run_training() { # OUT
  EMBER_CACHE_DIR=$PWD/build-gpu/cache build-gpu/train/train --device cuda --from-scratch --model data/sample/model \
    --data data/sample --epochs 3 --lr 2e-3 --out "$1" --overwrite
}
check "training" run_training build-gpu/run-a
check "training again" run_training build-gpu/run-b
check "equal bits" cmp build-gpu/run-a/model.safetensors build-gpu/run-b/model.safetensors

for program in build-gpu-ptx/tests/cuda/gpu_*_test; do
  check "compute_75 PTX $(basename "$program")" "$program"
done

echo
echo "$gpu, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u +%F)"
printf '%s\n' "${table[@]}"
exit "$failed"
