#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
#
# Back to a host without vGPUs and without anything that tells of any, so that the next run makes all of them again; also without the
# command and the unit that a settled host has.
set -euo pipefail
shopt -s nullglob
for one in /sys/bus/mdev/devices/*/remove; do
    printf 1 > "$one"
done
rm -rf /etc/mdevctl.d/[0-9a-f]* /etc/vgpuctl
rm -rf /usr/local/sbin/vgpuctl /etc/systemd/system/vgpu-restore.service
# udev works on for seconds after a hundred devices went: what is measured next would share the processors with it.
udevadm settle --timeout=120
left=(/sys/bus/mdev/devices/*)
[[ ${#left[@]} == 0 ]]
