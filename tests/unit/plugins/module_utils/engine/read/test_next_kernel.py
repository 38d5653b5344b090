# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests which kernel the next boot is expected to start and whether the driver is installed for that kernel."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import next_kernel
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

RUNNING = "6.1.0-50-amd64"


def kernels(host, *releases):
    """Creates kernels and their module directories."""
    for release in releases:
        host.put("/boot/vmlinuz-" + release, "")
        os.makedirs("%s/lib/modules/%s" % (host.root, release))


@pytest.fixture
def modules(host, monkeypatch):
    """Returns {kernel release: version of the module nvidia}. Tests change it to set the output of 'modinfo -k'."""
    versions, real = {}, host.ctx.command

    def command(argv, timeout, **more):
        if argv[:2] == ["modinfo", "-k"]:
            return Result(0, versions[argv[2]] + "\n") if argv[2] in versions else Result(1, "modinfo: ERROR: Module nvidia not found.\n")
        return real(argv, timeout, **more)

    monkeypatch.setattr(host.ctx, "command", command)
    return versions


def facts(host):
    return call(nvidia_gpu_info, host).ok["host"]["next_kernel"]


def test_no_kernel_update_waits(host, modules):
    assert facts(host) == {"release": None, "driver": None, "cmdline": None}, "without known files in /boot, nothing is reported"
    kernels(host, RUNNING, "6.1.0-9-amd64")
    assert facts(host) == {"release": RUNNING, "driver": "550.163.02", "cmdline": None}


def test_a_kernel_update_with_and_without_the_driver(host, modules):
    kernels(host, RUNNING, "6.1.0-51-amd64")
    host.put("/boot/vmlinuz-7.0.0-1-amd64", "")  # a kernel without modules is not a candidate for the next boot
    assert facts(host) == {"release": "6.1.0-51-amd64", "driver": None, "cmdline": None}
    (problem,) = call(nvidia_gpu_info, host).ok["problems"]
    assert (problem["code"], problem["severity"]) == ("next_kernel_without_driver", "warning")
    assert "dkms autoinstall -k 6.1.0-51-amd64" in problem["remedy"] and "no nvidia module" in problem["found"]
    modules["6.1.0-51-amd64"] = "550.144.02"
    assert "nvidia module has version 550.144.02" in call(nvidia_gpu_info, host).ok["problems"][0]["found"]
    modules["6.1.0-51-amd64"] = "550.163.02"
    assert call(nvidia_gpu_info, host).ok["problems"] == []


@pytest.mark.parametrize("line", ["GRUB_DEFAULT=saved", 'GRUB_DEFAULT="1>2"', "GRUB_DEFAULT='Debian, with Linux 6.1.0-50-amd64'"])
def test_another_default_is_not_guessed_at(host, modules, line):
    kernels(host, RUNNING, "6.1.0-51-amd64")
    host.put("/etc/default/grub", line + "\n")
    assert facts(host) == {"release": None, "driver": None, "cmdline": None}


def test_red_hats_entries(host, modules):
    for number in (427, 503):
        release = "5.14.0-%d.el9.x86_64" % number
        host.put("/boot/loader/entries/abc-%s.conf" % release, "title RHEL\nversion %s\nlinux /vmlinuz-%s\n" % (release, release))
    host.put("/boot/loader/entries/abc-0-rescue.conf", "version 0-rescue-abc\n")
    assert facts(host)["release"] == "5.14.0-503.el9.x86_64"
    host.put("/boot/grub2/grubenv", "# GRUB Environment Block\nsaved_entry=abc-5.14.0-427.el9.x86_64\nboot_success=1\n")
    assert facts(host)["release"] == "5.14.0-427.el9.x86_64"
    host.put("/boot/grub2/grubenv", "saved_entry=gone\n")
    assert facts(host)["release"] is None


GRUB_CFG = """menuentry 'Debian GNU/Linux' --class debian {
\tlinux\t/boot/vmlinuz-6.1.0-51-amd64 root=UUID=1 ro  quiet intel_iommu=on
\tinitrd\t/boot/initrd.img-6.1.0-51-amd64
}
submenu 'Advanced options' {
\tmenuentry 'older' {
\t\tlinux\t/boot/vmlinuz-6.1.0-50-amd64 root=UUID=1 ro single
\t}
}
"""


def test_flags_of_the_next_boot(host, modules):
    kernels(host, RUNNING, "6.1.0-51-amd64")
    host.put("/boot/grub/grub.cfg", GRUB_CFG)
    assert facts(host)["cmdline"] == ["root=UUID=1", "ro", "quiet", "intel_iommu=on"]
    host.put("/boot/grub/grub.cfg", "menuentry x {\n}\n")
    assert facts(host)["cmdline"] is None
    for name, options in (("a-1", "root=/dev/sda1 ro iommu=pt"), ("a-2", "$kernelopts")):
        host.put("/boot/loader/entries/%s.conf" % name, "version 5.14.0-%s.el9\noptions %s\n" % (name, options))
    assert facts(host)["cmdline"] is None, "the values of GRUB variables must not be guessed"
    host.put("/boot/grub2/grubenv", "saved_entry=a-1\n")
    assert facts(host)["cmdline"] == ["root=/dev/sda1", "ro", "iommu=pt"]


@pytest.mark.parametrize("name, line", [("pin.cfg", 'GRUB_DEFAULT="gnulinux-advanced>x"'), ("top.cfg", "GRUB_TOP_LEVEL=/boot/vmlinuz-6.1.0-50-amd64")])
def test_a_default_in_a_drop_in_is_not_guessed_at(host, modules, name, line):
    kernels(host, RUNNING, "6.1.0-51-amd64")
    host.put("/etc/default/grub.d/" + name, line + "\n")
    assert facts(host)["release"] is None
    host.put("/etc/default/grub.d/" + name, "")
    assert facts(host)["release"] == "6.1.0-51-amd64"
    host.put("/boot/grub/grubenv", "next_entry=1\n")  # grub-reboot selected this entry
    assert facts(host)["release"] is None


def test_entries_of_systemd_boot(host, modules):
    host.kernel.loader, host.kernel.cmdline = "systemd-boot 252.30", "initrd=x root=/dev/sda1"
    for release, flag in (("6.1.0-50-amd64", "old"), ("6.1.0-51-amd64", "new")):
        host.put("/efi/loader/entries/a-%s.conf" % release, "version %s\noptions root=/dev/sda1 ro\noptions %s\nlinux /x\n" % (release, flag))
    host.put("/efi/loader/entries/other.conf", "version 9.9\noptions root=/dev/sdb1\nlinux /y\n")
    assert facts(host) == {"release": "6.1.0-51-amd64", "driver": None, "cmdline": ["root=/dev/sda1", "ro", "new"]}
    host.put("/efi/loader/loader.conf", "timeout 3\ndefault a-*-50-*\n")
    assert facts(host)["cmdline"] == ["root=/dev/sda1", "ro", "old"]


@pytest.mark.parametrize("loader", ["rEFInd 0.14.0", "ZFSBootMenu 2.3"])
def test_an_unsupported_boot_loader_tells_nothing_of_the_next_boot(host, modules, loader):
    kernels(host, RUNNING)
    host.put("/boot/grub/grub.cfg", GRUB_CFG)
    host.kernel.loader = loader
    assert facts(host) == {"release": None, "driver": None, "cmdline": None}


def test_what_lies_on_proxmox_partitions_is_not_known(host, modules):
    kernels(host, "6.1.0-51-amd64")
    host.put("/boot/grub/grub.cfg", GRUB_CFG)
    assert facts(host)["cmdline"] is not None
    host.put("/etc/kernel/proxmox-boot-uuids", "ABCD-1234\n")
    assert facts(host) == {"release": "6.1.0-51-amd64", "driver": None, "cmdline": None}


def test_order():
    names = ["6.1.0-9-amd64", "6.1.0-50-amd64", "6.12.0-1-amd64", "6.1.0-50-cloud-amd64"]
    assert max(names, key=next_kernel.order) == "6.12.0-1-amd64" and max(names[:2], key=next_kernel.order) == "6.1.0-50-amd64"
