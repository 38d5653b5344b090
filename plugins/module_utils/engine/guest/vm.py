# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as the guest of a vGPU: its NVIDIA devices, its driver, what the driver says of the vGPU, and what is wrong with all that."""

from __future__ import annotations

import os

from ..base import refusals
from ..base.errors import Problem, Trouble
from ..driver import plan as driver_plan, signing
from ..hardware import address
from ..hardware.vgpu_types import framebuffer_of, short_name
from ..system import nvidia_smi
from . import branches, license as licensing


_NOUVEAU = "Role guest keeps nouveau from loading and reboots, unless vgpu_reboot is never; by hand: blacklist it, rebuild the initramfs, reboot."


class Expected:
    """What the operator says that there should be; None: nothing. vgpu_type: as the host calls it. host_version: of the host's driver."""

    def __init__(self, vgpu_type=None, host_version=None, driver_version=None, builds=False, signs=False):
        self.vgpu_type = vgpu_type
        self.host_version = host_version
        self.driver_version = driver_version
        self.builds = builds
        self.signs = signs


def headers(ctx, kernel):
    """Whether the running kernel's headers are there, which a module is built with."""
    return os.path.exists("%s/lib/modules/%s/build/Makefile" % (ctx.root, kernel))


def ask(ctx, inventory, driver, timeout=60):
    """What nvidia-smi says of the GPUs, by address; nothing without a loaded driver."""
    if not driver.loaded or not inventory.gpus:
        return {}
    answer = nvidia_smi.call(ctx, ["-q"], timeout)
    return {address.parse(one.address): one for one in licensing.parse(answer.out) if address.is_address(one.address)} if answer.rc == 0 else {}


def gpus(ctx, inventory, told):
    """The VM's NVIDIA GPUs, for a module's result."""
    found = []
    for gpu in inventory.gpus:
        seen = told.get(gpu.address)
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


def problems(inventory, state, seen, silence, has_headers, expected):
    """All that is wrong. seen: of gpus(). silence: why nvidia-smi said nothing, or None."""
    found = []
    if not inventory.gpus:
        found.append(
            Trouble(
                "this VM has no NVIDIA GPU, so no vGPU either",
                device="PCI bus",
                wanted="a vGPU (a display function of vendor 10de)",
                remedy="Attach a vGPU to the VM on its host, then start the VM again; 'lspci -d 10de:' shows it.",
                code="no_vgpu",
            )
        )
    found += driver_plan.guest_place(inventory, state.driver)
    found += _driver(state, inventory, has_headers, expected)
    version = expected.driver_version or state.driver.on_disk or state.driver.loaded
    if expected.host_version and version:
        found += [one for one in [branches.trouble_of(expected.host_version, version)] if one]
    if state.driver.loaded and state.driver.flavour == "guest":
        found += _told(seen, silence, expected)
    return [Problem(one) for one in found]


def _driver(state, inventory, has_headers, expected):
    found, driver = [], state.driver
    if expected.builds and not has_headers:
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
    for gpu in inventory.gpus:
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
    if driver.unfinished:
        found.append(refusals.driver_trouble(driver))
    return found


def _told(seen, silence, expected):
    """What the running driver says of the vGPU, against what is expected."""
    if silence:
        return [
            Trouble(
                silence,
                device="nvidia-smi",
                wanted="an answer about the vGPU",
                remedy="Look at dmesg for NVRM lines: a guest driver of another branch than the host's does not come up.",
                code="smi_silent",
            )
        ]
    found = []
    for gpu in seen:
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
