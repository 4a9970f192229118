#!/bin/sh
# Installs Ember under a path with a space, builds examples/classify against the installation and nothing else, and
# runs it: install_test.sh SOURCE_DIR BUILD_DIR [more arguments for the example's cmake].
set -eu
source_dir=$1
build_dir=$2
shift 2
scratch=$(mktemp -d "${TMPDIR:-/tmp}/ember install XXXXXX")
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build_dir" --prefix "$scratch/the prefix" >"$scratch/install.log"
if grep -rl -e "$source_dir" -e "$build_dir" "$scratch/the prefix/lib/cmake" "$scratch/the prefix/include"; then
  echo "the files above name the source or the build folder" >&2
  exit 1
fi
# Installed, the programs find the toolkit's libraries where they found them in the build, and all others.
runpath() { readelf -d "$1" | sed -n 's/.*(RUNPATH).*\[\(.*\)\]/\1/p' | tr : '\n' | grep -v -e "^$build_dir" -e '^$'; }
if [ "$(runpath "$build_dir/train/train")" != "$(runpath "$scratch/the prefix/bin/train" | grep -v ORIGIN)" ] ||
  ldd "$scratch/the prefix/bin/train" | grep 'not found'; then
  readelf -d "$build_dir/train/train" "$scratch/the prefix/bin/train" | grep RUNPATH
  exit 1
fi
# A copy, so that the example cannot see the sources around it.
cp -r "$source_dir/examples/classify" "$scratch/example"
# The trainer links too, with the backends that it may choose.
cat >>"$scratch/example/CMakeLists.txt" <<'END'
add_executable(kernels kernels.cpp)
target_link_libraries(kernels PRIVATE ember::train)
END
cat >"$scratch/example/kernels.cpp" <<'END'
#include "train/options.h"

int main() {
  ember::TrainOptions options;
  options.device = "cpu";
  std::string note;
  return ember::make_kernels(options, note)->on_host() ? 0 : 1;
}
END
cmake -G Ninja -S "$scratch/example" -B "$scratch/example build" -DCMAKE_PREFIX_PATH="$scratch/the prefix" \
  -DCMAKE_BUILD_TYPE=Release "$@" >"$scratch/configure.log"
cmake --build "$scratch/example build" >"$scratch/build.log" || { cat "$scratch/build.log"; exit 1; }

"$scratch/example build/kernels"
python3 "$source_dir/tests/tools/tiny_model.py" "$scratch/the model"
expected='so happy
  joy 0.93
  love 0.31
  neutral 0.20'
actual=$("$scratch/example build/classify" "$scratch/the model" 'so happy')
if [ "$actual" != "$expected" ]; then
  printf 'expected:\n%s\nactual:\n%s\n' "$expected" "$actual" >&2
  exit 1
fi
"$scratch/the prefix/bin/predict" --model "$scratch/the model" 'so happy'

# Where a library that it stands on is missing, the package is not found, and who can do without it goes on.
mkdir "$scratch/without"
cat >"$scratch/without/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.22)
project(without CXX)
find_package(ember QUIET)
message(STATUS "found: '${ember_FOUND}', since ${ember_NOT_FOUND_MESSAGE}")
END
for case in NOTHING=:"'1'" CMAKE_DISABLE_FIND_PACKAGE_CLI11=ON:"'0', since .*CLI11" \
  EMBER_libzip__zip_LIBRARY=0:"'0', since zip"; do
  missing=${case%%:*}
  cmake -G Ninja -S "$scratch/without" -B "$scratch/without/$missing" -D"$missing" \
    -DCMAKE_PREFIX_PATH="$scratch/the prefix" "$@" >"$scratch/without.log" 2>&1 && grep -q "found: ${case#*:}" "$scratch/without.log" || {
    cat "$scratch/without.log" >&2
    exit 1
  }
done
