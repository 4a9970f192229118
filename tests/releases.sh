#!/usr/bin/env bash
# Builds and tests the last commit on other releases of Debian and Ubuntu, with their compilers and libraries.
#   tests/releases.sh FOLDER RELEASE...     bookworm, trixie, jammy, noble or resolute
# Each has a root folder of its own, FOLDER/RELEASE, which debootstrap makes where it is not there yet. There
# tools/test.sh runs, and writes FOLDER/RELEASE.log. As root, with debootstrap and a network; 4 GB a release.
# The real data is looked for as tools/test.sh does. With EMBER_CUDA=ON in the environment the release's own CUDA
# toolkit is installed, 5 GB more, and Ember is tested with it: 12.4 in trixie and resolute; the others' are too old.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."

die() { echo "tests/releases.sh: $*" >&2; exit 2; }
[ "$#" -ge 2 ] || { sed -n '3s/^# *//p' "$0" >&2; exit 2; }
folder=$1
shift
for release; do
  [[ $release =~ ^(bookworm|trixie|jammy|noble|resolute)$ ]] ||
    die "$release: is no release; expected bookworm, trixie, jammy, noble or resolute"
done
cuda=${EMBER_CUDA:-OFF}
[[ $cuda =~ ^(ON|OFF)$ ]] || die "EMBER_CUDA is '$cuda'; ON or OFF was expected"
[ "$(id -u)" = 0 ] || die "root makes root folders; run it as root"
command -v debootstrap >/dev/null || die "debootstrap is missing"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
shared=$(realpath -m "${EMBER_SHARED:-../shared}")

make_root() { # RELEASE
  [ ! -e "$folder/$1.made" ] || return 0
  # A debootstrap that is older than a release lacks its name, but does the same for all of a distribution's.
  local like=sid from=(--components=main,contrib,non-free) mirror=
  case $1 in
    jammy | noble | resolute)
      like=gutsy from=(--components=main,universe,multiverse) mirror=http://archive.ubuntu.com/ubuntu
      # Debian has no package of Ubuntu's keys.
      if [ ! -e /usr/share/keyrings/ubuntu-archive-keyring.gpg ]; then
        echo "$1: Ubuntu's keys are not here, so nobody vouches for its first packages" >&2
        from+=(--no-check-gpg)
      fi
      ;;
  esac
  rm -rf "${folder:?}/debootstrap" "${folder:?}/$1"
  cp -r /usr/share/debootstrap "$folder/debootstrap"
  ln -sf "$like" "$folder/debootstrap/scripts/$1"
  DEBOOTSTRAP_DIR=$folder/debootstrap debootstrap --variant=minbase "${from[@]}" "$1" "$folder/$1" $mirror
  # Of Ubuntu 22.04 the compiler, for one, is usable as updated only.
  [ "$like" = sid ] || sed -i "p; s/ $1 / $1-updates /" "$folder/$1/etc/apt/sources.list"
  chroot "$folder/$1" sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -y upgrade"
  touch "$folder/$1.made"
}

test_in() { # RELEASE
  local root=$folder/$1
  make_root "$1"
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  [ "$cuda" = OFF ] || chroot "$root" sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends nvidia-cuda-toolkit nvidia-cuda-dev"
  rm -rf "$root/root/ember"
  git clone -q . "$root/root/ember"
  mkdir -p "$root/root/shared"
  # What is mounted goes with the process.
  unshare --mount --propagation private bash -euc '
    for system in proc sys dev; do mount --rbind "/$system" "$1/$system"; done
    [ ! -d "$2" ] || mount --bind "$2" "$1/root/shared"
    exec chroot "$1" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      EMBER_CUDA="$3" bash -c "cd /root/ember && tools/test.sh"' bash "$root" "$shared" "$cuda"
}

failed=0
for release; do
  set +e  # else it would go on after an error, as all that a condition calls does
  (set -e; test_in "$release") >"$folder/$release.log" 2>&1
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    echo "$release: passed"
  else
    echo "$release: failed, see $folder/$release.log" >&2
    failed=1
  fi
done
exit "$failed"
