#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# The minimum for a run that changes nothing: a bash loop checks that each GPU has the expected vGPUs. Usage: check.sh TYPE PF=COUNT...
# shellcheck source=SCRIPTDIR/common.sh
. "${0%/*}/common.sh"
TYPE=$1
shift

for wish in "$@"; do
    vfs_of "${wish%=*}"
    found=0
    for vf in "${VFS[@]}"; do
        for one in "$vf"/????????-????-????-????-????????????; do
            is_there "$vf" "${one##*/}" || die "$one is not of the type $TYPE"
            found=$((found + 1))
        done
    done
    ((found == ${wish#*=})) || die "${wish%=*} has $found vGPUs (expected: ${wish#*=})"
done
