#!/usr/bin/env bash
# Makes the folder in which tests/test_blender_window.py finds a Blender with a window: Debian 13 with Blender 4.3
# and a virtual screen, 1.8 GB, some minutes. Needs root and Debian's debootstrap. Running it again changes nothing.
#     tests/window/setup.sh [FOLDER]         FOLDER: default /var/lib/pullback-blender
set -euo pipefail
folder=${1:-/var/lib/pullback-blender}
mirror=${PULLBACK_DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages="blender python3-numpy xvfb xdotool xauth libgl1-mesa-dri imagemagick fonts-dejavu-core"

[ "$(id -u)" = 0 ] || { echo "setup.sh needs root: it unpacks a Debian system"; exit 1; }
command -v debootstrap >/dev/null || apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends debootstrap
if [ ! -e "$folder/.ready" ]; then
  [ -e "$folder/etc/debian_version" ] || debootstrap --variant=minbase trixie "$folder" "$mirror"
  # A private mount namespace: what is mounted here is gone when the command ends, whatever happens.
  unshare -m --propagation private bash -euc "
    mount -t proc proc '$folder/proc'
    mount --rbind /dev '$folder/dev'
    cp /etc/resolv.conf '$folder/etc/resolv.conf'
    export DEBIAN_FRONTEND=noninteractive
    chroot '$folder' apt-get update -q
    chroot '$folder' apt-get install -y -q --no-install-recommends $packages
    chroot '$folder' apt-get clean
  "
  touch "$folder/.ready"
fi
chroot "$folder" blender --version | head -n 1
echo "now: PULLBACK_BLENDER_WINDOW=$folder python -m pytest tests/test_blender_window.py"
