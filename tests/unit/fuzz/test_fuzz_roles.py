# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles read out of files and programs by templates alone: GRUB's defaults, grubby's entries, the command line, a bundle's name."""

from __future__ import annotations

import base64
import pathlib
import re

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import supply
from ansible_collections.vgpu.kvm.tests.unit.fuzz import inputs

try:
    from ansible.template import trust_as_template
except ImportError:  # an ansible-core that does not distinguish templates from other texts

    def trust_as_template(text):
        """Every text is a template."""
        return text


ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"
FLAGS = ["intel_iommu=on", "iommu=pt"]
GRUB = [
    'GRUB_DEFAULT=saved\nGRUB_CMDLINE_LINUX="crashkernel=1G rhgb quiet"\nGRUB_DISABLE_RECOVERY="true"\n',
    "GRUB_CMDLINE_LINUX='intel_iommu=on'\n",
    "GRUB_CMDLINE_LINUX=quiet\nGRUB_CMDLINE_LINUX_DEFAULT=\"vfio-pci.ids=10de:2235\"\n",
    'GRUB_CMDLINE_LINUX=""\n',
]
ENTRIES = [
    'index=0\nkernel="/boot/vmlinuz-5.14"\nargs="ro crashkernel=1G intel_iommu=on iommu=pt"\nroot="/dev/sda1"\n\nindex=1\nargs="ro quiet"\n',
    'index=0\nargs="ro iommu=pt intel_iommu=on"\n',
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
    """The value with all its texts as templates: they come with the role, not with the host."""
    if isinstance(value, dict):
        return {key: templates(one) for key, one in value.items()}
    if isinstance(value, list):
        return [templates(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


class Role:
    """A role's variables, as templates over what its tasks registered."""

    def __init__(self, name):
        self.loader = DataLoader()
        self.variables = {}
        for directory in ("defaults", "vars"):
            self.variables.update(templates(yaml.safe_load((ROLES / name / directory / "main.yml").read_text(encoding="utf-8"))))

    def read(self, variable, **registered):
        """The variable's value."""
        templar = Templar(loader=self.loader, variables=dict(self.variables, **registered))
        return templar.template(trust_as_template("{{ %s }}" % variable))


def file(text):
    """What slurp returns."""
    return {"content": base64.b64encode(text.encode("utf-8", "replace")).decode()}


def replacing(name, part):
    """(regexp, replacement) of a task of the role iommu."""
    tasks = yaml.safe_load((ROLES / "iommu" / "tasks" / "redhat.yml").read_text(encoding="utf-8"))
    (task,) = [one for one in tasks if one["name"].endswith(name)]
    arguments = task["ansible.builtin.replace"]
    return re.compile(arguments["regexp"], re.MULTILINE), re.sub(r"\{\{.*?\}\}", part.replace("\\", r"\\"), arguments["replace"])


@pytest.fixture(scope="module")
def iommu():
    """The role iommu."""
    return Role("iommu")


def texts(name, seeds, part):
    """Good and changed texts, as the host has them: without NUL."""
    rng = inputs.generator(name)
    yield from seeds
    for dummy in range(inputs.share(part)):
        inputs.COUNT.add("roles: " + name)
        yield inputs.mutated(rng, seeds).encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def test_flags_of_grubs_defaults(iommu):
    """The missing flags are some of the expected, and what the role writes has none missing any more."""
    for text in texts("GRUB's defaults", GRUB, 3):
        missing = iommu.read("__iommu_default_missing", iommu_flags=FLAGS, __iommu_default=file(text))
        assert missing in ([], FLAGS, FLAGS[:1], FLAGS[1:]), text
        regexp, replacement = replacing("Write the flags to GRUB's defaults", " ".join(missing))
        after, count = regexp.subn(replacement, text) if missing else (text, 1)
        if count:
            assert iommu.read("__iommu_default_missing", iommu_flags=FLAGS, __iommu_default=file(after)) == [], (text, after)


def test_ids_that_stay(iommu):
    """Arguments for grubby, each of which is one."""
    for text in texts("ids of vfio-pci", GRUB, 2):
        for word in iommu.read("__iommu_ids_kept", __iommu_ids=file(text)):
            assert re.match(r"^--args=vfio[-_]pci\.ids=[^\s\"']+$", word), (text, word)


def test_flags_of_boot_entries(iommu):
    """The role reports whether an entry lacks a flag; if every entry has all, none does."""
    for text in texts("grubby's entries", ENTRIES, 2):
        lack = iommu.read("__iommu_entries_lack", iommu_flags=FLAGS, __iommu_entries={"stdout": text})
        entries = re.findall(r'^args="(.*)"', text, re.MULTILINE)
        assert str(lack) == str(not entries or any(not set(FLAGS) <= set(entry.split()) for entry in entries)), text


def test_flags_in_force(iommu):
    """Of two flags of one name the last one counts, whatever else stands there."""
    for text in texts("cmdline", CMDLINES, 2):
        info = {"host": {"cmdline": text.split(), "cpu_vendor": "GenuineIntel", "iommu": {"kind": "intel"}}}
        last = {word.split("=", 1)[0]: word for word in text.split() if "=" in word}
        missing = iommu.read("__iommu_missing", iommu_info=info, iommu_flags=FLAGS)
        assert missing == [flag for flag in FLAGS if last.get(flag.partition("=")[0]) != flag], text


def test_versions_in_names_of_bundles():
    """A version is found where there is one, and it consists of numbers and dots."""
    for text in texts("names of bundles", BUNDLES, 2):
        found = supply.version_named(text, "host")
        assert re.match(r"^[0-9.]*$", found), text
    for name in BUNDLES:
        assert supply.version_named(name, "host") == "550.163.02", name
    for name, version in GUESTS.items():
        assert supply.version_named(name, "guest") == version, name
