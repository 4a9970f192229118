# Read by tools/gpu_check.sh: the parts of the check, in the order in which their results are worth most. begin_part has
# the seconds that one program may take and those that the part may.

part_tests() {
  local program
  begin_part 120 300
  for program in "$native_tests"/gpu_*_test; do
    start_check "$(basename "$program")" "$program"
  done
  end_checks
}

# From nothing on the bundled sample, into build-gpu/NAME.
train_on_sample() { # CHECK NAME
  check "$1" "$programs/train/train" --device cuda --from-scratch --model "$sample/model" --data "$sample" --epochs 3 \
    --lr 2e-3 --out "$PWD/build-gpu/$2" --overwrite
}

# The last loss on dev in the metrics of a run, as train writes them.
dev_loss() { # METRICS
  grep '"event":"eval"' "$1" 2>/dev/null | tail -n 1 | sed -n 's/.*"loss":\([^,}]*\).*/\1/p'
}

# The reference recipe on the data given, with weights drawn where the model has none.
train_reference() {
  local out=$PWD/build-gpu/run-reference flags=() start=$SECONDS
  [ -e "$model/model.safetensors" ] || flags=(--from-scratch)
  check "reference training" "$programs/train/train" --device cuda --model "$model" --data "$data" --out "$out" \
    --overwrite --keep 1 "${flags[@]}" || return
  cp "$out/metrics.jsonl" "$logs/reference_metrics.jsonl"
  note "Reference training: dev loss $(dev_loss "$out/metrics.jsonl") at the end, $((SECONDS - start)) seconds in all."
  check "evaluate" "$programs/tools/evaluate" --model "$out" --data "$data" --split dev --sweep
}

part_training() {
  begin_part 240 400
  train_on_sample "training" run-a
  train_on_sample "training again" run-b
  check "equal bits" cmp build-gpu/run-a/model.safetensors build-gpu/run-b/model.safetensors
  if [ -n "$model" ] && [ -n "$data" ]; then train_reference; fi
}

part_bench() {
  local inputs=()
  begin_part 240 500
  [ -z "$model" ] || [ -z "$data" ] || inputs=(--model "$model" --data "$data")
  check "bench_step" "$programs/bench/bench_step" --device cuda --part training --seconds 0.1 \
    --out "$logs/bench_step.json" "${inputs[@]}"
  check "bench_kernels" "$programs/bench/bench_kernels" --device cuda --benchmark_repetitions=5 \
    --benchmark_filter='/tinybert/(308|2048)/' --out "$logs/bench_kernels.json"
  check "bench_variants" "$programs/bench/bench_variants" --benchmark_filter=/cuda/ \
    --benchmark_out="$logs/bench_variants.json" --benchmark_out_format=json
}

has_torch='import sys, torch, transformers; sys.exit(not torch.cuda.is_available())'

# Why the peers cannot be run; nothing if they can.
no_peers() {
  if [ -z "$model" ] || [ -z "$data" ]; then
    echo "--model and --data are needed"
  elif [ ! -e "$model/model.safetensors" ]; then
    echo "$model has no model.safetensors"
  elif ! timeout 120 python3 -c "$has_torch" >/dev/null 2>&1; then
    echo "python3 has no torch with CUDA, or no transformers"
  fi
}

# The table of bench/compare.sh goes below ours; it leaves torch.compile out, which alone takes minutes. A peer that
# fails has a row there, compare.sh itself fails where Ember does. PyTorch's attention by itself, to be held against
# bench_kernels', is below that.
part_peers() {
  local why peers log
  why=$(no_peers)
  [ -z "$why" ] || { skip "peers" "$why"; return; }
  begin_part 500 620
  check "peers" bench/compare.sh "$programs" "$model" "$data" --device cuda --out "$logs/compare" --timeout 150 \
    --engines '^Trainer|(padding|packed|graphs) '
  peers=$(grep -s '^|' "$(log_of peers)") && note "$peers"
  try "sdpa.py" python3 bench/peers/sdpa.py --device cuda --precision fp16
  log=$(log_of "sdpa.py")
  [ ! -s "$log" ] || note "$(sed 's/^/    /' "$log")"
}

part_ptx() {
  local program
  begin_part 120 400
  for program in "$ptx_tests"/gpu_*_test; do
    start_check "compute_75 PTX $(basename "$program")" "$program"
  done
  end_checks
}

# The tests of two programs take minutes there, so several processes share them.
processes_for() { # PROGRAM
  case $1 in *gpu_training_test | *gpu_adamw_replay_test) echo 4 ;; *) echo 1 ;; esac
}

start_sanitizer() { # TOOL PROGRAM
  local name="$1 $(basename "$2")" command=(compute-sanitizer --tool "$1" --error-exitcode 9 --report-api-errors no)
  local count share
  # The test that asks for too much memory makes memcheck report the refusal.
  [ "$1" != racecheck ] || command=("$root/tools/gpu_check/racecheck.sh")
  count=$(processes_for "$2")
  for ((share = 0; share < count; ++share)); do
    start_check "$name$([ "$count" -eq 1 ] || echo ", share $((share + 1)) of $count")" \
      env GTEST_TOTAL_SHARDS="$count" GTEST_SHARD_INDEX="$share" "${command[@]}" "$2"
  done
}

part_sanitizer() {
  local tool program
  if ! command -v compute-sanitizer >/dev/null; then
    fail_row "compute-sanitizer" "not installed" 0
    return
  fi
  begin_part 240 1500
  # Hundreds of steps of kernels that the other tests run too: minutes under these tools.
  local -x GTEST_FILTER=-Training.NoStepWaitsForTheDevice:Training.RecordsComeAsSoonAsTheyAreCopied
  GTEST_FILTER+=:Columns/DeviceLazyAdamW.HasTheBitsOfDense/1:Columns/DeviceLazyAdamW.HasTheBitsOfDense/2
  for tool in memcheck racecheck initcheck synccheck; do
    for program in "$native_tests"/gpu_*_test; do start_sanitizer "$tool" "$program"; done
  done
  end_checks
}
