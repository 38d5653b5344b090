#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Removes all vGPUs and everything that refers to them, so the next run creates all vGPUs again. Also removes vgpuctl and the restore unit,
# which a converged host has.
set -euo pipefail
shopt -s nullglob
for one in /sys/bus/mdev/devices/*/remove; do
    printf 1 > "$one"
done
rm -rf /etc/mdevctl.d/[0-9a-f]* /etc/vgpuctl
rm -rf /usr/local/sbin/vgpuctl /etc/systemd/system/vgpu-restore.service
# udev is busy for seconds after the removal of a hundred devices. Without this wait, udev would slow down the next measurement.
udevadm settle --timeout=120
left=(/sys/bus/mdev/devices/*)
[[ ${#left[@]} == 0 ]]
