# shellcheck shell=bash disable=SC2154
# Downloads that resume, are checked, and never leave half a file under its final name. Sourced by the fetch_*.sh beside
# it, which set `about`, `default_directory` and `default_url` before they call fetch_start "$@".
#
#   EMBER_FETCH_TRIES    tries for each file (5)
#   EMBER_FETCH_TIMEOUT  seconds without a connection or a byte until a try is given up (30)
#   EMBER_FETCH_PAUSE    seconds between tries (3)
#
# Progress goes to standard output (curl's and wget's own bars to a terminal); on failure there is one line on standard
# error and the exit status is 2.
set -euo pipefail

program=${0##*/}
tries=${EMBER_FETCH_TRIES:-5}
timeout=${EMBER_FETCH_TIMEOUT:-30}
pause=${EMBER_FETCH_PAUSE:-3}

die() {
  printf '%s: %s\n' "$program" "$1" >&2
  exit 2
}

usage() {
  printf 'usage: %s [--base-url URL] [DIRECTORY]\n%s\nDIRECTORY is %s unless given; URL is %s\n' \
    "$program" "$about" "$default_directory" "$default_url"
}

# require_number NAME VALUE LEAST
require_number() {
  [[ $2 =~ ^(0|[1-9][0-9]{0,5})$ && $2 -ge $3 ]] || die "$1=$2: must be a whole number from $3 to 999999"
}

# Reads the arguments into `directory` and `base_url`, makes the directory and keeps other fetches out of it.
fetch_start() {
  directory='' base_url=$default_url
  while (($#)); do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --base-url) (($# > 1)) && [[ -n $2 ]] || die '--base-url needs an address' && base_url=$2 && shift ;;
      --base-url=*) base_url=${1#*=} && [[ -n $base_url ]] || die '--base-url needs an address' ;;
      -*) die "unknown option $1 (--help shows the options)" ;;
      *) [[ -z $directory && -n $1 ]] || die "one directory expected, '$1' is one more" && directory=$1 ;;
    esac
    shift
  done
  directory=${directory:-$default_directory} base_url=${base_url%/}
  [[ $base_url != *://* || $base_url =~ ^https?:// ]] || die "$base_url: must begin with https:// or http://"
  require_number EMBER_FETCH_TRIES "$tries" 1
  require_number EMBER_FETCH_TIMEOUT "$timeout" 1
  require_number EMBER_FETCH_PAUSE "$pause" 0
  tool=$(command -v curl || command -v wget) || die 'needs curl or wget, and neither is installed'
  tool=${tool##*/}
  mkdir -p -- "$directory" 2>/dev/null || die "$directory: cannot be made"
  directory=$(CDPATH='' cd -- "$directory" && pwd)
  scratch=$(mktemp -d 2>/dev/null) || die "TMPDIR, ${TMPDIR:-/tmp}: no folder can be made there"
  trap 'rm -rf -- "$scratch"' EXIT
  exec 9<"$directory"
  ! command -v flock >/dev/null || flock --nonblock 9 || die "$directory: another fetch is at work there"
}

# The HTTP status of the last answer in $scratch/headers, 000 when there was none.
last_status() {
  local line status=000
  while read -r line; do
    [[ ! $line =~ ^HTTP/[0-9.]+\ +([0-9]{3}) ]] || status=${BASH_REMATCH[1]}
  done <"$scratch/headers"
  printf '%s' "$status"
}

# The value of header $1 (small letters) in the last answer that has it.
header() {
  local name value found=''
  while IFS=: read -r name value; do
    [[ ${name,,} != "$1" ]] || found=${value%$'\r'}
  done <"$scratch/headers"
  printf '%s' "${found# }"
}

# Adds what is missing of $1 to the file $2; the headers of every answer go to $scratch/headers.
download() {
  local bar=()
  if [[ $tool == curl ]]; then
    bar=(--silent)
    [[ ! -t 2 ]] || bar=(--progress-bar)
    run_curl "${bar[@]}" --fail --location --speed-limit 1 --speed-time "$timeout" --continue-at - --output "$2" -- "$1"
  else
    [[ ! -t 2 ]] || bar=(--show-progress)
    run_wget "${bar[@]}" --continue --output-document="$2" -- "$1"
  fi
}

# Asks for the headers of $1, redirects not followed.
ask() {
  if [[ $tool == curl ]]; then
    run_curl --silent --head --max-time "$timeout" --output /dev/null -- "$1"
  else
    run_wget --max-redirect=0 --spider -- "$1"
  fi
}

run_curl() {
  : >"$scratch/headers"
  curl --connect-timeout "$timeout" --dump-header "$scratch/headers" "$@"
}

# wget writes the headers, two blanks before each, between its own messages. Kept connections are of no use: when the
# server closes one behind a redirect, wget takes that for a failed try.
run_wget() {
  local result=0
  wget --tries=1 --timeout="$timeout" --no-http-keep-alive --server-response --output-file="$scratch/log" "$@" ||
    result=$?
  sed -n 's/^  //p' "$scratch/log" >"$scratch/headers"
  return "$result"
}

# Whether a request with exit status $1 and HTTP status $2 will fail in the same way again; says why in `problem`.
explain() {
  case $2 in
    408 | 416 | 429 | 5??) problem="the server answers HTTP $2" && return 1 ;;
    4??) problem="the server answers HTTP $2" && return 0 ;;
    # An answer that found no room to be written down looks like none.
    000) printf '\n' 2>/dev/null >"$scratch/room" || { problem="$scratch (TMPDIR): cannot be written" && return 0; }
      problem="the server cannot be reached ($tool: exit status $1)" && return 1 ;;
  esac
  problem='the connection was cut or stalled'
  [[ $tool$1 != curl23 && $tool$1 != wget3 ]] || problem="$directory cannot be written"
  [[ $problem == *written ]]
}

# Whether the file $1 has the digest $2: sha256:HEX, or git:HEX as git names its blobs.
matches() {
  [[ -f $1 && $(digest "$1" "${2%%:*}") == "${2#*:}" ]]
}

# Whether the file $1 is a web page, as the log-in of a network answers in the place of everything; no file that is
# fetched begins as one.
is_page() {
  local start=''
  read -r -d '' -n 16 start <"$1" 2>/dev/null || true
  [[ $start == '<'* ]]
}

digest() {
  if [[ $2 == sha256 ]]; then
    sha256sum <"$1" | cut -d ' ' -f 1
  else
    { printf 'blob %s\0' "$(stat -c %s -- "$1")" && cat -- "$1"; } | sha1sum | cut -d ' ' -f 1
  fi
}

# Puts URL $1 into $directory under the name $2 if its digest is $3; an empty $3 accepts anything whole.
fetch_file() {
  local url=$1 name=$2 expected=$3 part=$directory/$2.part problem='' mismatches=0 try
  [[ -w $directory ]] || die "$directory: cannot be written"
  for ((try = 1; try <= tries; ++try)); do
    if ((try > 1)); then
      printf '%s: %s; try %d of %d\n' "$name" "$problem" "$try" "$tries"
      sleep "$pause"
    else
      printf '%s: from %s\n' "$name" "$url"
    fi
    # Without a digest nothing could tell two halves of different files from one whole.
    [[ -n $expected ]] || rm -f -- "$part"
    if fetch_once "$url" "$part" "$expected"; then
      sync -- "$part"
      mv -f -- "$part" "$directory/$name"
      return
    fi
  done
  local kept=''
  [[ ! -s $part || -z $expected ]] || kept="; $part is kept, to go on from there next time"
  die "$url: $problem, $tries tries$kept"
}

# One try. Sets `problem` when it fails; dies where another try cannot help.
fetch_once() {
  local url=$1 part=$2 expected=$3 result=0 status resumed=''
  [[ -z $expected ]] || ! matches "$part" "$expected" || return 0
  [[ ! -s $part ]] || resumed=yes
  download "$url" "$part" || result=$?
  status=$(last_status)
  if ((result == 0)) && [[ -f $part ]]; then
    if [[ -n $expected ]] && matches "$part" "$expected"; then return 0; fi
    if is_page "$part"; then
      problem='a web page came instead of the file: the network may want a log-in first'
    elif [[ -z $expected ]]; then
      return 0
    else
      problem="is damaged: ${expected%%:*} $(digest "$part" "${expected%%:*}"), expected ${expected#*:}"
    fi
    rm -f -- "$part"
    ((++mismatches < 2)) || die "$url: $problem"
    return 1
  fi
  [[ -s $part ]] || rm -f -- "$part"
  if explain "$result" "$status"; then die "$url: $problem"; fi
  # The server sends everything or nothing instead of the rest.
  if [[ -n $resumed && ($status == 200 || $status == 416) ]]; then
    problem='the server cannot resume'
    rm -f -- "$part"
  fi
  return 1
}
