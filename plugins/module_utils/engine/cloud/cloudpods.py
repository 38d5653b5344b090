# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloudpods' host agent: which PCI functions it must take for vGPUs, and leave alone otherwise.

The agent reads /etc/yunion/host.conf at its start. It takes every NVIDIA GPU (PF or VF) to vfio-pci whose address is not in
nvidia_vgpu_pfs, which destroys the vGPUs there; of those that are, it offers the mediated devices to VMs.
"""

from __future__ import annotations

import os
import re

from ..base import refusals
from ..base.errors import EngineError, Trouble, raise_if_any
from ..base.steps import Step, execute
from ..read import inventory
from ..state import install_mark, layout_file
from ..system import files
from . import config_file, yaml_document, yaml_key

PATH = "/etc/yunion/host.conf"
KEY = "nvidia_vgpu_pfs"
# Written before the file is changed, removed when the agent was restarted after that.
MARK = install_mark.FOLDER + "/cloudpods-restart-due"
_MARK_TEXT = "Written by vgpu.kvm: Cloudpods' host agent was not restarted since its host.conf was changed.\n"
# What the agent itself accepts; it puts domain 0000 before it.
_SHORT = re.compile(r"^0000:([0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])\Z")


class Wish:
    """What the user wants.

    present False: the key is taken out. gpus: selectors. require_vgpus: refuse while vGPUs are missing.
    restarted: the agent was restarted, so that a restart is due no more.
    """

    def __init__(self, present=True, path=PATH, gpus=("all",), require_vgpus=True, restarted=False):
        self.present = present
        self.path = path
        self.gpus = list(gpus)
        self.require_vgpus = require_vgpus
        self.restarted = restarted


class Plan:
    """steps; edit: of the file, None for none; addresses: as they are in the file then; gpus: whose they are."""

    def __init__(self, steps, edit, old, path, addresses, gpus, due, warnings):
        self.steps = steps
        self.edit = edit
        self.old = old
        self.path = path
        self.addresses = addresses
        self.gpus = gpus
        self.due = due
        self.warnings = warnings


def short(address):
    """An address as Cloudpods spells it, or None when it has no spelling for it."""
    found = _SHORT.match(address)
    return found.group(1) if found else None


def functions(gpu):
    """Addresses of a GPU: the PF, then its VFs by number."""
    return [gpu.address] + [vf.address for vf in gpu.vfs]


def _has_vgpus(gpu):
    return bool(gpu.vfs or gpu.vgpus or gpu.framework != "none")


def _chosen(found, selectors):
    """(gpus, troubles). 'all' leaves out GPUs that have no VFs and no types: VMs may have them whole."""
    addresses, troubles = set(), []
    for word in selectors:
        gpus, wrong = found.select([word])
        troubles += wrong
        everything = str(word).strip().lower() == "all"
        addresses |= {gpu.address for gpu in gpus if _has_vgpus(gpu) or not everything}
    gpus = [gpu for gpu in found.gpus if gpu.address in addresses]
    if not gpus and not troubles:
        troubles.append(
            Trouble(
                "no GPU of this host has VFs or mediated device types",
                wanted="a GPU with VFs, and vGPUs on them",
                remedy="Make the vGPUs first (playbook vgpu.kvm.host, or the roles sriov and vgpus).",
                code="no_vfs",
            )
        )
    return gpus, troubles


def _unfit(gpu):
    """Why Cloudpods can't use this GPU's vGPUs. A list of troubles."""
    troubles = []
    if gpu.framework == "vendor_vfio":
        troubles.append(
            Trouble(
                "its vGPUs are VFs of the vendor-specific VFIO framework, and Cloudpods' agent knows mediated devices alone",
                device=gpu.address,
                wanted="mediated devices (mdev_supported_types)",
                remedy="Use a host whose kernel has them (before 6.8: Debian 12, Ubuntu 22.04, RHEL 8 and 9), or give these vGPUs to VMs "
                "without Cloudpods (libvirt, nova, KubeVirt). Don't run Cloudpods' agent here: it would take the VFs to vfio-pci.",
                code="vendor_vfio",
            )
        )
    if any(short(address) is None for address in functions(gpu)):
        troubles.append(
            Trouble(
                "it is in PCI domain %s" % gpu.address.split(":")[0],
                device=gpu.address,
                wanted="domain 0000: Cloudpods writes addresses without a domain, and takes 0000 for it",
                remedy="Leave this GPU out of 'gpus' (role variable cloudpods_gpus), or have the firmware put it into domain 0000 "
                "(it may offer that as a setting of VMD or of PCIe segments).",
                code="pci_domain",
            )
        )
    if not _has_vgpus(gpu):
        troubles.append(
            Trouble(
                "it has no VFs and no mediated device types",
                device=gpu.address,
                wanted="vGPUs on it",
                remedy="Make them first (playbook vgpu.kvm.host, or the roles sriov and vgpus), or leave this GPU out of 'gpus'.",
                code="no_vfs",
            )
        )
    return troubles


def _missing(ctx, gpus):
    """vGPUs that should be there before the agent looks. A list of troubles."""
    try:
        stored = layout_file.read(ctx.root)
    except EngineError as exc:
        return exc.troubles
    troubles = []
    for gpu in gpus:
        wanted = stored[gpu.address].vgpus if gpu.address in stored else []
        there = {vgpu.key for vgpu in gpu.vgpus}
        missing = [one for one in wanted if one.key not in there]
        if missing:
            troubles.append(
                Trouble(
                    "%d of the %d vGPUs of its layout are not there (first: %s on %s)"
                    % (len(missing), len(wanted), missing[0].type, missing[0].parent),
                    device=gpu.address,
                    wanted="all vGPUs, before Cloudpods' agent looks for them",
                    remedy="Bring them back ('nvidia-vgpu restore', or the role vgpus), then run again.",
                    code="vgpus_missing",
                )
            )
    if gpus and not troubles and not any(gpu.vgpus for gpu in gpus):
        troubles.append(
            Trouble(
                "there is no vGPU yet on %s" % ", ".join(gpu.address for gpu in gpus),
                wanted="vGPUs, before Cloudpods' agent looks for them",
                remedy="Make them first (role vgpus), or set require_vgpus: false (role variable cloudpods_require_vgpus) to list the VFs alone.",
                code="no_vgpus",
            )
        )
    return troubles


def _exposed(found, removed):
    """GPUs whose vGPUs somebody uses, and which the file would no longer protect. A list of troubles."""
    troubles = []
    for gpu in found.gpus:
        holders = {str(holder): holder for vgpu in gpu.vgpus for holder in vgpu.holders}
        if holders and removed.intersection(map(short, functions(gpu))):
            troubles.append(
                refusals.in_use(
                    gpu.address,
                    [holders[name] for name in sorted(holders)],
                    "taking it out of %s (the agent would take its VFs to vfio-pci)" % KEY,
                    instead="keep this GPU in 'gpus' (role variable cloudpods_gpus)",
                )
            )
    return troubles


def _warnings(gpus):
    return [
        "%s: its VFs show no vGPU types (bound to %s). If Cloudpods' agent took them, bring them back with the role sriov after this."
        % (gpu.address, ", ".join(sorted({vf.driver or "no driver" for vf in gpu.vfs})))
        for gpu in gpus
        if gpu.vfs and gpu.framework == "none"
    ]


def _is_path(path):
    """Whether a file system can have it."""
    try:
        return path.startswith("/") and "\n" not in path and len(os.fsencode(path)) < 3000
    except UnicodeError:
        return False


def _file(ctx, wish):
    """(path without links, text or None, troubles)."""
    if not _is_path(wish.path):
        return wish.path, None, [Trouble("%.60r is no absolute path" % wish.path, device="path", wanted="a file, such as %s" % PATH, code="bad_path")]
    try:
        path = config_file.real_path(ctx.root, wish.path)
        text = config_file.read(ctx.root, path)
    except EngineError as exc:
        return wish.path, None, exc.troubles
    if text is None and wish.present:
        return path, None, [
            Trouble(
                "it is not there",
                device=wish.path,
                wanted="the configuration of Cloudpods' host agent",
                remedy="Add this host to Cloudpods first (ocboot, or its operator, writes the file), or give its path (role variable cloudpods_path).",
                code="host_conf_missing",
            )
        ]
    return path, text, []


def _edit(text, wanted, path):
    """(Edit or None, addresses in the file now, troubles). wanted: None to take the key out, empty where the addresses are not known."""
    if yaml_document.yaml is None:
        return None, [], [yaml_document.library_missing()]
    try:
        now = yaml_key.current(text, KEY, path)
        return yaml_key.edit(text, KEY, wanted, path) if wanted != [] else None, now, []
    except EngineError as exc:
        return None, [], exc.troubles


def plan(ctx, wish):
    """The Plan; raises EngineError with all that stands against it."""
    found = inventory.read(ctx, with_types=False)
    path, text, troubles = _file(ctx, wish)
    gpus = []
    if wish.present:
        gpus, wrong = _chosen(found, wish.gpus)
        troubles = wrong + [one for gpu in gpus for one in _unfit(gpu)] + (_missing(ctx, gpus) if wish.require_vgpus else []) + troubles
    addresses = [short(address) for gpu in gpus for address in functions(gpu) if short(address)]
    edit, now = None, []
    if text is not None:
        edit, now, wrong = _edit(text, addresses if wish.present else None, path)
        troubles = troubles + wrong
    troubles = troubles + _exposed(found, set(now).difference(addresses))
    raise_if_any(troubles)
    marked = os.path.lexists(ctx.root + MARK)
    steps = _steps(marked, wish, edit, path, addresses, gpus)
    due = bool(edit) or (marked and not wish.restarted)
    return Plan(steps, edit, text, path, addresses, gpus, due, _warnings(gpus))


def _steps(marked, wish, edit, path, addresses, gpus):
    steps = []
    if edit and not marked:
        steps.append(Step("mark", None, MARK, "note that Cloudpods' agent must be restarted"))
    if edit and wish.present:
        steps.append(Step("write", None, path, "set %s to the %d addresses of %s" % (KEY, len(addresses), ", ".join(gpu.address for gpu in gpus))))
    elif edit:
        steps.append(Step("write", None, path, "take %s out" % KEY))
    elif marked and wish.restarted:
        steps.append(Step("forget", None, MARK, "note that Cloudpods' agent was restarted"))
    return steps


def clean(ctx, wish):
    """Removes what a killed run left half-written beside the file: a copy of it, which may hold passwords."""
    try:
        folder = os.path.dirname(config_file.real_path(ctx.root, wish.path)) if _is_path(wish.path) else ""
    except EngineError:
        return  # the plan tells it
    if folder and os.path.isdir(ctx.root + folder):
        files.sweep(ctx.root, [folder])


def apply(ctx, made):
    """Does the steps, and looks whether they took."""

    def perform(step):
        if step.kind == "mark":
            files.write_atomic(ctx.root, MARK, _MARK_TEXT)
        elif step.kind == "forget":
            files.remove(ctx.root, MARK)
        else:
            config_file.replace(ctx.root, made.path, made.old, made.edit.text)

    return execute(made.steps, perform)
