# Read by tools/gpu_check.sh. make_bundle DIR builds what the check runs and gathers it for a machine that has a GPU but
# not the packages that Ember is built with:
#   manifest                   commit, date, architectures, and the glibc that it asks for
#   train tools bench tests    the programs, where a build folder has them too, but for the tests of CUDA's kernels
#   ptx/tests ptx/lib          these tests with compute_75 PTX for device code
#   lib                        the shared libraries that they need and that neither glibc nor the driver brings
#   data/sample
# and DIR.tar.xz, the same packed. libcublasLt is hundreds of megabytes, so it is the GPU machine's own.

not_bundled='^(linux-vdso|ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv)|libcuda|libnvidia.*|libcublas.*)\.so'

bundle_programs=(train/train tools/evaluate tools/predict bench/bench_kernels bench/bench_step bench/bench_texts
                 bench/bench_variants)

configure_bundle() { # FOLDER ARCHITECTURES OPTION...
  configure "$1" "$2" -DEMBER_MARCH=x86-64-v3 -DEMBER_CUDA_SHARED=ON -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
    -DCMAKE_INSTALL_RPATH='$ORIGIN/../lib;$ORIGIN/../../lib;/usr/local/cuda/lib64' \
    -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags -DCMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags "${@:3}"
}

# The shared libraries of a program, a path a line; of one that is not found, its name.
libraries_of() { ldd "$1" | sed -nE 's/^\s*(.*) => not found$/\1/p; s/^.* => (.*) \(0x[0-9a-f]+\)$/\1/p'; }

gather_libraries() { # FOLDER
  local folder=$1 program library
  for program in "$folder"/*/*; do
    if [ ! -f "$program" ] || [ ! -x "$program" ] || [ -L "$program" ]; then continue; fi
    while IFS= read -r library; do
      [[ ! ${library##*/} =~ $not_bundled ]] || continue
      [ -f "$library" ] || die "$program: needs $library, which is not here"
      [ -e "$folder/lib/${library##*/}" ] || cp -L "$library" "$folder/lib/" || return
    done < <(libraries_of "$program")
  done
}

# The newest version of glibc whose symbols are asked for.
glibc_needed() { # FOLDER
  find "$1" -type f -perm -100 -exec objdump -T {} + 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 |
    cut -d _ -f 2
}

fill_bundle() { # FOLDER
  local folder=$1 program
  rm -rf "$folder" && mkdir -p "$folder"/{train,tools,bench,tests,lib,ptx/tests,ptx/lib,data} || return
  for program in "${bundle_programs[@]}"; do cp "build-bundle/$program" "$folder/$program" || return; done
  # Most names of tests are links of one program.
  cp -P build-bundle/tests/cuda/gpu_*test* "$folder/tests/" &&
    cp -P build-bundle-ptx/tests/cuda/gpu_*test* "$folder/ptx/tests/" &&
    cp -R data/sample "$folder/data/" && cp build-bundle/kernels/cuda/libember_cuda.so "$folder/lib/" &&
    cp build-bundle-ptx/kernels/cuda/libember_cuda.so "$folder/ptx/lib/" || return
  gather_libraries "$folder" || return
  find "$folder" -type f \( -perm -100 -o -name '*.so*' \) -exec strip {} + || return
  printf '%s\n' "commit $(commit)" "date $(date -u +%F)" "architectures 75 90" "glibc $(glibc_needed "$folder")" \
    >"$folder/manifest" && tar -cJf "$folder.tar.xz" -C "$folder" .
}

make_bundle() { # FOLDER
  local folder=$1
  [ ! -e "$folder" ] || [ -e "$folder/manifest" ] || [ -z "$(ls -A "$folder")" ] ||
    die "--bundle $folder: it holds something else than a bundle; a new folder was expected"
  make_folder "$folder" "--bundle $folder"
  echo "building in build-bundle and build-bundle-ptx"
  configure_bundle build-bundle "75-real;90-real"
  compile build-bundle gpu_tests "${bundle_programs[@]##*/}"
  configure_bundle build-bundle-ptx 75-virtual -DEMBER_BENCH=OFF
  compile build-bundle-ptx gpu_tests
  fill_bundle "$folder" || die "--bundle $folder: it could not be written whole"
  echo "$folder: $(du -sm "$folder" | cut -f 1) MiB; $folder.tar.xz: $(du -m "$folder.tar.xz" | cut -f 1) MiB"
}
