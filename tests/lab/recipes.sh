# Shared by the build recipes: messages, the machine's own Debian mirror, packages of the machine.
# Sourced by bash, never run. The driver gives OUT (what to fill), WORK (scratch) and LAB (this directory).
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
: "${OUT:?}" "${WORK:?}" "${LAB:?}"

say() { printf '[%(%T)T] %s\n' -1 "$*"; }
# The driver shows the last line that begins with "lab: " as the reason of a failure.
die() { echo "lab: $*" >&2; exit 1; }

apt_target() { # URI of the first package index of codename $1 that apt on this machine uses
  apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk -v c="$1" '$2 == c { print $1; exit }'
}

find_mirror() { # sets MIRROR
  local id codename
  . /etc/os-release; id=${ID:-} codename=${VERSION_CODENAME:-}
  MIRROR=${ZFSYNC_LAB_MIRROR:-}
  [ -n "$MIRROR" ] && return
  [ "$id" = debian ] || die "this machine runs ${id:-an unknown system}, not Debian: set ZFSYNC_LAB_MIRROR to a Debian mirror's address"
  MIRROR=$(apt_target "$codename")
  [ -n "$MIRROR" ] || { apt-get -qq update || true; MIRROR=$(apt_target "$codename"); }
  [ -n "$MIRROR" ] || die "apt on this machine knows no mirror of $codename: see /etc/apt, or set ZFSYNC_LAB_MIRROR"
}

host_packages() { # installs what is missing of the named packages on this machine
  local p missing=()
  for p; do dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q ' installed$' || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return
  say "installing on this machine: ${missing[*]}"
  local install=(apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}")
  "${install[@]}" >/dev/null && return
  apt-get -qq -o APT::Update::Error-Mode=any update || die "this machine's apt cannot update its lists: see /etc/apt and the network"
  "${install[@]}" >/dev/null || die "apt cannot install ${missing[*]} on this machine: install it by hand and build again"
}

# An apt of our own for Debian trixie: its lists live in $WORK, the machine's apt is not touched.
SIGNED='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
trixie_apt() { # trixie_apt SUITE… : sets APT_OPTIONS and fetches the lists
  local suite dir=$WORK/apt
  mkdir -p "$dir"/{state/lists/partial,cache/archives/partial}
  for suite; do echo "deb $SIGNED $MIRROR $suite main contrib"; done > "$dir/sources"
  APT_OPTIONS=(-o Dir::State="$dir/state" -o Dir::Cache="$dir/cache" -o Dir::Etc::sourcelist="$dir/sources"
    -o Dir::Etc::sourceparts=- -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false
    -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any -o APT::Sandbox::User=root -qq)
  apt-get "${APT_OPTIONS[@]}" update ||
    die "the Debian mirror of this machine's apt does not answer for $*: check the network, or set ZFSYNC_LAB_MIRROR"
}

# mmdebstrap as all images here are made: no manuals, no translations, no recommended packages.
MMDEBSTRAP=(mmdebstrap --quiet --mode=root
  --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"'
  --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Install-Recommends "false"'
  --dpkgopt=force-unsafe-io
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*'
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*')

require_packages() { # after trixie_apt: every named package is on the mirror, or say which is not
  local p missing=()
  for p; do apt-cache "${APT_OPTIONS[@]}" show "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] || die "the Debian mirror has no package ${missing[*]}: take it out of the recipe, or use another mirror"
}
