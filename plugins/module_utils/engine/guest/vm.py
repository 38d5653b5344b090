# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the state of a VM that has a vGPU (NVIDIA devices, driver, and nvidia-smi output), and finds problems in the VM."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Iterator

from ..base import refusals
from ..base.errors import Problem, Refusal
from ..driver import plan as driver_plan, signing
from ..hardware import guest_types
from ..hardware.gpu import Gpu
from ..hardware.vgpu_types import framebuffer_of, gpu_word, short_name
from ..read import host, inventory, platform
from ..read.host import HostState
from ..read.inventory import Inventory
from ..system import nvidia_smi
from ..system.context import Context
from ..system.nvidia_smi import GuestGpu
from . import branches

_NOUVEAU = (
    "Run the guest role, which blacklists nouveau and reboots the VM unless vgpu_reboot is never. "
    "Alternatively, blacklist nouveau, rebuild the initramfs, and reboot."
)
_OTHER_VGPU = "On the host, attach a vGPU of the expected type to the VM."
_NVRM = "Find the cause in the NVRM lines in dmesg. For example, a guest driver from an incompatible branch does not start."


@dataclass(eq=False, repr=False)
class Expected:
    """The VM state that the user expects. None matches any value.

    Attributes:
        vgpu_type: The name of the vGPU type on the host.
        host_version: The host driver version.
        driver_version: The guest driver version.
        builds: Whether the installation builds kernel modules, which requires headers for the running kernel.
        signs: Whether the driver's kernel modules are signed.
    """

    vgpu_type: str | None = None
    host_version: str | None = None
    driver_version: str | None = None
    builds: bool = False
    signs: bool = False


@dataclass(eq=False, repr=False)
class Found:
    """The current state of the VM.

    Attributes:
        gpus: The NVIDIA GPUs in the VM, as dictionaries for the module result.
        silence: The reason why nvidia-smi does not report the GPUs, or None.
        headers: Whether headers for the running kernel are installed.
        container: The container type if the engine runs in a container instead of a VM, or None.
    """

    inventory: Inventory
    state: HostState
    gpus: list[dict[str, Any]]
    silence: str | None
    headers: bool
    container: str | None


def read(ctx: Context, timeout: float = 60) -> Found:
    """Returns the current state of the VM. The function runs nvidia-smi only if a driver is loaded and the VM has an NVIDIA GPU."""
    found = inventory.read(ctx, with_types=False)
    state = host.read(ctx, timeout)
    reported = {one.address: one for one in nvidia_smi.guest_gpus(ctx, timeout)[0]} if state.driver.loaded and found.gpus else {}
    silence = nvidia_smi.silence(ctx) if state.driver.loaded and not reported else None
    headers = os.path.exists("%s/lib/modules/%s/build/Makefile" % (ctx.root, state.kernel))
    gpus = [_gpu(ctx, found, gpu, reported.get(gpu.address)) for gpu in found.gpus]
    return Found(found, state, gpus, silence, headers=headers, container=platform.container(ctx))


def _gpu(ctx: Context, found: Inventory, gpu: Gpu, seen: GuestGpu | None) -> dict[str, Any]:
    """Returns a GPU as a dictionary for the module result.

    The vGPU type comes from the driver or, before the driver is installed, from the vGPU's PCI IDs.
    """
    name, virtualization = (seen.name, seen.virtualization) if seen else (None, None)
    passthrough = virtualization.lower().startswith("pass") if virtualization else None
    by_ids = None if passthrough else guest_types.type_of(gpu.device_id, gpu.subsystem_id)
    return {
        "address": gpu.address,
        "device_id": gpu.device_id,
        "subsystem_id": gpu.subsystem_id or None,
        "driver": gpu.driver,
        "name": name,
        "type": short_name(name) if name and gpu_word(name) and not passthrough else short_name(by_ids) if by_ids else None,
        "virtualization": virtualization,
        "passthrough": passthrough,
        "framebuffer_mib": seen.framebuffer_mib if seen else None,
        "fabric": vars(seen.fabric) if seen and any(vars(seen.fabric).values()) else None,
        "in_use_by": [holder.as_dict() for holder in found.jobs_on(gpu)],
    }


def problems(vm: Found, expected: Expected) -> list[Problem]:
    """Returns all errors and warnings about the VM."""
    return [Problem(one) for one in _errors(vm, expected)] + [Problem(one, "warning") for one in _warnings(vm, expected)]


def _errors(vm: Found, expected: Expected) -> Iterator[Refusal]:
    driver = vm.state.driver
    if vm.container:
        yield Refusal(
            "the system is a container (%s)" % vm.container, device="this system", expected="a VM with a vGPU",
            remedy="Add the VM itself to the inventory, because the VM's kernel loads the driver and the VM's nvidia-gridd service gets the license.",
            code="not_a_guest")
        return  # inside a container, the kernel and sysfs expose the state of the container host
    if not vm.inventory.gpus:
        yield Refusal(
            "this VM has no NVIDIA GPU and therefore no vGPU", device="PCI bus", expected="a vGPU, which is a display device of PCI vendor 10de",
            remedy="Attach a vGPU to the VM on the host, then start the VM again. To check for the vGPU, run 'lspci -d 10de:' in the VM.", code="no_vgpu")
    for gpu in vm.gpus:
        if gpu["passthrough"]:
            yield Refusal(
                "the device is a whole GPU (%s) that is passed through to the VM" % gpu["name"], device=gpu["address"],
                expected=expected.vgpu_type or "a vGPU", code="passed_through",
                remedy="To use a vGPU, detach the GPU from the VM and attach a vGPU on the host. A VM with a whole GPU does not need the guest role.")
    yield from driver_plan.not_a_guest(vm.inventory, driver)
    yield from _driver(vm, expected)
    differs = branches.error_of(*_versions(vm, expected)) if all(_versions(vm, expected)) else None
    if differs:
        yield differs
    if driver.loaded and driver.flavour == "guest":
        yield from _reported(vm, expected)


def _versions(vm: Found, expected: Expected) -> tuple[str, str]:
    """Returns the versions of the host driver and the guest driver. An unknown version is an empty string."""
    return expected.host_version or "", expected.driver_version or vm.state.driver.on_disk or vm.state.driver.loaded or ""


def _driver(vm: Found, expected: Expected) -> Iterator[Refusal]:
    state, driver = vm.state, vm.state.driver
    if expected.builds and not vm.headers:
        yield Refusal(
            "the headers for the running kernel %s are missing" % state.kernel,
            device="/lib/modules/%s/build" % state.kernel, expected="the kernel headers, which are required to build the driver's module",
            remedy="Install linux-headers-%s (Debian and Ubuntu) or kernel-devel-%s (RHEL). "
            "If this package is no longer available, update the kernel and reboot first." % (state.kernel, state.kernel), code="headers_missing")
    if state.secure_boot and not expected.signs:
        yield Refusal(
            "Secure Boot is enabled, so the kernel would not load the driver's unsigned module",
            device="firmware", remedy=signing.STEPS, code="secure_boot")
    taken = [gpu.address for gpu in vm.inventory.gpus if gpu.driver == "nouveau"]
    for address in taken:
        yield Refusal("the GPU is bound to nouveau", device=address, expected="the vGPU guest driver", remedy=_NOUVEAU, code="nouveau_in_use")
    if driver.nouveau_loaded and not taken:
        yield Refusal("the nouveau module is loaded", device="the kernel", expected="the vGPU guest driver", remedy=_NOUVEAU, code="nouveau_in_use")
    wrong = refusals.driver_error(driver) if driver.unfinished else None
    if wrong:
        yield wrong


def _reported(vm: Found, expected: Expected) -> Iterator[Refusal]:
    """Yields errors for vGPUs that nvidia-smi does not report, or reports with an unexpected type or framebuffer size."""
    if vm.silence:
        yield Refusal(vm.silence, device="nvidia-smi", expected="output that describes the vGPU", remedy=_NVRM, code="smi_silent")
        return
    for gpu in [gpu for gpu in vm.gpus if not gpu["passthrough"]]:
        if gpu["name"] is None:
            yield Refusal(
                "nvidia-smi does not report the vGPU",
                device=gpu["address"], expected="the vGPU in the output of 'nvidia-smi -q'", remedy=_NVRM, code="not_shown")
            continue
        if not _is_expected(gpu["type"], expected):
            yield Refusal("the type of the vGPU is %s" % gpu["name"], gpu["address"], expected.vgpu_type, _OTHER_VGPU, "wrong_type")
        mib = framebuffer_of(gpu["type"] or "")
        if mib and gpu["framebuffer_mib"] is not None and not 0.9 * mib <= gpu["framebuffer_mib"] <= mib:
            yield Refusal(
                "the vGPU has %d MiB of framebuffer" % gpu["framebuffer_mib"],
                device=gpu["address"], expected="about %d MiB, the framebuffer size of %s" % (mib, gpu["type"]),
                remedy="Restart the VM. If the size is still wrong, find the cause in the NVRM lines in dmesg.", code="wrong_framebuffer")


def _is_expected(vgpu_type: str | None, expected: Expected) -> bool:
    """Returns whether a vGPU has the expected type. If no type is expected, every type matches.

    A type without a known series, such as A40-24, matches expected types of any series, such as A40-24Q.
    """
    word, found = short_name(expected.vgpu_type or ""), vgpu_type or ""
    return not word or (word == found if gpu_word(found) or not found else word.startswith(found))


def _warnings(vm: Found, expected: Expected) -> Iterator[Refusal]:
    """Yields warnings based on this collection's tables: a wrong vGPU type before a driver is installed, and incompatible branches."""
    differs = branches.warning_of(*_versions(vm, expected))
    if differs and not vm.container:
        yield differs
    for gpu in vm.gpus:
        if not vm.container and gpu["name"] is None and gpu["type"] and not _is_expected(gpu["type"], expected):
            found = "according to the PCI IDs, the type of the vGPU is %s" % gpu["type"]
            yield Refusal(found, gpu["address"], expected.vgpu_type, _OTHER_VGPU, "wrong_type")
