# Read by tools/gpu_check.sh: where the programs of the check come from. Sets, for the parts to run,
#   programs      a folder with train/train, bench/bench_step and so on
#   native_tests  a folder with the tests of CUDA's kernels, compiled for the GPU at hand
#   ptx_tests     a folder with the same as compute_75 PTX
#   sample        data/sample
#   version       the commit that they were built from

commit() { git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown; }

# The first words of a build's log that sound like the reason, in one line.
reason_in() { # LOG
  { grep -m 1 -A 2 -iE '(error|fatal)\b' "$1" || tail -n 1 "$1"; } 2>/dev/null | tr -s '[:space:]' ' ' | cut -c 1-300
}

configure() { # FOLDER ARCHITECTURES OPTION...
  make_folder "$1" "$1"
  cmake -S . -B "$1" -G Ninja -DCMAKE_BUILD_TYPE=Release -DEMBER_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="$2" "${@:3}" \
    >"$1/gpu_check.log" 2>&1 || die "$1: cannot be configured: $(reason_in "$1/gpu_check.log")($1/gpu_check.log)"
}

compile() { # FOLDER TARGET...
  cmake --build "$1" -j "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" --target "${@:2}" \
    >>"$1/gpu_check.log" 2>&1 || die "$1: cannot be built: $(reason_in "$1/gpu_check.log")($1/gpu_check.log)"
}

# What the chosen parts need, in build-gpu and build-gpu-ptx, for the GPU at hand.
build_in_place() {
  local targets=() bench=OFF
  echo "building"
  if wanted tests || wanted sanitizer; then targets+=(gpu_tests); fi
  if wanted training || wanted peers; then targets+=(train evaluate); fi
  if wanted bench; then
    targets+=(bench_kernels bench_step bench_variants)
    bench=ON
  fi
  if [ "${#targets[@]}" -gt 0 ]; then
    configure build-gpu "$architecture-real" -DEMBER_BENCH=$bench
    compile build-gpu "${targets[@]}"
  fi
  if wanted ptx; then
    configure build-gpu-ptx 75-virtual -DEMBER_BENCH=OFF
    compile build-gpu-ptx gpu_tests
  fi
  programs=$PWD/build-gpu native_tests=$PWD/build-gpu/tests/cuda ptx_tests=$PWD/build-gpu-ptx/tests/cuda
  sample=$PWD/data/sample version=$(commit)
}

# The value of a line of a bundle's manifest.
manifest() { sed -n "s/^$1 //p" "$bundle/manifest"; }

# Code of an architecture runs on its own and on later minor ones: 75 on 7.5, 90 on 9.0.
has_code() {
  local built
  for built in $(manifest architectures); do
    [ "${built%?}" = "${architecture%?}" ] && [ "${built: -1}" -le "${architecture: -1}" ] && return
  done
  return 1
}

# libcublasLt is not in a bundle. Its programs look for it in /usr/local/cuda/lib64 and where the loader looks anyway;
# other places are PyTorch's wheels, whose own copy this then is, and the toolkit that nvcc belongs to.
find_cublaslt() {
  local name folder
  name=$(ldd "$bundle/train/train" 2>/dev/null | awk '/libcublasLt.*not found/ { print $1; exit }')
  [ -n "$name" ] || return 0
  while IFS= read -r folder; do
    [ -e "$folder/$name" ] || continue
    export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    echo "$name is taken from $folder"
    return
  done < <(
    python3 -c 'import glob, nvidia
for wheels in nvidia.__path__:
    print(*glob.glob(wheels + "/*/lib"), sep="\n")' 2>/dev/null
    nvcc=$(readlink -f "$(command -v nvcc)") && echo "${nvcc%/bin/nvcc}/lib64"
  )
}

# Why a program of the bundle does not start here; nothing if all do. 126 is what cannot be run at all, 127 the loader's
# word for what it does not find; whatever else a program says is the tests' matter.
does_not_start() {
  local program line status
  for program in "$bundle"/{train,tools,bench,tests,ptx/tests}/*; do
    line=$(timeout 60 "$program" --help 2>&1 >/dev/null | tail -n 1)
    status=$?
    if [ "$status" -eq 126 ] || [ "$status" -eq 127 ]; then
      echo "${program#"$bundle"/}: $line"
      return
    fi
  done
}

unpack_bundle() { # ARCHIVE
  bundle=$PWD/build-gpu/bundle
  rm -rf "$bundle"
  # tar needs xz, which a small image lacks; Python has its own.
  mkdir -p "$bundle" && { tar -xf "$1" -C "$bundle" || python3 -m tarfile -e "$1" "$bundle"; } 2>/dev/null ||
    die "--from $1: cannot be unpacked; a bundle's .tar.xz was expected"
}

# Whether the bundle is what the check runs.
use_bundle() {
  local why given=$bundle
  [ -d "$bundle" ] || unpack_bundle "$bundle"
  [ -f "$bundle/manifest" ] ||
    die "--from $given: has no manifest; a folder or archive that gpu_check.sh --bundle made was expected"
  if has_code; then
    find_cublaslt
    why=$(does_not_start)
  else
    why="it has code for $(manifest architectures | tr ' ' ','), the GPU is $architecture"
  fi
  if [ -n "$why" ]; then
    echo "gpu_check: the bundle cannot be used: $why; going on to build" >&2
    return 1
  fi
  programs=$bundle native_tests=$bundle/tests ptx_tests=$bundle/ptx/tests sample=$bundle/data/sample
  version=$(manifest commit)
  [ "$version" = "$(commit)" ] || echo "the bundle is of commit $version, this tree is $(commit)"
}
