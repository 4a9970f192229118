#!/usr/bin/env bash
# racecheck.sh PROGRAM: runs it under compute-sanitizer's racecheck. Exit status: the program's own if that is not 0, 9
# where hazards were found in a kernel of ours.
# cuBLASLt's kernels for sm_90 (nvjet_...) have hazards in its eyes: they hand shared memory over by barriers of the
# copy engine. They cannot be left out either: with --kernel-name-exclude the tool itself failed. What ours get from
# them and give to them lies in global memory, which racecheck does not look at.
set -uo pipefail
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
compute-sanitizer --tool racecheck --report-api-errors no "$1" | tee "$log"
status=$?
[ "$status" -eq 0 ] || exit "$status"
ours=$(grep 'Race reported' "$log" | grep -cv ' nvjet_')
[ "$ours" -eq 0 ] || exit 9
