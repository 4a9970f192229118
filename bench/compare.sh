#!/usr/bin/env bash
# Ember and its peers by turns on the same inputs; `bench/compare.sh --help`.
exec python3 "$(dirname "$0")/comparison/main.py" "$@"
