# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzes files and names that the roles read: GRUB's defaults, boot loader entries, the kernel command line, and the file names of bundles."""

from __future__ import annotations

import pathlib
import re

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.vgpu.kvm.plugins.filter.missing_kernel_flags import FilterModule
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.bootloader import grub_bls, grub_defaults as defaults, shell_text
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import supply
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import kernel_flags
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import boot_entries
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.tests.unit.fuzz import inputs

try:
    from ansible.template import trust_as_template
except ImportError:  # older releases of ansible-core do not distinguish templates from other texts

    def trust_as_template(text):
        """Return the text unchanged, because every text is a template in these releases."""
        return text


ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"
FLAGS = ["intel_iommu=on", "iommu=pt"]
CTX = Context("/nowhere")
GRUB = [
    'GRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX="crashkernel=1G rhgb quiet"\nGRUB_DISABLE_RECOVERY="true"\n',
    "GRUB_CMDLINE_LINUX='intel_iommu=on'\n",
    "GRUB_CMDLINE_LINUX=quiet\nGRUB_CMDLINE_LINUX_DEFAULT=\"vfio-pci.ids=10de:2235\"\n",
    'GRUB_CMDLINE_LINUX=""\n',
]
ENTRIES = [
    "title RHEL\nversion 5.14.0-427.el9\nlinux /vmlinuz\noptions root=/dev/sda1 ro crashkernel=1G intel_iommu=on iommu=pt\n",
    "version 5.14\nlinux /vmlinuz\noptions $kernelopts intel_iommu=on $tuned_params\n",
    'linux /vmlinuz\noptions ro iommu=pt\noptions intel_iommu=on x="a b"\n',
]
CMDLINES = ["BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro intel_iommu=on iommu=pt", "quiet iommu=off iommu=pt", "a=b=c ="]
BUNDLES = [
    "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip",
    "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm-aie.run",
    "nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb",
    "NVIDIA-vGPU-rhel-9.4-550.163.02.x86_64.rpm",
    "NVIDIA-GRID-Ubuntu-KVM-550.163.02-550.163.01-553.74.zip",
    "NVIDIA-GRID-RHEL-8.8-KVM-550.163.02-550.163.01-553.74.zip",
    "NVIDIA-AI-Enterprise-RHEL-9.4-KVM-550.163.02-550.163.01-553.74.zip",
]
GUESTS = {
    "NVIDIA-GRID-Linux-KVM-450.89-452.57.zip": "450.89",
    "NVIDIA-AI-Enterprise-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip": "525.85.05",
    "NVIDIA-Linux-x86_64-550.163.01-grid.run": "550.163.01",
    "nvidia-linux-grid-550-550.163.01-1.x86_64.rpm": "550.163.01",
    "download.zip": "",
}


def templates(value):
    """Return the value with all texts marked as templates. The texts come from the role, not from the host."""
    if isinstance(value, dict):
        return {key: templates(one) for key, one in value.items()}
    if isinstance(value, list):
        return [templates(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


class Role:
    """The variables of a role. They are templates that can use the variables that the role's tasks registered."""

    def __init__(self, name):
        self.loader = DataLoader()
        self.variables = {}
        for directory in ("defaults", "vars"):
            self.variables.update(templates(yaml.safe_load((ROLES / name / directory / "main.yml").read_text(encoding="utf-8"))))

    def read(self, variable, **registered):
        """Return the rendered value of a variable."""
        templar = Templar(loader=self.loader, variables=dict(self.variables, **registered))
        return templar.template(trust_as_template("{{ %s }}" % variable))


def texts(name, seeds, part):
    """Yield good and changed texts that a host could have, that is, valid UTF-8 without NUL."""
    rng = inputs.generator(name)
    yield from seeds
    for dummy in range(inputs.share(part)):
        inputs.COUNT.add("roles: " + name)
        yield inputs.mutated(rng, seeds).encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def test_flags_of_grubs_defaults():
    """An edit of GRUB's defaults adds flags that can be removed again, or raises an error with a line number. No shell runs the random texts."""
    for text in texts("GRUB's defaults", GRUB, 3):
        try:
            after = shell_text.append(text, defaults.LINUX, FLAGS)
        except shell_text.NotUnderstood as exc:
            assert 1 <= exc.line <= text.count("\n") + 1 and text not in GRUB, text
            continue
        assert " ".join(FLAGS) in after and len(after) > len(text), text
        shell_text.without(after, defaults.LINUX, FLAGS)
    for text in GRUB:
        after = shell_text.append(text, defaults.LINUX, FLAGS)
        defaults.require(CTX, [(defaults.GRUB, text)], [(defaults.GRUB, after)], FLAGS)


def test_ids_that_stay():
    """Each argument for grubby contains exactly one vfio-pci.ids setting."""
    for text in texts("ids of vfio-pci", GRUB, 2):
        for word in grub_bls.ids(kernel_flags.words(text)):
            assert re.match(r"^\"?vfio[-_]pci\.ids(=|\"?$)", word), (text, word)


def test_flags_of_boot_entries():
    """A boot loader entry either lacks some of the flags, or has all of them and they are effective."""
    for text in texts("boot entries", ENTRIES, 2):
        entry = boot_entries.of_bls("/boot/loader/entries/a.conf", text, {"kernelopts": "ro iommu=pt"})
        if entry is None:
            continue
        missing = kernel_flags.missing(FLAGS, entry.cmdline or ())
        assert missing in ([], FLAGS, FLAGS[:1], FLAGS[1:]), text
        assert entry.cmdline is None or missing or {kernel_flags.INTEL, kernel_flags.PASSTHROUGH} <= set(kernel_flags.meaning(entry.cmdline)), text


def test_flags_in_force():
    """If two flags have the same effect, the last one is effective, regardless of other flags. If the next boot is unknown, no flag counts as missing."""
    missing = FilterModule().filters()["missing_kernel_flags"]
    for text in texts("cmdline", CMDLINES, 2):
        words = kernel_flags.words(text)
        if "--" not in words:
            last = missing(FLAGS, [*words, *FLAGS])
            assert last == [] or last == FLAGS[:1] and kernel_flags.iommu(words)["amd"] is False, text
            assert missing(FLAGS, [*words, *FLAGS, "iommu=nopt", "intel_iommu=off"]) == FLAGS, text
        assert missing(FLAGS, None) == [], text


def test_versions_in_names_of_bundles():
    """The version in the file name of a bundle is found. The version consists of digits and dots."""
    for text in texts("names of bundles", BUNDLES, 2):
        found = supply.version_named(text, "host")
        assert re.match(r"^[0-9.]*$", found), text
    for name in BUNDLES:
        assert supply.version_named(name, "host") == "550.163.02", name
    for name, version in GUESTS.items():
        assert supply.version_named(name, "guest") == version, name
