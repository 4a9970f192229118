#!/usr/bin/env bash
# Downloads GoEmotions (Demszky et al. 2020), the simplified multi-label splits: train.tsv, dev.tsv, test.tsv and
# labels.txt.
# shellcheck disable=SC2034,SC2154
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=sources.sh
source "$here/sources.sh"
about='Downloads GoEmotions: train.tsv, dev.tsv, test.tsv and labels.txt, checked by sha256.'
default_directory=$(dirname -- "$here")/cache/goemotions
default_url=$goemotions_url
# shellcheck source=fetch.sh
source "$here/fetch.sh"

# fetch_checked REMOTE-NAME NAME SHA256
fetch_checked() {
  if matches "$directory/$2" "sha256:$3"; then
    printf '%s: is there already\n' "$2"
  else
    fetch_file "$base_url/$1" "$2" "sha256:$3"
  fi
}

fetch_start "$@"
fetch_checked emotions.txt labels.txt 45c3ef86782d2a4d7fedcd6d8c111aa0d0e94720689bd164fac94fefb4495a89
fetch_checked train.tsv train.tsv 1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5
fetch_checked dev.tsv dev.tsv 575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62
fetch_checked test.tsv test.tsv 0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4
printf 'GoEmotions is in %s\n' "$directory"
