# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a host's vGPUs, required services, and VMs with the stored layout.

This module reports changes since the setup, whereas problems.find() reports GPU and driver problems. This module never changes the host.
"""

from __future__ import annotations

from typing import Iterable, Iterator, Mapping, Sequence

from ..base.errors import Problem, Refusal
from ..read.inventory import Inventory
from ..state.layout_file import StoredGpu
from ..system.libvirt_xml import Domain
from ..system.mdevctl import Definition
from ..system.systemd import UNITS, Units
from ..vgpu import autostart
from .problems import rated

# The codes of errors about differences from the stored layout. Other error codes in this file concern services and VMs.
CODES = ("gpu_gone", "mig_lost", "mig_instances_missing", "vfs_missing", "vgpus_missing", "vgpu_wrong_type")
_MOST = 5  # the maximum number of devices that a message names
_AGAIN = "Run 'vgpuctl restore' or the playbook. 'journalctl -u vgpu-restore' shows the cause of a failed restore at boot."


def find(
    inventory: Inventory, stored: Mapping[str, StoredGpu], services: Units, domains: Iterable[Domain] = (),
    definitions: Mapping[str, Definition] | None = None,
) -> list[Problem]:
    """Returns all differences between the host and its setup as problems.

    The *stored* argument maps GPU addresses to stored GPUs. *services* is the result of systemd.read(), and is empty on hosts without systemd.
    *domains* lists libvirt's VMs. *definitions* contains the mediated devices that mdevctl defines.
    """
    found = [one for pf in sorted(stored) for one in _gpu(inventory, stored[pf])]
    found += [one for pf in sorted(stored) for one in _autostarted(inventory, stored[pf], definitions or {})]
    if services:
        found += _services(services, any(one.vgpus or one.vfs for one in stored.values()))
    return rated([*found, *_vms(inventory, domains)])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:_MOST]) + (" and %d more" % (len(words) - _MOST) if len(words) > _MOST else "")


def _gpu(inventory: Inventory, stored: StoredGpu) -> Iterator[Refusal]:
    gpu, pf = inventory.gpu(stored.address), stored.address
    if gpu is None:
        yield Refusal(
            "the host no longer has this GPU, but the stored layout contains vGPUs for this GPU", pf, "a GPU at this address",
            "If the GPU was removed from the host, remove the GPU from the layout. Otherwise, find the cause in the output of 'dmesg'.", "gpu_gone",
        )
    if gpu is None or not gpu.alive:
        return  # another check reports that the GPU fell off the bus, which causes all other drift on the GPU
    if stored.mig and gpu.mig and gpu.mig.current is False:
        yield Refusal("MIG mode is disabled", pf, "enabled MIG mode, as in the stored layout", _AGAIN, "mig_lost")
    elif stored.mig and gpu.mig and gpu.mig.current:
        have = [one.profile for one in gpu.mig.instances]
        if any(have.count(profile) < stored.mig.count(profile) for profile in stored.mig):
            instances = "the GPU has the GPU instances %s" % _listed(sorted(have)) if have else "the GPU has no GPU instances"
            yield Refusal(instances, pf, "%s, as in the stored layout" % ", ".join(sorted(stored.mig)), _AGAIN, "mig_instances_missing")
    if gpu.num_vfs < stored.vfs:
        holders = [str(holder) for holder in inventory.open_files.of_gpu(gpu.minor)]
        held = " VFs cannot be enabled while these processes use the GPU: %s." % _listed(holders) if holders and not gpu.num_vfs else ""
        vfs = "the GPU has %d VFs" % gpu.num_vfs if gpu.num_vfs else "the VFs are disabled"
        yield Refusal(vfs, pf, "%d VFs, as in the stored layout" % stored.vfs, _AGAIN + held, "vfs_missing")
    there = {vgpu.key: vgpu for vgpu in gpu.vgpus}
    missing = ["%s on %s" % (one.type, one.parent) for one in stored.vgpus if one.key not in there]
    if missing:
        vgpus = "%d of the %d stored vGPUs are missing (%s)" % (len(missing), len(stored.vgpus), _listed(missing))
        yield Refusal(vgpus, pf, "all vGPUs of the stored layout", _AGAIN, "vgpus_missing")
    for one in stored.vgpus:
        vgpu = there.get(one.key)
        if vgpu and vgpu.type and vgpu.type != one.type:
            remedy = "Stop any VM that uses the vGPU, then rerun the playbook to recreate the vGPU."
            yield Refusal("the vGPU has the type %s" % vgpu.type, one.key, "%s, as in the stored layout" % one.type, remedy, "vgpu_wrong_type")


def _autostarted(inventory: Inventory, stored: StoredGpu, definitions: Mapping[str, Definition]) -> list[Refusal]:
    """Returns the errors for mediated devices that mdevctl will start at the next boot on a GPU with stored vGPUs."""
    gpu = inventory.gpu(stored.address)
    parents = {stored.address, *[one.parent for one in stored.vgpus], *[vf.address for vf in (gpu.vfs if gpu else ())]}
    return autostart.foreign(definitions, parents, [one.uuid for one in stored.vgpus]) if stored.vgpus else []


def _services(services: Units, has_stored: bool) -> Iterator[Refusal]:
    setup, manager, restorer = (services.get(name, {}) for name in UNITS)
    if manager.get("load") != "not-found" and manager.get("active") != "active":
        yield Refusal(
            "the state of the service is %s" % (manager.get("active") or "not reported"), "nvidia-vgpu-mgr.service",
            "active, because a VM with a vGPU does not start without this service",
            "Run 'systemctl start nvidia-vgpu-mgr'. To find out why the service stopped, run 'journalctl -u nvidia-vgpu-mgr'.", "manager_not_running",
        )
    if setup.get("active") == "failed" or setup.get("result") not in (None, "", "success"):
        failed = "the service failed (%s)" % setup.get("result")
        yield Refusal(
            failed, "nvidia-vgpud.service", "success",
            "Find the cause in the output of 'journalctl -u nvidia-vgpud', fix the cause, then run 'systemctl restart nvidia-vgpud'.", "vgpud_failed",
        )
    for name, unit in (("nvidia-vgpud", setup), ("nvidia-vgpu-mgr", manager)):
        if unit.get("load") not in (None, "not-found") and unit.get("enabled") not in ("enabled", "static", "generated"):
            enabled = "the service is %s" % (unit.get("enabled") or "not set to start at boot")
            yield Refusal(enabled, name + ".service", "enabled", "Run 'systemctl enable %s' or the services role." % name, "service_not_enabled")
    if has_stored and restorer.get("enabled") != "enabled":
        absent, expected = "the unit is %s" % (restorer.get("enabled") or "missing"), "enabled, because this unit restores the vGPUs after a reboot"
        yield Refusal(absent, "vgpu-restore.service", expected, "Run the vgpus role, which installs and enables the unit.", "restore_not_enabled")
    elif has_stored and restorer.get("active") == "failed":
        yield Refusal(
            "the restore failed at the last boot (%s)" % restorer.get("result"), "vgpu-restore.service", "success",
            "Find the cause in the output of 'journalctl -u vgpu-restore', fix the cause, then run 'systemctl restart vgpu-restore'.", "restore_failed",
        )


def _vms(inventory: Inventory, domains: Iterable[Domain]) -> Iterator[Refusal]:
    """Yields the errors for vGPUs that are attached to several VMs, and for VMs whose vGPUs do not exist."""
    users: dict[str, list[str]] = {}
    vgpus = {vgpu.key for vgpu in inventory.vgpus}
    bare = {vf.address for gpu in inventory.gpus if gpu.claims_vfs for vf in gpu.vfs} - vgpus
    for domain in domains:
        for device in {one.key: one for one in (domain.defined or []) + (domain.live or [])}.values():
            users.setdefault(device.key, []).append(domain.name)
            if device.key in bare or (device.mediated and device.key not in vgpus):
                yield Refusal(
                    "the VM's definition contains the vGPU %s, which does not exist on this host" % device.key, "VM %s" % domain.name,
                    "an existing vGPU, because the VM does not start without this vGPU",
                    "Create the vGPU with the vgpu_layout variable, or attach another vGPU to the VM with the vgpu_domains variable.", "vm_without_vgpu",
                )
    for key, names in sorted(users.items()):
        if len(names) > 1 and key in vgpus:
            found = "the vGPU is attached to several VMs: %s" % ", ".join(names)
            remedy = "Detach the vGPU from all but one VM with the vgpu_domains variable or 'virsh edit'."
            yield Refusal(found, key, "one VM, because only one of the VMs can run at a time", remedy, "vgpu_in_two_vms")
