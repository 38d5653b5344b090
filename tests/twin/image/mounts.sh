# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# shellcheck shell=bash
# mount_in TREE: mount /proc and the devices that programs in a chroot need. Scripts source this file. They run as root, either real root
# or root of a user namespace, in private mount and pid namespaces (unshare --mount --pid --fork), which remove the mounts at the end.
mount_in() {
    local node
    mount -t proc proc "$1/proc"
    mount -t tmpfs -o mode=755 tmpfs "$1/dev"
    for node in null zero full random urandom tty; do    # bind mounts, because a user namespace cannot create device nodes
        touch "$1/dev/$node"
        mount --bind "/dev/$node" "$1/dev/$node"
    done
    ln -s /proc/self/fd "$1/dev/fd"
}
