# Read by tools/gpu_check.sh: runs programs under time limits and keeps the table. `check` and `skip` are its rows; the
# table is written anew with every row, so that it is there whatever ends the script.

rows=()
notes=()
failed=0
running=
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
  row "$1" "FAILED ($2)" "$3"
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

# Runs a command with its output in the log; it has what the part has left, and no more than a program may take.
check() { # NAME COMMAND...
  local name=$1 log start=$SECONDS left=$((part_end - SECONDS)) status
  [ -z "$stopped" ] || return 1
  log=$(log_of "$name")
  shift
  [ "$left" -gt 0 ] || { fail_row "$name" "not started: the part's time is used up" 0; return 1; }
  [ "$left" -lt "$program_limit" ] || left=$program_limit
  timeout --kill-after=5 "$left" "$@" >"$log" 2>&1 </dev/null &
  running=$!
  [ -z "$stopped" ] || kill "$running"
  wait "$running"
  status=$?
  if [ -n "$stopped" ]; then
    wait "$running"
    fail_row "$name" interrupted $((SECONDS - start))
  elif [ "$status" -eq 0 ]; then
    row "$name" passed $((SECONDS - start))
  elif [ "$status" -eq 124 ] || { [ "$status" -eq 137 ] && [ $((SECONDS - start)) -ge "$left" ]; }; then
    fail_row "$name" "timed out" $((SECONDS - start))
  else
    fail_row "$name" "exit status $status" $((SECONDS - start))
    tail -n 15 "$log"
  fi
  running=
  return "$status"
}

# What SIGINT and SIGTERM do: end what runs, begin nothing more.
stop() {
  stopped=yes
  [ -z "$running" ] || kill "$running" 2>/dev/null
}
