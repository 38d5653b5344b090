#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# install-driver.sh TREE BUNDLE.zip KVER: run the bundle's host installer in the tree, without loading the module.
# mounts.sh describes the required privileges and namespaces.
set -euo pipefail
tree=$1 bundle=$2 kver=$3
in_tree() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
mkdir -p "$tree/root/bundle"
python3 -m zipfile -e "$bundle" "$tree/root/bundle"
installer=$(cd "$tree" && find root/bundle -path '*Host_Drivers*' -name '*-vgpu-kvm.run')
# shellcheck source=tests/twin/image/mounts.sh
. "$(dirname "$(readlink -f "$0")")/mounts.sh"
mount_in "$tree"
mount -t tmpfs tmpfs "$tree/tmp"
# the blacklist prevents nouveau from being loaded in the quick tier
printf 'blacklist nouveau\noptions nouveau modeset=0\n' > "$tree/etc/modprobe.d/blacklist-nouveau.conf"
if ! in_tree sh "/$installer" -s --no-dkms --skip-module-load --kernel-name="$kver" --no-nouveau-check; then
    tail -n 30 "$tree/var/log/nvidia-installer.log" >&2 || :
    exit 1
fi
in_tree depmod "$kver"
in_tree modinfo -k "$kver" -F version nvidia
umount "$tree/tmp"
rm -rf "$tree/root/bundle"
