# Read by tools/gpu_check.sh: runs programs under time limits and keeps the table. `check`, `try` and `skip` are its
# rows; the table is written anew with every row, so that it is there whatever ends the script.

rows=()
notes=()
failed=0
failure=FAILED # how a row calls it
stopped=
table=$logs/table.md

write_table() {
  {
    echo "## $gpu, commit $version, $(date -u +%F)"
    echo
    echo "| check | result | seconds |"
    echo "|---|---|---|"
    printf '%s\n' "${rows[@]}"
    [ "${#notes[@]}" -eq 0 ] || printf '\n%s\n' "${notes[@]}"
  } >"$table" || die "$table: cannot be written"
}

row() { # NAME RESULT SECONDS
  rows+=("| $1 | $2 | $3 |")
  printf '%-44s %s, %s s\n' "$1" "$2" "$3"
  write_table
}

fail_row() { # NAME RESULT SECONDS
  failed=1
  row "$1" "$failure ($2)" "$3"
}

skip() { # NAME REASON
  row "$1" "SKIPPED ($2)" 0
}

# Below the table.
note() { # MARKDOWN
  notes+=("$1")
  write_table
}

log_of() { echo "$logs/${1//[^a-zA-Z0-9]/_}.log"; } # NAME

begin_part() { # PROGRAM-SECONDS PART-SECONDS
  program_limit=${limit:-$1}
  part_end=$((SECONDS + $2))
}

# By process: what runs, since when, and the seconds it was given.
declare -A running=() began=() given=()

# Starts a command with its output in the log, once fewer than $jobs are running; it has what the part has left, and no
# more than a program may take.
start_check() { # NAME COMMAND...
  local name=$1 left
  shift
  rm -f "$(log_of "$name")" # of an earlier run, if this one does not come to it
  while [ "${#running[@]}" -ge "$jobs" ]; do end_check; done
  [ -z "$stopped" ] || return 1
  left=$((part_end - SECONDS))
  [ "$left" -gt 0 ] || { fail_row "$name" "not started: the part's time is used up" 0; return 1; }
  [ "$left" -lt "$program_limit" ] || left=$program_limit
  timeout --kill-after=5 "$left" "$@" >"$(log_of "$name")" 2>&1 </dev/null &
  running[$!]=$name began[$!]=$SECONDS given[$!]=$left
  [ -z "$stopped" ] || kill "$!"
}

# Waits for one of those that run, sets `ended` to its process and returns its status. Those come first that have ended
# while something else was done: bash's `wait -n` knows nothing of them any more, though `wait` does. A signal ends the
# waiting too. `ended` is no function's own, since `wait -n` unsets it.
wait_for_one() {
  local process status
  while true; do
    for process in "${!running[@]}"; do
      kill -0 "$process" 2>/dev/null && continue
      ended=$process
      wait "$process"
      return
    done
    wait -n -p ended
    status=$?
    [ -z "${ended:-}" ] || return "$status"
  done
}

# Waits for one of those that run and writes its row; returns its status.
end_check() {
  local status name seconds
  wait_for_one
  status=$?
  name=${running[$ended]} seconds=$((SECONDS - began[$ended]))
  unset "running[$ended]"
  if [ "$status" -eq 0 ]; then
    row "$name" passed "$seconds"
  elif [ -n "$stopped" ]; then
    fail_row "$name" interrupted "$seconds"
  elif [ "$status" -eq 124 ] || { [ "$status" -eq 137 ] && [ "$seconds" -ge "${given[$ended]}" ]; }; then
    fail_row "$name" "timed out" "$seconds"
  else
    fail_row "$name" "exit status $status" "$seconds"
    tail -n 15 "$(log_of "$name")"
  fi
  return "$status"
}

end_checks() {
  while [ "${#running[@]}" -gt 0 ]; do end_check; done
}

# One alone, with its status.
check() { # NAME COMMAND...
  start_check "$@" && end_check
}

# The same of what is none of ours: a failure has its row but leaves the exit status as it is, since what fail_row sets
# is then a variable of this function.
try() { # NAME COMMAND...
  local failed failure="failed, not counted"
  check "$@"
}

# What SIGINT and SIGTERM do: end what runs, begin nothing more.
stop() {
  stopped=yes
  [ "${#running[@]}" -eq 0 ] || kill "${!running[@]}" 2>/dev/null
}
