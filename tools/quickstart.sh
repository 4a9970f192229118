#!/usr/bin/env bash
# From nothing to predictions: installs the packages, builds, gets the data and the pretrained model, fine-tunes on the
# best device, evaluates on the test split and predicts three sentences.
#   tools/quickstart.sh [--model DIR] [--data DIR] [--out DIR] [-- TRAIN-FLAG...]
# --model   a Hugging Face directory of pretrained weights (default: TinyBERT, downloaded)
# --data    a folder with train, dev and test (default: GoEmotions, downloaded)
# --out     where the fine-tuned model goes (default: out/quickstart, whose model it replaces; one in a folder of your
#           own is replaced only with -- --overwrite)
# A run that was interrupted goes on with the same arguments and -- --resume.
# Without a network, once the packages are there, it does the same with the sample in data/sample and a small untrained
# model, for 20 epochs at a rate of 2e-3 unless there are other TRAIN-FLAGs than --resume.
set -euo pipefail
unset CDPATH
caller=$PWD
cd "$(dirname "$0")/.."

usage() { sed -n '2,12s/^# \{0,1\}//p' tools/quickstart.sh; }
absolute() { case $1 in /*) printf %s "$1" ;; *) printf %s "$2/$1" ;; esac; } # PATH FOLDER
die() { echo "quickstart: $*" >&2; exit 2; }

arguments=("$@")
model='' data='' out='' flags=() resumes='' has_recipe=''
while [ $# -gt 0 ]; do
  case "$1" in
    --model | --data | --out)
      [ $# -ge 2 ] && [ -n "$2" ] || die "$1 needs a folder"
      declare "${1#--}=$(absolute "$2" "$caller")"
      shift 2
      ;;
    --help | -h) usage; exit 0 ;;
    --) shift; flags=("$@"); break ;;
    *) die "unknown argument '$1' (see --help); train's flags go after --" ;;
  esac
done
again=("$0" "${arguments[@]:0:${#arguments[@]}-${#flags[@]}}")  # what goes on with this run
[ "${again[-1]}" = -- ] || again+=(--)
for flag in ${flags[@]+"${flags[@]}"}; do
  [[ $flag == --resume || $flag == --overwrite ]] || again+=("$flag")
  case $flag in
    --resume) resumes=yes ;;
    --model | --model=* | --data | --data=* | --out | --out=*) die "${flag%%=*}: give it before --" ;;
    *) has_recipe=yes ;;
  esac
done
[ -z "$model" ] || [ -d "$model" ] || die "--model $model: no such folder"
[ -z "$data" ] || [ -d "$data" ] || die "--data $data: no such folder"

tools/install_packages.sh

if { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; } &&
  ! { command -v nvcc || [ -x /usr/local/cuda/bin/nvcc ]; } >/dev/null; then
  echo "A GPU is here but the CUDA toolkit (nvcc) is not; going on with the CPU. To install it" \
    "(12.2 or later): https://developer.nvidia.com/cuda-downloads"
fi

echo "== build"
{ mkdir -p build && : >build/configure.log; } 2>/dev/null || die "$PWD/build: cannot be written"
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DEMBER_TESTS=OFF -DEMBER_BENCH=OFF >build/configure.log 2>&1 ||
  { tail -n 20 build/configure.log >&2
    die "the build could not be configured; what another place or generator left in $PWD/build goes with rm -r"; }
sed -n 's/^-- \(CUDA [0-9]\)/\1/p' build/configure.log  # which toolkit, or that it is too old
cmake --build build  # ninja counts the processors, also of a container with a quota of their time

# What is not given is downloaded once and kept in cache/. The sample's data and model stand in for both together.
# A refusal is an answer, too, and then the fetch's error; but for those of a gateway on the way there.
reachable() {
  case $(curl --silent --head --location --max-time 10 --output /dev/null --write-out '%{http_code}' "$1") in
    000 | 403 | 407 | 511) return 1 ;;
  esac
}
source tools/sources.sh
cached_data=cache/goemotions cached_model=cache/tinybert-ember
missing=()                                                                   # what the network must have
[ -n "$data" ] || [ -e $cached_data/test.tsv ] || missing+=("$goemotions_url/test.tsv")  # which is fetched last
[ -n "$model" ] || [ -e $cached_model/model.safetensors ] || missing+=("$tinybert_url/config.json")
unreachable=''
reachable_all() { for unreachable in "$@"; do reachable "$unreachable" || return 1; done; }
train_flags=()
if reachable_all ${missing[@]+"${missing[@]}"}; then
  if [ -z "$data" ]; then
    tools/fetch_goemotions.sh $cached_data
    data=$cached_data
  fi
  if [ -z "$model" ]; then
    if [ ! -e $cached_model/model.safetensors ]; then
      tools/fetch_tinybert.sh cache/tinybert
      build/tools/convert_hf cache/tinybert $cached_model
    fi
    model=$cached_model
    # It has none but what convert_hf drew.
    [[ " ${flags[*]-} " == *" --from-scratch "* ]] || train_flags=(--new-classifier)
  fi
elif [ -n "$data$model" ]; then
  die "$unreachable cannot be reached; give both --model and --data"
else
  echo "No network ($unreachable cannot be reached):" \
    "going on with the bundled sample (data/sample) and a small untrained model."
  model=data/sample/model data=data/sample
  # TRAIN-FLAGs take the place of this recipe, which is made for the sample alone.
  train_flags=(--from-scratch)
  [ -n "$has_recipe" ] || train_flags+=(--epochs 20 --lr 2e-3)
fi

if [ -z "$out" ]; then
  out=out/quickstart
  [ -n "$resumes" ] || train_flags+=(--overwrite)
fi
echo "== train"
build/train/train --model "$model" --data "$data" --out "$out" \
  ${train_flags[@]+"${train_flags[@]}"} ${flags[@]+"${flags[@]}"} || {
  status=$?
  # Stopped by a signal and saved in this run; train's own word on --resume is of the flags that it was given here.
  if [ "$status" -gt 128 ] && [ "$out/checkpoints" -nt build/configure.log ]; then
    echo "To go on: $(printf '%q ' "${again[@]}")--resume"
  fi
  exit "$status"
}

echo "== evaluate on test"
build/tools/evaluate --model "$out" --data "$data" --split test --sweep

echo "== predict"
build/tools/predict --model "$out" \
  "I am so happy that I passed the exam with flying colors!" \
  "Thank you so much, I really appreciate your help." \
  "This is the most disgusting thing I have ever seen."
# As it must be typed anywhere.
quoted=$(printf '%q --model %q' "$PWD/build/tools/predict" "$(absolute "$out" "$PWD")")
echo "The fine-tuned model is in $out. Try: $quoted 'your sentence'"
