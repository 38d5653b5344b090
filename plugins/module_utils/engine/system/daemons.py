# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists NVIDIA's services and their clients: programs that keep the driver open, but are not a user's workload."""

from __future__ import annotations

SETUP = "nvidia-vgpud"
FABRIC = "nvidia-fabricmanager"  # Fabric Manager starts only if its version is the driver's
# Services that keep the modules loaded, in the order of their start. They are stopped before the modules are unloaded.
UNITS = (SETUP, "nvidia-vgpu-mgr", "nvidia-gridd", "nvidia-persistenced", "nvidia-dcgm", "dcgm", FABRIC)
# The programs of the services in UNITS.
STOPPED = (*UNITS, "nv-hostengine", "nv-fabricmanager")
# "vgpu" is the process of nvidia-vgpu-mgr for a VM. The VM itself opens its vGPU through VFIO.
ALL = (
    *(*STOPPED, "vgpu", "nvidia-powerd", "nvidia-topologyd", "nvidia-imex", "nvlsm"),
    *("nvidia-smi", "dcgmi", "dcgm-exporter", "nvidia_gpu_exporter"),
)
