# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the bundle's packages in a chroot of the twin's root tree: DKMS, the .deb, and uninstallation, without emulation."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from twinlib import bundle, image
from twinlib.run import as_root, run

pytestmark = pytest.mark.booted  # boots no machine, but requires the output of `twin build`

VERSION = "550.163.02"
FILES = ("/usr/lib/nvidia/sriov-manage", "/usr/bin/nvidia-smi", "/usr/bin/nvidia-vgpud", "/usr/bin/nvidia-vgpu-mgr")
# The tree is the lower layer of a temporary overlay, so the tests neither copy nor change it.
INSIDE = r"""
set -eu
layers=$1 tree=$2 script=$3
mount -t tmpfs tmpfs "$layers"; mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
mount -t proc proc "$layers/root/proc"; mount --bind /dev "$layers/root/dev"; mount -t tmpfs tmpfs "$layers/root/tmp"
cp -r "$layers.bundle" "$layers/root/root/bundle"
exec chroot "$layers/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -euc "$script"
"""


@pytest.fixture(scope="module")
def built():
    return image.build(image.SYSTEMS["debian12"])


@pytest.fixture
def in_tree(tmp_path, built):
    """Return a function that runs a shell script as root in the tree. $KVER is the tree's kernel. /root/bundle contains the unpacked bundle."""
    layers = tmp_path / "layers"
    layers.mkdir()
    shutil.unpack_archive(bundle.path(built), f"{layers}.bundle")

    def call(script: str) -> str:
        command = ["unshare", "-m", "bash", "-c", INSIDE, "bash", str(layers), str(built.tree), f"KVER={built.kernel_version}\n{script}"]
        return run(as_root(command))

    yield call
    subprocess.run(as_root(["rm", "-rf", str(layers), f"{layers}.bundle"]), check=True)


def test_run_through_dkms_and_uninstall(in_tree):
    out = in_tree(f"""
        sh /root/bundle/Host_Drivers/*-vgpu-kvm.run --silent --dkms --skip-module-load --kernel-name=$KVER >/tmp/out 2>&1 || {{ cat /tmp/out; exit 1; }}
        dkms status -k $KVER; modinfo -k $KVER -F version nvidia
        ls {' '.join(FILES)}; grep -c . /var/log/nvidia-installer.log; ls /etc/systemd/system/multi-user.target.wants | grep nvidia
        nvidia-uninstall --silent
        dkms status -k $KVER; modinfo -k $KVER -F version nvidia 2>/dev/null || echo gone
        ls {' '.join(FILES)} 2>/dev/null || echo no files""")
    lines = out.splitlines()
    assert lines[0].startswith(f"nvidia/{VERSION}, ") and lines[0].endswith(": installed"), out
    assert lines[1] == VERSION and set(FILES) <= set(lines), out
    assert {"nvidia-vgpud.service", "nvidia-vgpu-mgr.service"} <= set(lines), out
    assert lines[-2:] == ["gone", "no files"], out


def test_deb_and_its_removal(in_tree):
    out = in_tree(f"""
        dpkg -i /root/bundle/Host_Drivers/*.deb >/tmp/out 2>&1 || {{ cat /tmp/out; exit 1; }}
        modinfo -k $KVER -F version nvidia; ls {' '.join(FILES)}; systemctl is-enabled nvidia-vgpud nvidia-vgpu-mgr
        sh /root/bundle/Host_Drivers/*-vgpu-kvm.run --silent --skip-module-load --kernel-name=$KVER >/tmp/out 2>&1 && echo both || echo refused
        grep -o 'alternate driver installation' /tmp/out
        dpkg -P $(dpkg-query -f '${{Package}}\\n' -W 'nvidia-vgpu*') >/dev/null 2>&1
        modinfo -k $KVER -F version nvidia 2>/dev/null || echo gone""")
    lines = out.splitlines()
    assert lines[0] == VERSION and set(FILES) <= set(lines) and lines.count("enabled") == 2, out
    assert lines[-3:] == ["refused", "alternate driver installation", "gone"], out


def test_a_dkms_build_without_headers_leaves_nothing(in_tree):
    out = in_tree(f"""
        rm -rf /lib/modules/$KVER/build
        sh /root/bundle/Host_Drivers/*-vgpu-kvm.run --silent --dkms --skip-module-load --kernel-name=$KVER >/tmp/out 2>&1 && echo ok || echo failed
        cat /tmp/out; ls {' '.join(FILES)} 2>/dev/null || echo no files""")
    assert out.splitlines()[0] == "failed" and "kernel source tree" in out and out.splitlines()[-1] == "no files", out
