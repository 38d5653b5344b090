# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of NVIDIA's services and their clients: programs that keep the driver open, but are not a user's workload."""

from __future__ import annotations

SETUP = "nvidia-vgpud"
FABRIC = "nvidia-fabricmanager"  # its version must be the driver's, otherwise it does not start
# Services that keep the modules loaded and are stopped to unload them, in the order of their start.
UNITS = (SETUP, "nvidia-vgpu-mgr", "nvidia-gridd", "nvidia-persistenced", "nvidia-dcgm", "dcgm", FABRIC)
# The programs of these services.
STOPPED = (*UNITS, "nv-hostengine", "nv-fabricmanager")
# "vgpu" is nvidia-vgpu-mgr's process for a VM. The VM itself has its vGPU open through VFIO.
ALL = (
    *(*STOPPED, "vgpu", "nvidia-powerd", "nvidia-topologyd", "nvidia-imex", "nvlsm"),
    *("nvidia-smi", "dcgmi", "dcgm-exporter", "nvidia_gpu_exporter"),
)
