# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# shellcheck shell=bash
# mount_in TREE: /proc and the devices that programs in a chroot need, for whoever sources this. Runs as root, real or of a user
# namespace, in mount and pid namespaces of its own (unshare --mount --pid --fork): the mounts go with the last process.
mount_in() {
    local node
    mount -t proc proc "$1/proc"
    mount -t tmpfs -o mode=755 tmpfs "$1/dev"
    for node in null zero full random urandom tty; do    # bound, because a user namespace cannot make device nodes
        touch "$1/dev/$node"
        mount --bind "/dev/$node" "$1/dev/$node"
    done
    ln -s /proc/self/fd "$1/dev/fd"
}
