#!/bin/sh
# Makes .venv ready for PROFILE and returns at once when it already is.
#
#   runtime   what lucid-node needs to run             (make demo)
#   dev       runtime, and what tests and checks need  (make test, make lint)
#   bench     runtime, and the programs it is compared with
#
# A stamp in .venv holds a digest of everything the result depends on. Missing Debian packages are installed if
# we are root; otherwise the one command to run is printed and nothing else happens. Without tor, runtime goes on.
set -eu
cd "$(dirname "$0")/.."
profile=${1:?usage: scripts/setup.sh runtime|dev|bench}
python=${PYTHON:-python3}
grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.1

say() { printf 'setup: %s\n' "$*" >&2; }

# Installs Debian packages, or says how to.
require() {
  [ $# -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "these Debian packages, or what your system calls them, are missing: $*"
    exit 1
  elif [ "$(id -u)" -ne 0 ]; then
    say "some system packages are missing. Run this, then try again:"
    printf '  sudo apt-get update && sudo apt-get install -y %s\n' "$*" >&2
    exit 1
  fi
  say "installing $*"
  apt-get update -qq -o DPkg::Lock::Timeout=120
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}

command -v "$python" >/dev/null || require python3 python3-venv
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  say "Python 3.11 or newer is needed, $python is $("$python" -V 2>&1). Name another one: make PYTHON=python3.12 …"
  exit 1
}
# Which Python it is: "3.11 /usr"; the same from inside a venv that was made with it.
describe='import sys; print("%d.%d" % sys.version_info[:2], sys.base_prefix)'
base=$("$python" -c "$describe")
version=${base%% *}

has_header() { printf '#include <%s>\n' "$1" | gcc -E - >/dev/null 2>&1; }
missing=
need() { missing="$missing $*"; }
"$python" -c 'import venv, ensurepip' 2>/dev/null || need "python$version-venv"
# libp2p, whose records present a node to others, brings extensions that are built from source.
command -v gcc >/dev/null || need gcc
has_header stdlib.h || need libc6-dev
has_header gmp.h || need libgmp-dev
[ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || need "python$version-dev"
# Debian has tor where only root looks.
has_tor() { PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v tor >/dev/null && command -v tor-gencert >/dev/null; }
case $profile in
  runtime)
    extra=
    if has_tor; then :
    elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then need tor
    else say "tor is missing, so nothing goes through Tor. If you want it to: sudo apt-get install -y tor"
    fi
    ;;
  dev)
    extra='[dev]'
    has_tor || need tor
    # The tests let other programs judge what we write: units, and terminal recordings.
    command -v systemd-analyze >/dev/null || need systemd
    command -v asciinema >/dev/null || need asciinema
    # What a node asks of the kernel is looked at from outside.
    command -v strace >/dev/null || need strace
    # grpcurl reaches an onion service through it.
    command -v socat >/dev/null || need socat
    # grpcurl, which calls our servers as others would, is built from its pinned source.
    command -v go >/dev/null || need golang-go
    ;;
  bench)
    extra=
    has_tor || need tor
    command -v restic >/dev/null || need restic
    command -v borg >/dev/null || need borgbackup
    command -v asciinema >/dev/null || need asciinema
    command -v script >/dev/null || need bsdutils
    ;;
  *) say "unknown profile: $profile"; exit 2 ;;
esac
# shellcheck disable=SC2086 # a list of words
require $missing

key="$base $(cat pyproject.toml constraints.txt scripts/setup.sh | sha256sum | cut -d' ' -f1)"
is_done() { [ "$(cat ".venv/setup-$1" 2>/dev/null)" = "$key" ]; }
if is_done dev || { [ -z "$extra" ] && is_done runtime; }; then exit 0; fi

# pip is the last thing that venv makes: without it somebody was interrupted.
if [ ! -x .venv/bin/pip ] || [ "$(.venv/bin/python -c "$describe" 2>/dev/null)" != "$base" ]; then
  say "making .venv with Python $version"
  "$python" -m venv --clear .venv
fi
say "installing the pinned Python packages"
pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@"; }
# Sources are built with the pinned setuptools, not with whatever is newest today.
pip install --constraint constraints.txt setuptools wheel
pip install --constraint constraints.txt --no-build-isolation --use-pep517 --editable ".$extra"
if [ -n "$extra" ]; then
  say "installing the pinned grpcurl"
  GOBIN=$PWD/.venv/bin go install "$grpcurl"
  printf '%s\n' "$key" >.venv/setup-dev
else
  printf '%s\n' "$key" >.venv/setup-runtime
fi
