# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as the guest of a vGPU: its NVIDIA devices, its driver, what nvidia-smi reports of the vGPU, and what is wrong with all that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from ..base import refusals
from ..base.errors import Problem, Trouble
from ..driver import plan as driver_plan, signing
from ..hardware.vgpu_types import framebuffer_of, short_name
from ..read.host import Driver, HostState
from ..read.inventory import Inventory
from ..system import nvidia_smi
from ..system.context import Context
from ..system.nvidia_smi import GuestGpu
from . import branches

_NOUVEAU = "Role guest keeps nouveau from loading and reboots, unless vgpu_reboot is never; by hand: blacklist it, rebuild the initramfs, reboot."


@dataclass
class Expected:
    """What the operator expects; None: anything. vgpu_type: as the host calls it. host_version: of the host's driver.

    builds: a module is built, for which headers must be there. signs: modules are signed.
    """

    vgpu_type: Optional[str] = None
    host_version: Optional[str] = None
    driver_version: Optional[str] = None
    builds: bool = False
    signs: bool = False


@dataclass
class Found:
    """What was read of the VM. gpus: of gpus(). silence: why nvidia-smi reports nothing, or None. headers: whether the kernel's are there."""

    inventory: Inventory
    state: HostState
    gpus: List[Dict[str, Any]]
    silence: Optional[str]
    headers: bool


def headers(ctx: Context, kernel: Optional[str]) -> bool:
    """Whether the running kernel's headers are there, which a module is built with."""
    return os.path.exists("%s/lib/modules/%s/build/Makefile" % (ctx.root, kernel))


def read(ctx: Context, inventory: Inventory, driver: Driver, timeout: float = 60) -> Dict[str, GuestGpu]:
    """What nvidia-smi reports of the GPUs, by address; nothing without a loaded driver."""
    if not driver.loaded or not inventory.gpus:
        return {}
    return {one.address: one for one in nvidia_smi.guest_gpus(ctx, timeout)[0]}


def gpus(ctx: Context, inventory: Inventory, reported: Mapping[str, GuestGpu]) -> List[Dict[str, Any]]:
    """The VM's NVIDIA GPUs, for a module's result."""
    found = []
    for gpu in inventory.gpus:
        seen = reported.get(gpu.address)
        folder = "/sys/bus/pci/devices/%s/" % gpu.address
        found.append(
            {
                "address": gpu.address,
                "device_id": gpu.device_id,
                "subsystem_id": ctx.sysfs.read_or(folder + "subsystem_device"),
                "driver": gpu.driver,
                "name": seen.name if seen else None,
                "type": short_name(seen.name) if seen and seen.name else None,
                "virtualization": seen.virtualization if seen else None,
                "framebuffer_mib": seen.framebuffer_mib if seen else None,
                "in_use_by": [holder.as_dict() for holder in inventory.open_files.of_gpu(gpu.minor)],
            }
        )
    return found


def problems(vm: Found, expected: Expected) -> List[Problem]:
    """All that is wrong."""
    driver = vm.state.driver
    found = []
    if not vm.inventory.gpus:
        found.append(
            Trouble(
                "this VM has no NVIDIA GPU, so no vGPU either",
                device="PCI bus",
                wanted="a vGPU (a display function of vendor 10de)",
                remedy="Attach a vGPU to the VM on its host, then start the VM again; 'lspci -d 10de:' shows it.",
                code="no_vgpu",
            )
        )
    found += driver_plan.not_a_guest(vm.inventory, driver)
    found += _driver(vm, expected)
    version = expected.driver_version or driver.on_disk or driver.loaded
    if expected.host_version and version:
        found += [one for one in [branches.trouble_of(expected.host_version, version)] if one]
    if driver.loaded and driver.flavour == "guest":
        found += _reported(vm, expected)
    return [Problem(one) for one in found]


def _driver(vm: Found, expected: Expected) -> List[Trouble]:
    state, driver = vm.state, vm.state.driver
    found = []
    if expected.builds and not vm.headers:
        found.append(
            Trouble(
                "the headers of the running kernel %s are not there" % state.kernel,
                device="/lib/modules/%s/build" % state.kernel,
                wanted="headers to build the module with",
                remedy="Install linux-headers-%s (Debian, Ubuntu) or kernel-devel-%s (RHEL). If there is none any more, update the kernel and reboot first."
                % (state.kernel, state.kernel),
                code="headers_missing",
            )
        )
    if state.secure_boot and not expected.signs:
        found.append(
            Trouble("Secure Boot is on: the kernel would not load the driver's module", device="firmware", remedy=signing.STEPS, code="secure_boot")
        )
    for gpu in vm.inventory.gpus:
        if gpu.driver == "nouveau":
            found.append(
                Trouble(
                    "nouveau drives it",
                    device=gpu.address,
                    wanted="the vGPU guest driver",
                    remedy=_NOUVEAU,
                    code="nouveau_in_use",
                )
            )
    if driver.nouveau_loaded and not any(one.code == "nouveau_in_use" for one in found):
        found.append(Trouble("the module nouveau is loaded", device="the kernel", wanted="the vGPU guest driver", remedy=_NOUVEAU, code="nouveau_in_use"))
    wrong = refusals.driver_trouble(driver) if driver.unfinished else None
    return found + ([wrong] if wrong else [])


def _reported(vm: Found, expected: Expected) -> List[Trouble]:
    """What the running driver reports of the vGPU, against what is expected."""
    if vm.silence:
        return [
            Trouble(
                vm.silence,
                device="nvidia-smi",
                wanted="an answer about the vGPU",
                remedy="Look at dmesg for NVRM lines: a guest driver of another branch than the host's does not come up.",
                code="smi_silent",
            )
        ]
    found = []
    for gpu in vm.gpus:
        if gpu["name"] is None:
            found.append(
                Trouble(
                    "the driver does not show it",
                    device=gpu["address"],
                    wanted="the vGPU in 'nvidia-smi -q'",
                    remedy="Look at dmesg for NVRM lines: a guest driver of another branch than the host's does not come up.",
                    code="not_shown",
                )
            )
            continue
        if expected.vgpu_type and gpu["type"] != short_name(expected.vgpu_type):
            found.append(
                Trouble(
                    "the vGPU is a %s" % gpu["name"],
                    device=gpu["address"],
                    wanted=expected.vgpu_type,
                    remedy="The VM has another vGPU than was meant: look at its definition on the host.",
                    code="wrong_type",
                )
            )
        mib = framebuffer_of(gpu["type"])
        if mib and gpu["framebuffer_mib"] is not None and not 0.9 * mib <= gpu["framebuffer_mib"] <= mib:
            found.append(
                Trouble(
                    "it has %d MiB of framebuffer" % gpu["framebuffer_mib"],
                    device=gpu["address"],
                    wanted="about %d MiB, as %s has" % (mib, gpu["type"]),
                    remedy="Look at dmesg for NVRM lines, then restart the VM.",
                    code="wrong_framebuffer",
                )
            )
    return found
