#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# in-tree.sh TREE COMMAND...: run a command in the tree. mounts.sh describes the required privileges and namespaces.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=tests/twin/image/mounts.sh
. "$here/mounts.sh"
tree=$1
shift
mount_in "$tree"
exec chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
