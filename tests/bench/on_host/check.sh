#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# The floor of a run that changes nothing: a bare look at each VF whether it holds what is wanted. Usage: check.sh TYPE PF=COUNT...
# shellcheck source=SCRIPTDIR/common.sh
. "${0%/*}/common.sh"
TYPE=$1
shift

for wish in "$@"; do
    vfs_of "${wish%=*}"
    found=0
    for vf in "${VFS[@]}"; do
        for one in "$vf"/????????-????-????-????-????????????; do
            is_there "$vf" "${one##*/}" || die "$one is no $TYPE"
            found=$((found + 1))
        done
    done
    ((found == ${wish#*=})) || die "${wish%=*} has $found vGPUs, ${wish#*=} are wanted"
done
