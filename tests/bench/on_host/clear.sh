#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Back to a host without vGPUs and without anything that tells of any, so that the next run makes all of them anew.
set -euo pipefail
shopt -s nullglob
for one in /sys/bus/mdev/devices/*/remove; do
    printf 1 > "$one"
done
rm -rf /etc/mdevctl.d/[0-9a-f]* /etc/nvidia-vgpu
left=(/sys/bus/mdev/devices/*)
[[ ${#left[@]} == 0 ]]
