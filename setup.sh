# Sourced by ./test and ./demo: what a bare Debian needs, and a virtual environment in .venv with zfsync in it.
# Elsewhere than on Debian as root, python3 >= 3.11 with venv, and OpenSSH's sshd, have to be there already.

need() { # PACKAGE... - install those that are missing
  local missing=() package
  for package in "$@"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends \
    "${missing[@]}" >/dev/null
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  need python3 python3-venv ca-certificates mount iproute2 "$@"
fi

if [ ! -x .venv/bin/python ]; then
  # By trying: a name on the PATH may be a shim that leads nowhere, or a python without venv.
  for python in python3 python3.14 python3.13 python3.12 python3.11 none; do
    "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
  done
  [ "$python" != none ] || { echo "there is no python3 >= 3.11 with venv here: install one" >&2; exit 1; }
  "$python" -m venv .venv
fi
# Only when what is to be installed has changed.
if ! cmp -s pyproject.toml .venv/installed; then
  .venv/bin/python -m pip --quiet --disable-pip-version-check install --editable '.[dev]'
  cp pyproject.toml .venv/installed
fi
