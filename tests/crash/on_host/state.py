# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Reads the parts of a host that must always be complete: vGPUs, VFs, drivers of GPUs, and files of the collection and of mdevctl."""

from __future__ import annotations

import glob
import os

FOLDERS = (
    *("/etc/vgpuctl", "/etc/mdevctl.d", "/etc/modprobe.d", "/etc/systemd/system", "/etc/default", "/etc/driverctl.d"),
    *("/usr/local/sbin", "/var/lib/vgpuctl"),
)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as handle:
        return handle.read()


def read() -> dict:
    """Return the state. vgpus: parent and type by UUID or VF. gpus: driver and number of VFs. files: content by path. left: orphaned temporary files."""
    out: dict = {"vgpus": {}, "gpus": {}, "files": {}, "left": []}
    for path in glob.glob("/sys/bus/mdev/devices/*"):
        name = _text(path + "/mdev_type/name").split()[-1]
        out["vgpus"][os.path.basename(path)] = [os.path.basename(os.path.dirname(os.path.realpath(path))), name]
    for path in glob.glob("/sys/bus/pci/devices/*"):
        if os.path.exists(path + "/nvidia/current_vgpu_type"):
            number = _text(path + "/nvidia/current_vgpu_type").strip()
            if number != "0":
                out["vgpus"][os.path.basename(path)] = [os.path.basename(path), number]
        if _text(path + "/vendor").strip() == "0x10de" and os.path.exists(path + "/sriov_numvfs"):
            driver = os.path.basename(os.path.realpath(path + "/driver")) if os.path.exists(path + "/driver") else ""
            out["gpus"][os.path.basename(path)] = [driver, int(_text(path + "/sriov_numvfs"))]
    for folder in FOLDERS:
        for base, _folders, names in os.walk(folder):
            for name in names:
                path = os.path.join(base, name)
                if name.startswith((".vgpu-", ".ansible_tmp")):
                    out["left"].append(path)
                elif os.path.isfile(path):
                    out["files"][path] = _text(path)
    return out
