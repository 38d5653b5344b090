# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists NVIDIA services and client programs that keep the driver open, but are not user workloads."""

from __future__ import annotations

SETUP = "nvidia-vgpud"
FABRIC = "nvidia-fabricmanager"  # Fabric Manager only starts if its version matches the driver version
# Services that keep the modules loaded, in start order. The engine stops these services before it unloads the modules.
UNITS = (SETUP, "nvidia-vgpu-mgr", "nvidia-gridd", "nvidia-persistenced", "nvidia-dcgm", "dcgm", FABRIC)
# The programs that the services in UNITS run.
STOPPED = (*UNITS, "nv-hostengine", "nv-fabricmanager")
# "vgpu" is nvidia-vgpu-mgr's process for a VM. The VM itself opens the vGPU through VFIO.
ALL = (
    *(*STOPPED, "vgpu", "nvidia-powerd", "nvidia-topologyd", "nvidia-imex", "nvlsm"),
    *("nvidia-smi", "dcgmi", "dcgm-exporter", "nvidia_gpu_exporter"),
)
