# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of nvidia-vgpud and nvidia-vgpu-mgr."""
from __future__ import annotations

import re
import shutil
import signal
import subprocess

import build_bundle
import pytest
from bundle_support import put, run


@pytest.fixture
def vgpud(tools, host):
    put(host.root, "usr/share/nvidia/vgpu/vgpuConfig.xml", (tools.parent / "share/vgpuConfig.xml").read_text())
    return lambda: run("bash", tools / "nvidia-vgpud", NVIDIA_ROOT=host.root, NVIDIA_VGPUD_WAIT=2)


def test_vgpud_reports_and_ends(vgpud):
    done = vgpud()
    assert done.returncode == 0
    assert re.search(r"^vGPU types: \d{3}$", done.stdout, re.M)
    assert "GPU 0000:e8:00.0: vGPU types registered" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Shutdown (")


def test_vgpud_without_driver(vgpud, host):
    shutil.rmtree(host.root / "proc/driver")
    done = vgpud()
    assert done.returncode == 1
    assert "failed to open the NVIDIA driver" in done.stdout


@pytest.mark.parametrize("text, words", [(None, "failed to open"), ("<vgpuconfig>\n", "failed to parse"), ("<vgpuconfig>\n</vgpuconfig>\n", "no vGPU types")])
def test_vgpud_with_a_bad_configuration(vgpud, host, text, words):
    path = host.root / "usr/share/nvidia/vgpu/vgpuConfig.xml"
    path.unlink() if text is None else path.write_text(text)
    done = vgpud()
    assert done.returncode == 1
    assert words in done.stdout


def test_mgr_stays_until_told(tools):
    with subprocess.Popen(["bash", tools / "nvidia-vgpu-mgr"], stdout=subprocess.PIPE, text=True) as mgr:
        try:
            assert mgr.stdout.readline() == "notice: vmiop_env_log: nvidia-vgpu-mgr daemon started\n"
            with pytest.raises(subprocess.TimeoutExpired):
                mgr.wait(0.3)
            mgr.send_signal(signal.SIGTERM)
            assert mgr.wait(5) == 0
            assert "daemon stopped" in mgr.stdout.read()
        finally:
            mgr.kill()


def test_units_are_valid():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for unit in (build_bundle.HOST / "units").glob("*.service"):
        done = run("systemd-analyze", "verify", "--man=no", unit)
        complaints = [line for line in done.stdout.splitlines() if "is not executable" not in line]
        assert complaints == []
