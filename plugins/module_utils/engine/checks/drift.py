# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what was set up on this host is there: the stored vGPUs, the services that they live on, the VMs that need them.

``problems.find`` reports what a GPU and its driver lack; this reports what has drifted since it was set up. Nothing is changed.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from ..base.errors import Problem, Trouble
from ..read.inventory import Inventory
from ..state.layout_file import StoredGpu
from ..system.libvirt_xml import Domain
from ..system.systemd import Units

_MOST = 5  # devices that one sentence names
_AGAIN = "'nvidia-vgpu restore' makes them again, as does the playbook; why they were not restored: 'journalctl -u nvidia-vgpu-restore'."


def find(inventory: Inventory, stored: Mapping[str, StoredGpu], services: Units, domains: Iterable[Domain] = ()) -> list[Problem]:
    """All that has drifted. stored: StoredGpus by address; services: of systemd.read, empty without systemd; domains: libvirt's."""
    found: list[Problem] = []
    for pf in sorted(stored):
        found += _gpu(inventory, stored[pf])
    found += _services(services, any(one.vgpus or one.vfs for one in stored.values()))
    return found + _vms(inventory, domains)


def _error(found: str, device: str, wanted: str, remedy: str, code: str) -> Problem:
    return Problem(Trouble(found, device, wanted, remedy, code))


def _warning(found: str, device: str, wanted: str, remedy: str, code: str) -> Problem:
    return Problem(Trouble(found, device, wanted, remedy, code), "warning")


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:_MOST]) + (" and %d more" % (len(words) - _MOST) if len(words) > _MOST else "")


def _gpu(inventory: Inventory, stored: StoredGpu) -> list[Problem]:
    gpu = inventory.gpu(stored.address)
    if gpu is None:
        return [
            _error(
                "the GPU is not there any more, but vGPUs are stored for it",
                stored.address,
                "the GPU",
                "If it was taken out, remove it from the layout; if not, look at 'lspci -d 10de:' and dmesg.",
                "gpu_gone",
            )
        ]
    if not gpu.alive:
        return []  # reported already, and all else follows from it
    found: list[Problem] = []
    if stored.mig is not None and gpu.mig and gpu.mig.current is False:
        found.append(_error("MIG is off", gpu.address, "MIG on, as it was made", _AGAIN, "mig_lost"))
    elif stored.mig and gpu.mig and gpu.mig.current:
        have = [one.profile for one in gpu.mig.instances]
        gone = [profile for profile in sorted(set(stored.mig)) if have.count(profile) < stored.mig.count(profile)]
        if gone:
            text = "it has GPU instances %s" % _listed(sorted(have)) if have else "it has no GPU instances"
            found.append(_error(text, gpu.address, "%s, as they were made" % ", ".join(sorted(stored.mig)), _AGAIN, "mig_instances_missing"))
    if gpu.num_vfs < stored.vfs:
        holders = [str(holder) for holder in inventory.open_files.of_gpu(gpu.minor)]
        held = " They can't be turned on while the GPU's node is open: %s." % _listed(holders) if holders and not gpu.num_vfs else ""
        text = "it has %d VFs" % gpu.num_vfs if gpu.num_vfs else "its VFs are off"
        found.append(_error(text, gpu.address, "%d VFs, as they were made" % stored.vfs, _AGAIN + held, "vfs_missing"))
    there = {vgpu.key: vgpu for vgpu in gpu.vgpus}
    missing = [one for one in stored.vgpus if one.key not in there]
    if missing:
        found.append(
            _error(
                "%d of its %d vGPUs are missing (%s)" % (len(missing), len(stored.vgpus), _listed(["%s on %s" % (one.type, one.parent) for one in missing])),
                gpu.address,
                "all vGPUs of the layout",
                _AGAIN,
                "vgpus_missing",
            )
        )
    for one in stored.vgpus:
        vgpu = there.get(one.key)
        if vgpu and vgpu.type and vgpu.type != one.type:
            remedy = "The playbook makes it again, unless a VM uses it."
            found.append(_error("the vGPU is a %s" % vgpu.type, one.key, "%s, as it was made" % one.type, remedy, "vgpu_wrong_type"))
    return found


def _services(services: Units, has_stored: bool) -> list[Problem]:
    if not services:
        return []
    found: list[Problem] = []
    manager, setup = services.get("nvidia-vgpu-mgr", {}), services.get("nvidia-vgpud", {})
    if manager.get("load") != "not-found" and manager.get("active") != "active":
        found.append(
            _error(
                "it is %s" % (manager.get("active") or "not told"),
                "nvidia-vgpu-mgr.service",
                "active: without it no VM with a vGPU starts",
                "'systemctl start nvidia-vgpu-mgr'; why it ended: 'journalctl -u nvidia-vgpu-mgr'.",
                "manager_not_running",
            )
        )
    if setup.get("active") == "failed" or setup.get("result") not in (None, "", "success"):
        found.append(
            _error("it failed (%s)" % setup.get("result"), "nvidia-vgpud.service", "success", "Look at 'journalctl -u nvidia-vgpud'.", "vgpud_failed")
        )
    for name, unit in (("nvidia-vgpud", setup), ("nvidia-vgpu-mgr", manager)):
        if unit.get("load") not in (None, "not-found") and unit.get("enabled") not in ("enabled", "static", "generated"):
            found.append(
                _warning(
                    "it is %s" % (unit.get("enabled") or "not set to start"),
                    name + ".service",
                    "enabled",
                    "'systemctl enable %s', or role services." % name,
                    "service_not_enabled",
                )
            )
    return found + (_restorer(services.get("nvidia-vgpu-restore", {})) if has_stored else [])


def _restorer(unit: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the unit that restores the stored vGPUs."""
    if unit.get("enabled") != "enabled":
        return [
            _error(
                "it is %s" % (unit.get("enabled") or "not there"),
                "nvidia-vgpu-restore.service",
                "enabled: without it the vGPUs are gone after a reboot",
                "Role vgpus installs and enables it.",
                "restore_not_enabled",
            )
        ]
    if unit.get("active") == "failed":
        return [
            _warning(
                "it failed at this boot (%s)" % unit.get("result"),
                "nvidia-vgpu-restore.service",
                "success",
                "Look at 'journalctl -u nvidia-vgpu-restore'; then 'systemctl restart nvidia-vgpu-restore'.",
                "restore_failed",
            )
        ]
    return []


def _vms(inventory: Inventory, domains: Iterable[Domain]) -> list[Problem]:
    """vGPUs that two VMs have, and those that VMs have and nobody has created."""
    found: list[Problem] = []
    users: dict[str, list[Domain]] = {}
    vgpus = {vgpu.key for vgpu in inventory.vgpus}
    bare = {vf.address for gpu in inventory.gpus if gpu.claims_vfs for vf in gpu.vfs} - vgpus
    for domain in domains:
        for device in {one.key: one for one in (domain.defined or []) + (domain.live or [])}.values():
            users.setdefault(device.key, []).append(domain)
            if device.key in bare or (device.mediated and device.key not in vgpus):
                found.append(
                    _warning(
                        "it has %s, which is no vGPU of this host now" % device.key,
                        "VM %s" % domain.name,
                        "a vGPU that is there: the VM does not start like this",
                        "Make the vGPU (vgpu_layout), or give the VM another one (vgpu_domains).",
                        "vm_without_vgpu",
                    )
                )
    for key, owners in sorted(users.items()):
        if len(owners) > 1 and key in vgpus:
            names = ", ".join(one.name for one in owners)
            remedy = "Take it from all but one (vgpu_domains, or 'virsh edit')."
            found.append(_warning("the VMs %s all have it" % names, key, "one VM: only one of them can run", remedy, "vgpu_in_two_vms"))
    return found
