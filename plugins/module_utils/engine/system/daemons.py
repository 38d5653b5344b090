# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's services and their clients: programs that hold the driver, and are nobody's work. The one list of them."""

from __future__ import annotations

SETUP = "nvidia-vgpud"
FABRIC = "nvidia-fabricmanager"  # of one version with the driver: with another one it does not start
# Services that keep the modules loaded, and are stopped to unload them, in the order in which they start.
UNITS = (SETUP, "nvidia-vgpu-mgr", "nvidia-gridd", "nvidia-persistenced", "nvidia-dcgm", "dcgm", FABRIC)
# Their programs.
STOPPED = (*UNITS, "nv-hostengine", "nv-fabricmanager")
# "vgpu" is nvidia-vgpu-mgr's process for a VM, which has its vGPU open through VFIO itself.
ALL = (
    *(*STOPPED, "vgpu", "nvidia-powerd", "nvidia-topologyd", "nvidia-imex", "nvlsm"),
    *("nvidia-smi", "dcgmi", "dcgm-exporter", "nvidia_gpu_exporter"),
)
