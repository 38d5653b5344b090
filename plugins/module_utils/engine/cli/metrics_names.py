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
    Metric(
        _HOST, "driver_info", ("loaded", "on_disk", "flavour"),
        "The host driver, with the loaded version, the version on disk, and the kind of driver as labels. The value is always 1.",
    ),
    Metric(_HOST, "scheduler_info", ("policy",), "The scheduler with which the driver was loaded for time-sliced vGPUs. The value is always 1."),
    Metric(
        _HOST, "service_active", ("service",),
        "Whether a service that vGPUs require is active. For nvidia-vgpud: whether the one-shot run of the service succeeded.",
    ),
    Metric(_HOST, "problems", ("code", "severity"), "Number of problems, by code and severity. 'vgpuctl doctor' shows what to do."),
    Metric(_HOST, "drift", ("code",), "Number of differences between the host and its expected state, by code. The value is 0 without differences."),
    Metric(_HOST, "reboot_pending", (), "Whether vGPUs require a reboot of the host."),
    Metric(
        _HOST, "next_boot_ready", (),
        "Whether the next boot is expected to restore the vGPUs: the next kernel has the driver, the services are enabled, and no file binds a GPU to "
        "another driver.",
    ),
    Metric(_HOST, "restore_timestamp_seconds", (), "Unix time of the last restore of vGPUs, at boot or manually."),
    Metric(_HOST, "restore_duration_seconds", (), "Duration of the last restore of vGPUs."),
    Metric(_HOST, "restore_failures", (), "Number of failed steps in the last restore."),
    Metric(_HOST, "restore_vgpus", (), "Number of stored vGPUs that existed after the last restore."),
    Metric(_HOST, "restore_vgpus_after_seconds", (), "Seconds from when the driver was ready until the last vGPU was restored."),
    Metric(
        _HOST, "fabric_manager_info", ("version", "mode", "active"),
        "Fabric Manager on a host with NVSwitches, with its version, its mode (2: vGPU), and the state of its service as labels. The value is always 1.",
    ),
    Metric(_HOST, "fabric_partitions", ("state",), "Number of NVLink fabric partitions: active partitions, and all partitions that the board supports."),
    Metric(
        _CARD, "gpu_info", ("gpu", "model", "driver", "framework"),
        "A GPU, with the model, kernel driver, and vGPU framework as labels. The value is always 1.",
    ),
    Metric(_CARD, "gpu_alive", _GPU, "Whether the GPU responds on the bus."),
    Metric(_CARD, "gpu_framebuffer_bytes", _GPU, "Framebuffer size of the GPU model."),
    Metric(_CARD, "gpu_framebuffer_assigned_bytes", _GPU, "Framebuffer that is assigned to the vGPUs of the GPU."),
    Metric(_CARD, "gpu_framebuffer_used_bytes", _GPU, "Used framebuffer of the GPU, as reported by the driver."),
    Metric(_CARD, "gpu_framebuffer_free_bytes", _GPU, "Free framebuffer of the GPU, as reported by the driver."),
    Metric(_CARD, "gpu_utilization_ratio", ("gpu", "engine"), "Share of time during which an engine of the GPU is busy (gpu: the compute cores)."),
    Metric(_CARD, "gpu_ecc_enabled", _GPU, "Whether the GPU corrects memory errors."),
    Metric(_CARD, "gpu_ecc_errors_total", ("gpu", "kind"), "Number of memory errors since the driver was loaded, by kind: correctable or uncorrectable."),
    Metric(_CARD, "gpu_throttled", ("gpu", "reason"), "Whether the GPU's clock is reduced for the reason in the label."),
    Metric(_CARD, "gpu_temperature_celsius", _GPU, "Temperature of the GPU."),
    Metric(_CARD, "gpu_power_watts", _GPU, "Current power draw of the GPU."),
    Metric(_CARD, "vfs", _GPU, "Number of enabled virtual functions."),
    Metric(_CARD, "vfs_supported", _GPU, "Number of virtual functions that the GPU supports."),
    Metric(_CARD, "vfs_used", _GPU, "Number of virtual functions that have a vGPU."),
    Metric(_CARD, "expected", _TYPE, "Number of vGPUs that are stored for this host and created at each boot."),
    Metric(_CARD, "present", _TYPE, "Number of existing vGPUs."),
    Metric(_CARD, "in_use", _TYPE, "Number of vGPUs that are in use by a process, such as a running VM."),
    Metric(
        _SLICE, "info", ("gpu", "vgpu", "parent", "type"),
        "An existing vGPU, identified by its UUID or, if vGPUs have no UUIDs, by its VF. The value is always 1.",
    ),
    Metric(
        _SLICE, "vm_info", ("gpu", "vgpu", "vm", "vm_uuid", "guest_driver"),
        "The VM that uses the vGPU, with the VM's name, UUID, and guest driver as labels. The value is always 1.",
    ),
    Metric(_SLICE, "framebuffer_bytes", _VGPU, "Framebuffer size of the vGPU."),
    Metric(_SLICE, "framebuffer_used_bytes", _VGPU, "Framebuffer of the vGPU that the VM uses."),
    Metric(_SLICE, "utilization_ratio", ("gpu", "vgpu", "engine"), "Share of time during which the vGPU uses an engine of the GPU (gpu: the compute cores)."),
    Metric(
        _SLICE, "licensed", _VGPU,
        "Whether the VM has a license, as reported by the host driver. No sample exists if the driver does not report the license state.",
    ),
    Metric(_SLICE, "license_expiry_timestamp_seconds", _VGPU, "Unix time at which the VM's license expires unless the VM renews the license."),
    Metric(_SLICE, "frame_rate_limit", _VGPU, "Maximum number of frames per second for the vGPU."),
    Metric(
        _SCRAPE, "scrape_success", ("query",),
        "Whether an nvidia-smi query succeeded (gpus: GPUs, vgpus: vGPUs of VMs). Metrics from other sources do not require nvidia-smi.",
    ),
    Metric(
        _SCRAPE, "scrape_error", ("query", "reason"),
        "Why an nvidia-smi query failed: missing, timeout, failed, unreadable, or contradiction. The value is always 1.",
    ),
    Metric(_SCRAPE, "scrape_query_duration_seconds", ("query",), "Run time of nvidia-smi for the query."),
    Metric(_SCRAPE, "scrape_duration_seconds", (), "Time that was required to read all metrics."),
    Metric(_SCRAPE, "metrics_timestamp_seconds", (), "Unix time at which the metrics were written. An old time means that the timer is not running."),
)
