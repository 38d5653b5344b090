# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Functions for the bare loops, which start no process per device. Arguments of a script: TYPE PF=COUNT..., such as A40-3Q 0000:67:00.0=16.
set -euo pipefail
shopt -s nullglob
# ROOT: root directory of a host that is a tree of files. Empty for this machine.
DEVICES=${ROOT:-}/sys/bus/pci/devices
MDEVS=${ROOT:-}/sys/bus/mdev/devices

die() { printf '%s\n' "$*" >&2; exit 1; }

# Set VFS to the VFs of the GPU $1, in the kernel's order.
vfs_of() {
    local number
    VFS=()
    for ((number = 0; ; number++)); do
        [[ -e $DEVICES/$1/virtfn$number ]] || break
        VFS+=("$DEVICES/$1/virtfn$number")
    done
    ((number)) || die "$1 has no VFs"
}

# Return whether the VF with the directory $1 has a vGPU $2 of the type $TYPE.
is_there() {
    local name
    [[ -e $MDEVS/$2 && -d $1/$2 ]] && read -r name < "$1/$2/mdev_type/name" && [[ ${name#NVIDIA } == "$TYPE" ]]
}
