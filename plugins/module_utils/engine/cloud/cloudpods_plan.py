# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans which PCI functions Cloudpods' host agent uses for vGPUs and does not bind to vfio-pci. The planner neither reads nor changes the host.

The agent reads /etc/yunion/host.conf at startup. If the address of an NVIDIA PF or VF is not in nvidia_vgpu_pfs, the agent binds the PF or VF to
vfio-pci, which destroys the GPU's vGPUs. For addresses in nvidia_vgpu_pfs, the agent offers mediated devices to VMs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Iterator, Mapping, Sequence

from ..base import refusals
from ..base.errors import EngineError, Refusal, raise_if_any
from ..base.plan import Plan
from ..base.steps import Step
from ..hardware.gpu import Gpu
from ..read.inventory import Inventory
from ..state.layout_file import StoredGpu
from ..state.paths import STATE
from . import yaml_key

PATH = "/etc/yunion/host.conf"
KEY = "nvidia_vgpu_pfs"
# A marker file that is written before host.conf is changed, and removed after the agent's next restart.
MARK = STATE + "/cloudpods-restart-due"
# Matches the addresses that the agent accepts. The agent adds the PCI domain 0000 to the captured part.
_SHORT = re.compile(r"^0000:([0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])\Z")


@dataclass(eq=False, repr=False)
class Request:
    """The user's request.

    If *present* is false, the key is removed. *gpus* lists GPU selectors. If *require_vgpus* is true, planning fails while vGPUs are missing.
    *restarted* is true if the agent was restarted, so a restart is no longer pending.
    """

    present: bool = True
    path: str = PATH
    gpus: Sequence[str] = ("all",)
    require_vgpus: bool = True
    restarted: bool = False


@dataclass(eq=False, repr=False)
class State:
    """The planner's input from the host.

    The *path* attribute is the configuration file's path without links. *text* is the file's text, or None if the file does not exist. *stored* maps
    GPU addresses to stored layouts. *marked* is true if an agent restart is pending. *errors* contains errors from reading the file, and
    *layout_errors* contains errors from reading the layouts.
    """

    inventory: Inventory
    path: str
    text: str | None
    marked: bool
    stored: Mapping[str, StoredGpu] = field(default_factory=dict)
    errors: Sequence[Refusal] = ()
    layout_errors: Sequence[Refusal] = ()


@dataclass(eq=False, repr=False)
class Target:
    """The configuration file and its new content.

    The *edit* attribute is None if the file needs no change. *addresses* is the key's value, and *gpus* lists the GPUs that the addresses belong to.
    *restart* is true if an agent restart is pending.
    """

    path: str
    old: str | None
    edit: yaml_key.Edit | None
    addresses: list[str]
    gpus: list[Gpu]
    restart: bool


def short(address: str) -> str | None:
    """Returns a PCI address in Cloudpods' notation, or None if Cloudpods' notation cannot represent the address."""
    found = _SHORT.match(address)
    return found.group(1) if found else None


def functions(gpu: Gpu) -> list[str]:
    """Returns the address of a GPU's PF, followed by its VF addresses in numerical order."""
    return [gpu.address] + [vf.address for vf in gpu.vfs]


def _has_vgpus(gpu: Gpu) -> bool:
    return bool(gpu.vfs or gpu.vgpus or gpu.framework != "none")


def _chosen(found: Inventory, selectors: Sequence[str]) -> tuple[list[Gpu], list[Refusal]]:
    """Returns the selected GPUs, and errors in the selectors.

    The "all" selector omits GPUs that have neither VFs nor vGPU types, because those GPUs might be passed through to VMs.
    """
    addresses: set[str] = set()
    errors: list[Refusal] = []
    for word in selectors:
        gpus, wrong = found.select([word])
        errors += wrong
        everything = str(word).strip().lower() == "all"
        addresses |= {gpu.address for gpu in gpus if _has_vgpus(gpu) or not everything}
    gpus = [gpu for gpu in found.gpus if gpu.address in addresses]
    if not gpus and not errors:
        errors.append(Refusal(
            "no GPU of this host has VFs or mediated device types", expected="at least one GPU that has vGPUs and either VFs or mediated device types",
            remedy="Create the vGPUs first with the vgpu.kvm.host playbook, or with the sriov and vgpus roles.", code="no_vfs"))
    return gpus, errors


def _unfit(gpu: Gpu) -> Iterator[Refusal]:
    """Yields the reasons why Cloudpods cannot use the GPU's vGPUs."""
    if not gpu.uuids:
        yield Refusal(
            "the GPU's vGPUs are VFs in the vendor-specific VFIO framework, but Cloudpods' host agent supports only mediated devices",
            device=gpu.address, expected="a GPU with mediated device types (mdev_supported_types)",
            remedy="Use a host whose kernel supports mediated devices (a kernel before 6.8, as in Debian 12, Ubuntu 22.04, RHEL 8, and RHEL 9), "
            "or attach these vGPUs to VMs with libvirt, nova, or KubeVirt. "
            "Do not run Cloudpods' host agent on this host, because the agent would bind the VFs to vfio-pci.",
            code="vendor_vfio")
    if not all(map(short, functions(gpu))):
        yield Refusal(
            "the GPU is in PCI domain %s" % gpu.address.split(":")[0],
            device=gpu.address, expected="PCI domain 0000, because Cloudpods omits the domain from addresses and always uses 0000",
            remedy="Remove this GPU from the gpus option (the vgpu_gpus variable). Alternatively, move the GPU to domain 0000 "
            "with the firmware settings for VMD and PCIe segments.",
            code="pci_domain")
    if not _has_vgpus(gpu):
        yield Refusal(
            "the GPU has neither VFs nor mediated device types", device=gpu.address, expected="vGPUs on the GPU",
            remedy="Create vGPUs first with the vgpu.kvm.host playbook, or with the sriov and vgpus roles. "
            "Alternatively, remove this GPU from the gpus option (the vgpu_gpus variable).", code="no_vfs")


def _missing(stored: Mapping[str, StoredGpu], gpus: Sequence[Gpu]) -> list[Refusal]:
    """Returns the errors for missing vGPUs, which must exist before the agent scans for vGPUs.

    The *stored* argument maps GPU addresses to stored layouts.
    """
    errors = []
    for gpu in gpus:
        expected = stored[gpu.address].vgpus if gpu.address in stored else []
        there = {vgpu.key for vgpu in gpu.vgpus}
        missing = [one for one in expected if one.key not in there]
        if missing:
            errors.append(Refusal(
                "%d of the %d vGPUs in the GPU's layout are missing (first missing vGPU: %s on %s)"
                % (len(missing), len(expected), missing[0].type, missing[0].parent),
                device=gpu.address, expected="all vGPUs in the layout, before Cloudpods' host agent scans for vGPUs",
                remedy="Restore the vGPUs with 'vgpuctl restore' or the vgpus role. Then rerun the playbook.", code="vgpus_missing"))
    if gpus and not errors and not any(gpu.vgpus for gpu in gpus):
        errors.append(Refusal(
            "no vGPU exists on %s" % ", ".join(gpu.address for gpu in gpus), expected="vGPUs, before Cloudpods' host agent scans for vGPUs",
            remedy="Create vGPUs first with the vgpus role. To list VFs without vGPUs, set require_vgpus: false (the vgpu_cloudpods_require_vgpus variable).",
            code="no_vgpus"))
    return errors


def _exposed(found: Inventory, removed: set[str]) -> Iterator[Refusal]:
    """Yields an error for each GPU that has vGPUs in use and is not listed in the new configuration file."""
    for gpu in found.gpus:
        holders = {str(holder): holder for vgpu in gpu.vgpus for holder in vgpu.holders}
        if holders and removed.intersection(map(short, functions(gpu))):
            doing = "removing the GPU from %s, after which Cloudpods' host agent would bind the VFs to vfio-pci" % KEY
            instead = "keep this GPU in the gpus option (the vgpu_gpus variable)"
            yield refusals.in_use(gpu.address, [holders[name] for name in sorted(holders)], doing, instead=instead)


def _edit(state: State, desired: list[str] | None) -> tuple[yaml_key.Edit | None, list[str], list[Refusal]]:
    """Returns the Edit or None, the addresses that the file currently contains, and errors.

    The *desired* argument is None if the key must be removed, and empty if the addresses are unknown.
    """
    if state.text is None:
        return None, [], []
    try:
        now = yaml_key.current(state.text, KEY, state.path)
        return yaml_key.edit(state.text, KEY, desired, state.path) if desired != [] else None, now, []
    except EngineError as exc:
        return None, [], exc.errors


def plan(state: State, request: Request) -> Plan[Target]:
    """Returns the plan for the request. Raises EngineError with all errors."""
    errors: list[Refusal] = []
    gpus: list[Gpu] = []
    if request.present:
        gpus, errors = _chosen(state.inventory, request.gpus)
        errors += [one for gpu in gpus for one in _unfit(gpu)]
        if request.require_vgpus:
            errors += state.layout_errors or _missing(state.stored, gpus)
    addresses = [address for gpu in gpus for address in map(short, functions(gpu)) if address]
    edit, now, wrong = _edit(state, addresses if request.present else None)
    raise_if_any([*errors, *state.errors, *wrong, *_exposed(state.inventory, set(now).difference(addresses))])
    restart = bool(edit) or (state.marked and not request.restarted)
    target = Target(state.path, state.text, edit, addresses=addresses, gpus=gpus, restart=restart)
    warnings = [
        "%s: the GPU's VFs, which are bound to %s, offer no vGPU types. "
        "If Cloudpods' host agent bound the VFs to this driver, rebind the VFs with the sriov role after this run."
        % (gpu.address, ", ".join(sorted({vf.driver or "no driver" for vf in gpu.vfs})))
        for gpu in gpus
        if gpu.vfs and gpu.framework == "none"
    ]
    return Plan(target, list(_steps(state, request, target)), warnings)


def _steps(state: State, request: Request, target: Target) -> Iterator[Step]:
    if target.edit and not state.marked:
        yield Step("mark", None, MARK, "record that Cloudpods' agent must be restarted")
    if target.edit and request.present:
        gpus = ", ".join(gpu.address for gpu in target.gpus)
        yield Step("write", None, target.path, "set %s to the %d addresses of %s" % (KEY, len(target.addresses), gpus))
    elif target.edit:
        yield Step("write", None, target.path, "remove the key %s" % KEY)
    elif state.marked and request.restarted:
        yield Step("forget", None, MARK, "record that Cloudpods' agent was restarted")
