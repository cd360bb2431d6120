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
  need python3 python3-venv ca-certificates "$@"
fi

PYTHON=$(command -v python3.14 || command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
# Only when what is to be installed has changed.
if ! cmp -s pyproject.toml .venv/installed; then
  .venv/bin/python -m pip --quiet --disable-pip-version-check install --editable '.[dev]'
  cp pyproject.toml .venv/installed
fi
