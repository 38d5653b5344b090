#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# The minimum for a run that creates vGPUs: a bash loop over sysfs creates each vGPU and checks it once. With DEFINE=1, the script also writes
# the module's other files (a definition for mdevctl per vGPU and a list of vGPUs), syncs these files, and checks that mdevctl lists all vGPUs.
# With SETTLE=N, the script repeats the check of all vGPUs for N seconds, as the module does.
# Usage: [DEFINE=1] [SETTLE=2] create.sh TYPE PF=COUNT...
# shellcheck source=SCRIPTDIR/common.sh
. "${0%/*}/common.sh"
TYPE=$1
shift
made=()

for wish in "$@"; do
    vfs_of "${wish%=*}"
    type_folder=""
    for folder in "${VFS[0]}"/mdev_supported_types/*; do
        read -r name < "$folder/name"
        [[ ${name#NVIDIA } == "$TYPE" ]] && type_folder=${folder##*/}
    done
    [[ -n $type_folder ]] || die "${wish%=*} does not offer the type $TYPE"
    for ((number = 0; number < ${wish#*=}; number++)); do
        vf=${VFS[number]}
        read -r uuid < /proc/sys/kernel/random/uuid
        printf '%s' "$uuid" > "$vf/mdev_supported_types/$type_folder/create"
        is_there "$vf" "$uuid" || die "$uuid does not exist"
        made+=("$vf $uuid $type_folder")
    done
done

if [[ ${DEFINE:-0} == 1 ]]; then
    folders=()
    for one in "${made[@]}"; do
        read -r vf uuid type_folder <<< "$one"
        while IFS='=' read -r key address; do
            [[ $key == PCI_SLOT_NAME ]] && break
        done < "$vf/uevent"
        folders+=("/etc/mdevctl.d/$address")
    done
    mkdir -p "${folders[@]}" /etc/vgpuctl
    for ((number = 0; number < ${#made[@]}; number++)); do
        read -r vf uuid type_folder <<< "${made[number]}"
        printf '{\n  "mdev_type": "%s",\n  "start": "manual",\n  "attrs": []\n}\n' "$type_folder" > "${folders[number]}/$uuid"
    done
    printf '%s\n' "${made[@]}" > /etc/vgpuctl/list
    sync -f /etc
    seen=$(mdevctl list --defined)
    for one in "${made[@]}"; do
        read -r vf uuid type_folder <<< "$one"
        [[ $seen == *"$uuid"* ]] || die "mdevctl does not list $uuid"
    done
fi

if [[ ${SETTLE:-0} != 0 ]]; then
    end=$((${EPOCHREALTIME//[^0-9]/} + SETTLE * 1000000))
    while ((${EPOCHREALTIME//[^0-9]/} < end)); do
        for one in "${made[@]}"; do
            read -r vf uuid type_folder <<< "$one"
            is_there "$vf" "$uuid" || die "$uuid vanished"
        done
        sleep 0.5
    done
fi
