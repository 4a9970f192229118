#!/usr/bin/env bash
# Everything that needs a GPU, in one command, with a table at the end.
#   tools/gpu_check.sh [--from BUNDLE] [--model DIR --data DIR] [--only PART,...] [--logs DIR] [--jobs N]
#                      [--limit SECONDS]
#   tools/gpu_check.sh --bundle DIR
# The parts, in this order:
#   tests      the tests of the CUDA backend
#   training   a short run on data/sample twice, which must end in equal bits; then the reference recipe on --data
#   bench      bench_step, bench_kernels and bench_variants on the GPU, with their results as JSON in the logs
#   peers      bench/compare.sh --device cuda, if --model and --data are given and python3 has torch and transformers;
#              PyTorch's attention by itself, whose failure is in the table but none of the check's
#   ptx        the tests from compute_75 PTX alone, the code that a T4 runs, translated by the driver of a newer GPU
#   sanitizer  the tests under compute-sanitizer's four tools
# --bundle   needs no GPU: builds what the check runs and gathers it in DIR and DIR.tar.xz, for a GPU's machine that has
#            a checkout but not our packages
# --from     such a folder or archive, instead of a build; if it cannot be used here, the check builds all the same
# --model    a Hugging Face folder for the reference run and the peers, --data the folder of its data
# --logs     what each program said, results, and the table as table.md (default: build-gpu/logs)
# --jobs     how many tests run at a time (default: the processors, at most 8); whatever is timed runs alone
# --limit    the most seconds that one program may take (default: by part); one that takes longer is killed
# Without --from it builds in build-gpu and build-gpu-ptx, for the GPU at hand. Exit status: 0 all passed, 1 something
# failed, 2 a wrong flag or no build, 3 there is no GPU.
set -uo pipefail
unset CDPATH
root=$(cd "$(dirname "$0")/.." && pwd)
parts=(tests training bench peers ptx sanitizer)

usage() { sed -n '2,25s/^# \{0,1\}//p' "$root/tools/gpu_check.sh"; }
die() { echo "gpu_check: $*" >&2; exit 2; }
no_gpu() { echo "gpu_check: $1; nothing was checked" >&2; exit 3; }
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
make_folder() { # FOLDER WHAT-IT-IS
  local why
  why=$(mkdir -p "$1" 2>&1) || die "$2: cannot be made: ${why##*: }"
}
wanted() { case ,$only, in *,"$1",*) ;; *) return 1 ;; esac; }

flags=() bundle='' make='' model='' data='' limit='' jobs='' logs=$root/build-gpu/logs
only=$(IFS=, && echo "${parts[*]}")
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --bundle | --from | --model | --data | --only | --logs | --jobs | --limit)
      [ -n "${2:-}" ] || die "$1: needs a value" ;;&
    --bundle) make=$(absolute "$2") ;;
    --from) bundle=$(absolute "$2") ;;
    --model | --data | --logs) declare "${1#--}=$(absolute "$2")" ;;
    --only | --jobs | --limit) declare "${1#--}=$2" ;;
    *) die "$1: no such flag (see --help)" ;;
  esac
  flags+=("$1")
  shift 2
done
[ -z "$make" ] || [ "${#flags[@]}" -eq 1 ] || die "--bundle: stands alone, but there are ${flags[*]}"
[[ $only =~ ^[a-z]+(,[a-z]+)*$ ]] || die "--only $only: must be names of parts with commas between them"
for part in ${only//,/ }; do
  [[ " ${parts[*]} " == *" $part "* ]] || die "--only $part: must be one of ${parts[*]}"
done
[[ $limit =~ ^([1-9][0-9]{0,5})?$ ]] || die "--limit $limit: must be a whole number of seconds from 1 to 999999"
[[ $jobs =~ ^([1-9][0-9]?)?$ ]] || die "--jobs $jobs: must be a whole number from 1 to 99"
[ -z "$model" ] || [ -f "$model/config.json" ] ||
  die "--model $model: has no config.json; a model's folder was expected"
[ -z "$data" ] || [ -f "$data/labels.txt" ] || die "--data $data: has no labels.txt; a folder of data was expected"
[ -z "$model" ] || [ -n "$data" ] || die "--model: goes with --data"
[ -z "$data" ] || [ -n "$model" ] || die "--data: goes with --model"
[ -z "$bundle" ] || [ -e "$bundle" ] || die "--from $bundle: there is no such folder or archive"

cd "$root" || exit 2
source tools/gpu_check/programs.sh
if [ -n "$make" ]; then
  source tools/gpu_check/bundle.sh
  make_bundle "$make"
  exit 0
fi

command -v nvidia-smi >/dev/null || no_gpu "there is no nvidia-smi, so no NVIDIA driver"
gpu=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$gpu" ] || no_gpu "nvidia-smi finds no GPU"
architecture=$(tr -d . <<<"${gpu##*, }")
IFS=, read -r name driver _ <<<"$gpu"
gpu="$name, driver${driver}"
echo "$gpu, compute capability ${architecture%?}.${architecture: -1}"

make_folder build-gpu build-gpu
make_folder "$logs" "--logs $logs"
# The algorithms of the matrix products are measured once for all programs.
export EMBER_CACHE_DIR=$root/build-gpu/cache
# A bundle's tests were built elsewhere, and read what they need of the checkout from this one.
export EMBER_SOURCE=$root
if [ -z "$bundle" ] || ! use_bundle; then build_in_place; fi

[ -n "$jobs" ] || jobs=$(($(nproc) < 8 ? $(nproc) : 8))
source tools/gpu_check/table.sh
source tools/gpu_check/parts.sh
trap stop INT TERM
for part in "${parts[@]}"; do
  if wanted "$part" && [ -z "$stopped" ]; then "part_$part"; fi
done
[ -z "$stopped" ] || fail_row "the rest" "interrupted" 0
echo
cat "$table"
exit "$failed"
