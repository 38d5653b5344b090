# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names, labels and meanings of the metrics: an interface, on which dashboards and alerts are built."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "nvidia_vgpu_"


@dataclass(frozen=True)
class Metric:
    """A metric. name: without PREFIX; group: its part of the documentation."""

    group: str
    name: str
    labels: tuple[str, ...]
    text: str

    @property
    def kind(self) -> str:
        """Prometheus' type."""
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
        "Whether a service that vGPUs need is active (nvidia-vgpud: whether its one-shot went well).",
    ),
    Metric(_HOST, "problems", ("code", "severity"), "Problems, by code and severity; 'vgpuctl doctor' shows what to do."),
    Metric(_HOST, "drift", ("code",), "Differences between the host and what was set up on it, by code; 0 where there is none."),
    Metric(_HOST, "reboot_pending", (), "Whether vGPUs need a reboot of the host."),
    Metric(_HOST, "next_boot_ready", (), "Whether the next boot is expected to restore the vGPUs: the driver for its kernel, the services, no other driver."),
    Metric(_HOST, "restore_timestamp_seconds", (), "When vGPUs were last restored (at boot, or by hand)."),
    Metric(_HOST, "restore_duration_seconds", (), "How long that took."),
    Metric(_HOST, "restore_failures", (), "Steps of it that failed."),
    Metric(_HOST, "restore_vgpus", (), "Stored vGPUs that were there in the end."),
    Metric(_HOST, "restore_vgpus_after_seconds", (), "Seconds from the driver being ready to the last of them."),
    Metric(
        _HOST, "fabric_manager_info", ("version", "mode", "active"),
        "Fabric Manager of a host with NVSwitches, with its version, its mode (2: vGPU) and the state of its service as labels; 1.",
    ),
    Metric(_HOST, "fabric_partitions", ("state",), "Partitions of the NVLink fabric: active, and all that the board supports."),
    Metric(_CARD, "gpu_info", ("gpu", "model", "driver", "framework"), "A GPU, with its model, kernel driver and vGPU framework as labels; 1."),
    Metric(_CARD, "gpu_alive", _GPU, "Whether the GPU answers on the bus."),
    Metric(_CARD, "gpu_framebuffer_bytes", _GPU, "Framebuffer of the GPU as its model has it."),
    Metric(_CARD, "gpu_framebuffer_assigned_bytes", _GPU, "Framebuffer that the GPU's vGPUs have."),
    Metric(_CARD, "gpu_framebuffer_used_bytes", _GPU, "Framebuffer that is used, by the driver's count."),
    Metric(_CARD, "gpu_framebuffer_free_bytes", _GPU, "Framebuffer that is free, by the driver's count."),
    Metric(_CARD, "gpu_utilization_ratio", ("gpu", "engine"), "Share of time that an engine of the GPU is busy (gpu: its compute cores)."),
    Metric(_CARD, "gpu_ecc_enabled", _GPU, "Whether the GPU corrects memory errors."),
    Metric(_CARD, "gpu_ecc_errors_total", ("gpu", "kind"), "Memory errors since the driver was loaded: correctable or uncorrectable."),
    Metric(_CARD, "gpu_throttled", ("gpu", "reason"), "Whether the GPU's clock is held down for a reason."),
    Metric(_CARD, "gpu_temperature_celsius", _GPU, "Temperature of the GPU."),
    Metric(_CARD, "gpu_power_watts", _GPU, "Power that the GPU draws."),
    Metric(_CARD, "vfs", _GPU, "Virtual functions that are on."),
    Metric(_CARD, "vfs_supported", _GPU, "Virtual functions that the GPU has."),
    Metric(_CARD, "vfs_used", _GPU, "Virtual functions that hold a vGPU."),
    Metric(_CARD, "expected", _TYPE, "vGPUs that are stored for this host and created at each boot."),
    Metric(_CARD, "present", _TYPE, "vGPUs that there are."),
    Metric(_CARD, "in_use", _TYPE, "vGPUs that a process has open, such as a running VM."),
    Metric(_SLICE, "info", ("gpu", "vgpu", "parent", "type"), "A vGPU that there is, by its UUID, or its VF where vGPUs have no UUID; 1."),
    Metric(_SLICE, "vm_info", ("gpu", "vgpu", "vm", "vm_uuid", "guest_driver"), "The VM that uses the vGPU, and the driver in it; 1."),
    Metric(_SLICE, "framebuffer_bytes", _VGPU, "Framebuffer that the vGPU has."),
    Metric(_SLICE, "framebuffer_used_bytes", _VGPU, "Framebuffer that its VM uses."),
    Metric(_SLICE, "utilization_ratio", ("gpu", "vgpu", "engine"), "Share of the GPU's time that the vGPU has an engine busy (gpu: its compute cores)."),
    Metric(_SLICE, "licensed", _VGPU, "Whether the VM has its license, as the host's driver knows it; without a sample where it does not know."),
    Metric(_SLICE, "license_expiry_timestamp_seconds", _VGPU, "When the VM's license ends, unless it is renewed."),
    Metric(_SLICE, "frame_rate_limit", _VGPU, "Frames a second that the vGPU is limited to."),
    Metric(_SCRAPE, "scrape_success", ("query",), "Whether nvidia-smi answered about GPUs (gpus) or vGPUs of VMs (vgpus). All else is read without it."),
    Metric(_SCRAPE, "scrape_error", ("query", "reason"), "Why it did not: missing, timeout, failed, unreadable or contradiction; 1."),
    Metric(_SCRAPE, "scrape_query_duration_seconds", ("query",), "How long nvidia-smi took."),
    Metric(_SCRAPE, "scrape_duration_seconds", (), "How long it took to read all of this."),
    Metric(_SCRAPE, "metrics_timestamp_seconds", (), "When this was written: an old time is a timer that does not run."),
)
