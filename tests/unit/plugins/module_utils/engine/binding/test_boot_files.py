# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests which lines bind a GPU at boot, and how edits remove these lines."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import boot_files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding.boot_files import BootFiles


class Gpu:
    """The GPU attributes that the edits read."""

    def __init__(self, device_id="0x2235", address="0000:e8:00.0"):
        self.device_id = device_id
        self.address = address


A40, T4 = Gpu(), Gpu("0x1eb8", "0000:3b:00.0")
CONF = "/etc/modprobe.d/vfio.conf"
GRUB = "/etc/default/grub"


def edited(text, gpus=(A40,), path=CONF):
    """Returns the edited text, or the unchanged text if no edit is needed."""
    boot = BootFiles({path: text}, {}, {}) if "modprobe" in path else BootFiles({}, {path: text}, {})
    causes, edits, dummy = boot_files.causes_and_edits(boot, list(gpus))
    assert bool(causes) == bool(edits)
    return edits[0].after if edits else text


@pytest.mark.parametrize(
    "before, after",
    [
        ("options vfio-pci ids=10de:2235\n", ""),
        ("options vfio_pci ids=10de:2235\n", ""),
        ("options vfio-pci ids=10DE:2235 disable_vga=1\n", "options vfio-pci disable_vga=1\n"),
        ("options vfio-pci disable_vga=1 ids=0x10de:0x2235\n", "options vfio-pci disable_vga=1\n"),
        ("options vfio-pci ids=8086:1572,10de:2235,10de:1eb8\n", "options vfio-pci ids=8086:1572,10de:1eb8\n"),
        ("options vfio-pci ids=10de:2235:10de:145a\n", ""),
        ("options vfio-pci ids=10de:2235,10de:2235\n", ""),
        ("# ids=10de:2235\n  options  vfio-pci  ids=10de:2235,8086:1\nblacklist x\n", "# ids=10de:2235\n  options  vfio-pci  ids=8086:1\nblacklist x\n"),
        ("options vfio-pci ids=10de:2235", ""),
    ],
)
def test_ids_go_and_the_rest_stays(before, after):
    assert edited(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "#options vfio-pci ids=10de:2235\n",
        "options vfio-pci ids=10de:1eb8\n",
        "options vfio-pci ids=8086:2235\n",
        "options vfio-pci ids=10de:22355\n",
        "options vfio ids=10de:2235\n",
        "options vfio-pci disable_vga=1\n",
        "softdep nvidia pre: vfio-pci\n",
        "",
    ],
)
def test_other_lines_are_no_cause(text):
    assert edited(text) == text


@pytest.mark.parametrize(
    "before, after",
    [
        ('GRUB_CMDLINE_LINUX="vfio-pci.ids=10de:2235"\n', 'GRUB_CMDLINE_LINUX=""\n'),
        ('GRUB_CMDLINE_LINUX_DEFAULT="quiet vfio_pci.ids=10de:2235 iommu=pt"\n', 'GRUB_CMDLINE_LINUX_DEFAULT="quiet iommu=pt"\n'),
        ("GRUB_CMDLINE_LINUX='vfio-pci.ids=8086:1572,10de:2235'\n", "GRUB_CMDLINE_LINUX='vfio-pci.ids=8086:1572'\n"),
        ('# GRUB_CMDLINE_LINUX="vfio-pci.ids=10de:2235"\n', '# GRUB_CMDLINE_LINUX="vfio-pci.ids=10de:2235"\n'),
        ('GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX="quiet"\n', 'GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX="quiet"\n'),
    ],
)
def test_grub(before, after):
    assert edited(before, path=GRUB) == after


def test_causes_name_line_and_file():
    boot = BootFiles({CONF: "options vfio-pci ids=10de:2235\n", "/usr/lib/modprobe.d/pkg.conf": "options vfio-pci ids=10de:2235\n"}, {}, {})
    causes, edits, touched = boot_files.causes_and_edits(boot, [A40])
    assert [one.as_dict() for one in causes][0] == {"path": CONF, "line": "options vfio-pci ids=10de:2235", "what": "vfio-pci binds to 10de:2235"}
    assert [(one.path, one.editable) for one in causes] == [(CONF, True), ("/usr/lib/modprobe.d/pkg.conf", False)]
    assert [one.path for one in edits] == [CONF] and touched == []


def test_gpus_of_others_that_share_the_id_are_named():
    boot = BootFiles({CONF: "options vfio-pci ids=10de:2235\n"}, {}, {})
    assert boot_files.causes_and_edits(boot, [A40], [Gpu(address="0000:e9:00.0"), T4])[2] == ["0000:e9:00.0"]


def test_driverctl():
    boot = BootFiles({}, {}, {"/etc/driverctl.d/0000:e8:00.0": "vfio-pci\n", "/etc/driverctl.d/0000:01:00.0": "vfio-pci\n"})
    causes, edits, dummy = boot_files.causes_and_edits(boot, [A40, T4])
    assert [one.what for one in causes] == ["driverctl binds 0000:e8:00.0 to vfio-pci"]
    assert [(one.path, one.after) for one in edits] == [("/etc/driverctl.d/0000:e8:00.0", None)]


def test_nouveau_is_blacklisted_unless_it_already_is():
    edit = boot_files.nouveau_edit(BootFiles({CONF: "# blacklist nouveau\nblacklist nouveaux\n"}, {}, {}))
    assert edit.path == boot_files.NOUVEAU_FILE and "blacklist nouveau" in edit.after.splitlines()
    for text in ("blacklist nouveau\n", "  blacklist   nouveau # mine\n", "install nouveau /bin/false\n", boot_files.NOUVEAU_TEXT):
        assert boot_files.nouveau_edit(BootFiles({CONF: text}, {}, {})) is None


def test_a_file_that_goes_with_another_driver_does_not_keep_nouveau_from_loading():
    """The driver packages of Debian and Ubuntu block nouveau only until the vGPU driver replaces them.

    The file from NVIDIA's .run installer blocks nouveau permanently.
    """
    for name in ("nvidia-blacklists-nouveau.conf", "nvidia-graphics-drivers.conf", "nvidia.conf"):
        assert boot_files.nouveau_edit(BootFiles({"/etc/modprobe.d/" + name: "blacklist nouveau\n"}, {}, {})), name
    for name in ("nvidia-installer-disable-nouveau.conf", "nvidia-vgpu-nouveau.conf"):
        assert boot_files.nouveau_edit(BootFiles({"/etc/modprobe.d/" + name: "blacklist nouveau\n"}, {}, {})) is None, name


def test_files_are_read_from_all_paths(host):
    host.put("/run/modprobe.d/a.conf", "options vfio-pci ids=10de:2235\n")
    host.put("/etc/modprobe.d/readme.txt", "options vfio-pci ids=10de:2235\n")
    host.put("/etc/default/grub.d/50-x.cfg", 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX vfio-pci.ids=10de:2235"\n')
    host.put("/etc/driverctl.d/0000:e8:00.0", "vfio-pci\n")
    boot = boot_files.read(host.root)
    assert sorted(boot.modprobe) == ["/etc/modprobe.d/nouveau.conf", "/run/modprobe.d/a.conf"]
    assert sorted(boot.grub) == ["/etc/default/grub", "/etc/default/grub.d/50-x.cfg"]
    causes, edits, dummy = boot_files.causes_and_edits(boot, [A40])
    assert len(causes) == 3 and len(edits) == 2


IDS = st.lists(st.sampled_from(["10de:2235", "10DE:2235", "0x10de:2235", "10de:1eb8", "8086:1572", "10de:2235:1028:1", "10de:223"]), min_size=1, max_size=4)
LINES = st.one_of(
    IDS.map(lambda ids: "options vfio-pci ids=%s" % ",".join(ids)),
    IDS.map(lambda ids: "options vfio_pci disable_vga=1 ids=%s  disable_idle_d3=1" % ",".join(ids)),
    IDS.map(lambda ids: "# options vfio-pci ids=%s" % ",".join(ids)),
    st.sampled_from(["", "blacklist nouveau", "options kvm nested=1", "  # comment", "options nvidia NVreg_X=1"]),
)
GRUB_LINES = st.one_of(
    IDS.map(lambda ids: 'GRUB_CMDLINE_LINUX="quiet vfio-pci.ids=%s iommu=pt"' % ",".join(ids)),
    IDS.map(lambda ids: "GRUB_CMDLINE_LINUX_DEFAULT='vfio_pci.ids=%s'" % ",".join(ids)),
    st.sampled_from(["", "GRUB_TIMEOUT=5", "# GRUB_CMDLINE_LINUX=x", 'GRUB_CMDLINE_LINUX="a  b"']),
)


def is_a40(word):
    """Returns whether an ID matches the A40. The implementation is independent of the engine's."""
    return re.match(r"^(0x)?10de:2235(:|$)", word, re.IGNORECASE) is not None


def ids_in(text):
    """Returns the IDs in all lines that are not comments."""
    live = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [word for found in re.findall(r"ids=([^ \"'\n]+)", live) for word in found.split(",")]


@pytest.mark.parametrize("path, lines", [(CONF, LINES), (GRUB, GRUB_LINES)])
@given(data=st.data())
def test_edits_take_these_ids_alone_and_a_second_edit_nothing(path, lines, data):
    text = "".join(line + "\n" for line in data.draw(st.lists(lines, max_size=5)))
    after = edited(text, path=path)
    assert edited(after, path=path) == after
    assert ids_in(after) == [word for word in ids_in(text) if not is_a40(word)]
    untouched = [line for line in text.splitlines() if line.lstrip().startswith("#") or not any(map(is_a40, ids_in(line)))]
    kept = iter(after.splitlines())
    assert all(line in kept for line in untouched), "lines without these IDs must stay in their order"
    for word in ("disable_vga=1", "disable_idle_d3=1", "quiet", "iommu=pt"):
        assert after.count(word) == text.count(word)
