#!/usr/bin/env bash
# Downloads TinyBERT (Jiao et al. 2020), 4 layers of 312, as Hugging Face publishes it: config.json, vocab.txt and
# pytorch_model.bin. The hub says each file's digest in its answer: the sha256 of large files (X-Linked-Etag), git's
# blob name of small ones (ETag beside X-Repo-Commit).
# shellcheck disable=SC2034,SC2154
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=sources.sh
source "$here/sources.sh"
about='Downloads TinyBERT 4L-312D: config.json, vocab.txt and pytorch_model.bin,'
about+=' checked by the digests the hub reports.'
default_directory=$(dirname -- "$here")/cache/tinybert
default_url=$tinybert_url
# shellcheck source=fetch.sh
source "$here/fetch.sh"

# Sets `expected` to the digest of URL $1, empty where the server tells none. Fails with `problem` without an answer.
learn_digest() {
  local url=$1 status hop try
  expected='' problem=''
  for ((try = 1, hop = 0; try <= tries && hop < 5; )); do
    local result=0
    ask "$url" || result=$?
    status=$(last_status)
    expected=$(reported_digest)
    [[ -z $expected ]] || return 0
    case $status in
      2?? | 405 | 501) return 0 ;;
      3??) url=$(absolute "$url" "$(header location)") && ((++hop)) ;;
      *)
        if explain "$result" "$status" || ((try == tries)); then return 1; fi
        ((++try))
        sleep "$pause"
        ;;
    esac
  done
}

# The digest in the headers of the last answer.
reported_digest() {
  local tag
  tag=$(header x-linked-etag)
  [[ -n $tag || -z $(header x-repo-commit) ]] || tag=$(header etag)
  tag=${tag#W/} tag=${tag#\"} tag=${tag%\"}
  if [[ $tag =~ ^[0-9a-f]{64}$ ]]; then
    printf 'sha256:%s' "$tag"
  elif [[ $tag =~ ^[0-9a-f]{40}$ ]]; then
    printf 'git:%s' "$tag"
  fi
}

# Address $2 as seen from address $1.
absolute() {
  case $2 in
    *://*) printf '%s' "$2" ;;
    /*) [[ $1 =~ ^[a-z]+://[^/]+ ]] && printf '%s%s' "${BASH_REMATCH[0]}" "$2" ;;
    *) printf '%s/%s' "${1%/*}" "$2" ;;
  esac
}

# What was fetched and checked before, so that a second run needs no network: lines of sha256sum.
is_recorded() {
  local line
  line=$(grep -E "^[0-9a-f]{64}  $1\$" "$directory/.fetched" 2>/dev/null) || return 1
  matches "$directory/$1" "sha256:${line%% *}"
}

record() {
  [[ -w $directory ]] || return 0
  { grep -vE "  $1\$" "$directory/.fetched" 2>/dev/null || true; } >"$scratch/fetched"
  printf '%s  %s\n' "$(digest "$directory/$1" sha256)" "$1" >>"$scratch/fetched"
  cp -- "$scratch/fetched" "$directory/.fetched.part"
  mv -f -- "$directory/.fetched.part" "$directory/.fetched"
}

fetch_learnt() {
  local name=$1 url=$base_url/$1 expected problem there=''
  is_recorded "$name" && printf '%s: is there already\n' "$name" && return
  [[ ! -f $directory/$name ]] || there=yes
  if ! learn_digest "$url"; then
    [[ -n $there ]] || die "$url: $problem"
    printf '%s: is there already, unchecked: %s\n' "$name" "$problem"
  elif [[ -z $expected && -n $there ]]; then
    printf '%s: is there already, unchecked: the server tells no digest\n' "$name"
  elif [[ -n $expected ]] && matches "$directory/$name" "$expected"; then
    printf '%s: is there already\n' "$name"
    record "$name"
  else
    [[ -n $expected ]] || printf '%s: cannot be checked: the server tells no digest\n' "$name"
    fetch_file "$url" "$name" "$expected"
    [[ -z $expected ]] || record "$name"
  fi
}

fetch_start "$@"
for name in config.json vocab.txt pytorch_model.bin; do fetch_learnt "$name"; done
printf 'TinyBERT is in %s\n' "$directory"
