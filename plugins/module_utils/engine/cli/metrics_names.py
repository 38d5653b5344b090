# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines the names, labels, and meanings of the metrics. Dashboards and alerts depend on the names and labels."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "nvidia_vgpu_"


@dataclass(frozen=True)
class Metric:
    """A metric of vgpuctl. *name* excludes PREFIX. *group* is the documentation section that lists the metric."""

    group: str
    name: str
    labels: tuple[str, ...]
    text: str

    @property
    def kind(self) -> str:
        """The Prometheus type of the metric."""
        return "counter" if self.name.endswith("_total") else "gauge"


_GPU = ("gpu",)
_VGPU = ("gpu", "vgpu")
_TYPE = ("gpu", "type")
_HOST, _CARD, _SLICE, _SCRAPE = "The host", "Each GPU", "Each vGPU", "The scrape"

METRICS = (
    Metric(_HOST, "driver_info", ("loaded", "on_disk", "flavour"), "The host driver, with the versions that are loaded and on disk as labels; 1."),
    Metric(_HOST, "scheduler_info", ("policy",), "The scheduler of time-sliced vGPUs that the driver was loaded with; 1."),
    Metric(
        _HOST, "service_active", ("service",),
        "Whether a service that vGPUs need is active (nvidia-vgpud: whether its one-shot run succeeded).",
    ),
    Metric(_HOST, "problems", ("code", "severity"), "Problems, by code and severity; 'vgpuctl doctor' shows what to do."),
    Metric(_HOST, "drift", ("code",), "Differences between the host and its setup, by code; 0 without differences."),
    Metric(_HOST, "reboot_pending", (), "Whether vGPUs need a reboot of the host."),
    Metric(_HOST, "next_boot_ready", (), "Whether the next boot is expected to restore the vGPUs: the driver for its kernel, the services, no other driver."),
    Metric(_HOST, "restore_timestamp_seconds", (), "When vGPUs were last restored (at boot, or manually)."),
    Metric(_HOST, "restore_duration_seconds", (), "How long that took."),
    Metric(_HOST, "restore_failures", (), "Failed steps of the last restore."),
    Metric(_HOST, "restore_vgpus", (), "Stored vGPUs that existed after the last restore."),
    Metric(_HOST, "restore_vgpus_after_seconds", (), "Seconds from the driver being ready to the last restored vGPU."),
    Metric(
        _HOST, "fabric_manager_info", ("version", "mode", "active"),
        "Fabric Manager of a host with NVSwitches, with its version, its mode (2: vGPU) and the state of its service as labels; 1.",
    ),
    Metric(_HOST, "fabric_partitions", ("state",), "Partitions of the NVLink fabric: active, and all that the board supports."),
    Metric(_CARD, "gpu_info", ("gpu", "model", "driver", "framework"), "A GPU, with its model, kernel driver and vGPU framework as labels; 1."),
    Metric(_CARD, "gpu_alive", _GPU, "Whether the GPU responds on the bus."),
    Metric(_CARD, "gpu_framebuffer_bytes", _GPU, "Framebuffer of the GPU's model."),
    Metric(_CARD, "gpu_framebuffer_assigned_bytes", _GPU, "Framebuffer that is assigned to the GPU's vGPUs."),
    Metric(_CARD, "gpu_framebuffer_used_bytes", _GPU, "Framebuffer in use, as the driver reports."),
    Metric(_CARD, "gpu_framebuffer_free_bytes", _GPU, "Free framebuffer, as the driver reports."),
    Metric(_CARD, "gpu_utilization_ratio", ("gpu", "engine"), "Share of time that an engine of the GPU is busy (gpu: its compute cores)."),
    Metric(_CARD, "gpu_ecc_enabled", _GPU, "Whether the GPU corrects memory errors."),
    Metric(_CARD, "gpu_ecc_errors_total", ("gpu", "kind"), "Memory errors since the driver was loaded: correctable or uncorrectable."),
    Metric(_CARD, "gpu_throttled", ("gpu", "reason"), "Whether the GPU's clock is reduced for a reason."),
    Metric(_CARD, "gpu_temperature_celsius", _GPU, "Temperature of the GPU."),
    Metric(_CARD, "gpu_power_watts", _GPU, "Power that the GPU draws."),
    Metric(_CARD, "vfs", _GPU, "Virtual functions that are enabled."),
    Metric(_CARD, "vfs_supported", _GPU, "Virtual functions that the GPU supports."),
    Metric(_CARD, "vfs_used", _GPU, "Virtual functions with a vGPU."),
    Metric(_CARD, "expected", _TYPE, "vGPUs that are stored for this host and created at each boot."),
    Metric(_CARD, "present", _TYPE, "vGPUs that exist."),
    Metric(_CARD, "in_use", _TYPE, "vGPUs that a process has open, such as a running VM."),
    Metric(_SLICE, "info", ("gpu", "vgpu", "parent", "type"), "An existing vGPU, by its UUID, or by its VF if vGPUs have no UUID; 1."),
    Metric(_SLICE, "vm_info", ("gpu", "vgpu", "vm", "vm_uuid", "guest_driver"), "The VM that uses the vGPU, and the VM's driver; 1."),
    Metric(_SLICE, "framebuffer_bytes", _VGPU, "Framebuffer of the vGPU."),
    Metric(_SLICE, "framebuffer_used_bytes", _VGPU, "Framebuffer that its VM uses."),
    Metric(_SLICE, "utilization_ratio", ("gpu", "vgpu", "engine"), "Share of time in which the vGPU keeps an engine busy (gpu: the compute cores)."),
    Metric(_SLICE, "licensed", _VGPU, "Whether the VM has its license, as the host's driver reports; no sample if the driver does not know."),
    Metric(_SLICE, "license_expiry_timestamp_seconds", _VGPU, "When the VM's license expires unless it is renewed."),
    Metric(_SLICE, "frame_rate_limit", _VGPU, "Frames a second that the vGPU is limited to."),
    Metric(_SCRAPE, "scrape_success", ("query",), "Whether nvidia-smi answered (gpus: GPUs, vgpus: vGPUs of VMs). Other metrics do not need it."),
    Metric(_SCRAPE, "scrape_error", ("query", "reason"), "Why nvidia-smi gave no answer: missing, timeout, failed, unreadable or contradiction; 1."),
    Metric(_SCRAPE, "scrape_query_duration_seconds", ("query",), "Run time of nvidia-smi."),
    Metric(_SCRAPE, "scrape_duration_seconds", (), "Time that the reading of all metrics took."),
    Metric(_SCRAPE, "metrics_timestamp_seconds", (), "When the metrics were written: an old time means that the timer does not run."),
)
