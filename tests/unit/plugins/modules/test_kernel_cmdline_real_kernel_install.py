# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests with systemd's own kernel-install: entries that it creates, and kernels that are installed after the flags were set.

The tests do not change the machine on which they run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_kernel_cmdline
from ansible_collections.vgpu.kvm.tests.unit.fake import boot
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import MACHINE_ID

pytestmark = pytest.mark.skipif(not shutil.which("kernel-install"), reason="requires kernel-install")
NEWER = "6.1.0-99-amd64"
KINDS = [("systemd-boot", "/boot"), ("systemd-boot", "/efi"), ("systemd-boot", "/boot/efi"), ("redhat", "/boot")]


def install(host, place, release):
    """Installs a kernel like its package would. Returns the path of the boot loader entry."""
    image = Path(host.root) / ("boot/vmlinuz-" + release)
    image.write_bytes(b"")
    (Path(host.root + place) / MACHINE_ID).mkdir(exist_ok=True)
    etc, root = host.root + "/etc/kernel", host.root + place
    environment = {"PATH": os.environ["PATH"], "KERNEL_INSTALL_CONF_ROOT": etc, "BOOT_ROOT": root, "MACHINE_ID": MACHINE_ID}
    done = subprocess.run(["kernel-install", "add", release, str(image)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return "%s/loader/entries/%s-%s.conf" % (place, MACHINE_ID, release)


def options(host, entry):
    """Returns the kernel command line of an entry as a list of words."""
    return [word for line in host.get(entry).splitlines() if line.split()[0] == "options" for word in line.split()[1:]]


@pytest.mark.parametrize(("kind", "place"), KINDS)
def test_flags_in_entries_that_are_there_and_that_come(make_host, kind, place):
    host = boot.systemd_boot(make_host(), place=place + "/loader") if kind == "systemd-boot" else boot.redhat(make_host())
    shutil.rmtree("%s%s/loader/entries" % (host.root, place))
    host.put("/etc/kernel/cmdline", "root=/dev/sda1 ro quiet\n")
    host.put("/etc/kernel/install.conf", "layout=bls\n")
    there = install(host, place, boot.RELEASE)
    before = options(host, there)
    done = call(nvidia_kernel_cmdline, host, flags=boot.FLAGS).ok
    assert done["changed"] and options(host, there)[-2:] == boot.FLAGS
    came = install(host, place, NEWER)
    assert [word for word in options(host, came) if word in boot.FLAGS] == boot.FLAGS
    assert not call(nvidia_kernel_cmdline, host, flags=boot.FLAGS).ok["changed"]
    assert call(nvidia_kernel_cmdline, host, flags=boot.FLAGS, state="absent").ok["changed"]
    assert options(host, there) == before and "iommu" not in host.get(came) + host.get("/etc/kernel/cmdline")
