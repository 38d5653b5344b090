# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests vgpuctl doctor, which prints problems as text, and vgpuctl metrics, which writes numbers for Prometheus."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import restore_record
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.prometheus import metrics

LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


@pytest.fixture
def made(host):
    """Returns a host with two vGPUs. One vGPU is in use."""
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    host.kernel.use(host.vgpus()[0][0])
    return host


def test_doctor_of_a_host_without_the_restore(made, command):
    status, out, dummy = command(made, "doctor", "--json")
    printed = json.loads(out)
    assert [one["code"] for one in printed["problems"]] == ["restore_not_enabled"] and not printed["healthy"] and status == 1


def test_doctor_prints_what_to_do(made, command):
    made.reboot()
    made.pf().driver = "nvidia"
    status, out, dummy = command(made, "doctor")
    assert status == 1
    lines = ("ERROR  0000:e8:00.0  [vfs_missing]", "  found     the VFs are disabled", "  expected  32 VFs", "  do        Run 'vgpuctl restore'")
    for words in (*lines, "2 stored for the next boot"):
        assert words in out, out
    assert all(len(line) <= 110 for line in out.splitlines())


def test_metrics(made, command):
    found = metrics(command(made, "metrics")[1])
    gpu = 'gpu="0000:e8:00.0"'
    assert found["nvidia_vgpu_gpu_info", 'driver="nvidia",framework="mdev",%s,model="A40"' % gpu] == 1
    assert found["nvidia_vgpu_gpu_framebuffer_bytes", gpu] == found["nvidia_vgpu_gpu_framebuffer_assigned_bytes", gpu] == 48 * 1024**3
    assert (found["nvidia_vgpu_vfs", gpu], found["nvidia_vgpu_vfs_supported", gpu], found["nvidia_vgpu_vfs_used", gpu]) == (32, 32, 2)
    kind = gpu + ',type="A40-24Q"'
    assert [found["nvidia_vgpu_" + name, kind] for name in ("expected", "present", "in_use")] == [2, 2, 1]
    assert found["nvidia_vgpu_problems", 'code="restore_not_enabled",severity="error"'] == 1
    assert abs(found["nvidia_vgpu_metrics_timestamp_seconds", ""] - time.time()) < 60
    assert ("nvidia_vgpu_restore_failures", "") not in found


def test_metrics_after_a_reboot_and_a_restore(made, command):
    made.reboot()
    made.pf().driver = "nvidia"
    kind = 'gpu="0000:e8:00.0",type="A40-24Q"'
    found = metrics(command(made, "metrics")[1])
    assert (found["nvidia_vgpu_expected", kind], found["nvidia_vgpu_present", kind]) == (2, 0)
    assert command(made, "restore", "--settle", "1")[0] == 0
    found = metrics(command(made, "metrics")[1])
    assert found["nvidia_vgpu_present", kind] == 2 and found["nvidia_vgpu_restore_failures", ""] == 0
    assert found["nvidia_vgpu_restore_vgpus", ""] == 2 and found["nvidia_vgpu_restore_vgpus_after_seconds", ""] >= 0
    assert found["nvidia_vgpu_restore_duration_seconds", ""] > 0 and found["nvidia_vgpu_restore_timestamp_seconds", ""] > 1e9
    made.put(restore_record.PATH, "{")
    assert ("nvidia_vgpu_restore_failures", "") not in metrics(command(made, "metrics")[1])


def test_what_is_stored_for_a_gpu_that_is_gone_is_still_expected(made, command):
    kind = 'gpu="0000:e8:00.0",type="A40-24Q"'
    made.reboot()
    made.kernel.devices.pop(made.pf().address)
    found = metrics(command(made, "metrics")[1])
    assert (found["nvidia_vgpu_expected", kind], found["nvidia_vgpu_present", kind], found["nvidia_vgpu_in_use", kind]) == (2, 0, 0)
    assert ("nvidia_vgpu_gpu_alive", 'gpu="0000:e8:00.0"') not in found
    assert found["nvidia_vgpu_problems", 'code="gpu_gone",severity="error"'] == 1


def test_metrics_into_a_file_of_this_directory(made, command, monkeypatch):
    os.makedirs(made.root + made.root)  # the current directory, as a path in the fake host's root
    monkeypatch.chdir(made.root)
    assert command(made, "metrics", "--output", "nvidia_vgpu.prom") == (0, "", "")
    assert metrics(made.get(made.root + "/nvidia_vgpu.prom"))


def test_metrics_into_a_file(made, command):
    path = "/var/lib/prometheus/node-exporter/nvidia_vgpu.prom"
    status, dummy, err = command(made, "metrics", "--output", path)
    assert status == 1 and "vgpu_metrics_directory" in err
    os.makedirs(os.path.dirname(made.root + path))
    status, dummy, err = command(made, "metrics", "--output", path[:-5])
    assert status == 1 and "*.prom" in err
    assert command(made, "metrics", "--output", path) == (0, "", "")
    assert metrics(made.get(path)) and stat.S_IMODE(os.stat(made.root + path).st_mode) == 0o644
    assert os.listdir(os.path.dirname(made.root + path)) == ["nvidia_vgpu.prom"]


def test_metrics_sweep_what_a_killed_run_left(made, command):
    """vgpuctl metrics removes only old temporary files, because another run might be writing its file at the same time."""
    directory = "/var/lib/prometheus/node-exporter"
    for name, age in ((".vgpu-old", 7200), (".vgpu-new", 10), (".other", 7200)):
        made.put("%s/%s" % (directory, name), "half")
        os.utime(made.root + "%s/%s" % (directory, name), (time.time() - age,) * 2)
    assert command(made, "metrics", "--output", directory + "/nvidia_vgpu.prom")[0] == 0
    assert sorted(os.listdir(made.root + directory)) == [".other", ".vgpu-new", "nvidia_vgpu.prom"]


def test_a_gpu_off_the_bus_is_counted(made, command):
    made.pf().off_bus = True
    found = metrics(command(made, "metrics")[1])
    assert found["nvidia_vgpu_gpu_alive", 'gpu="0000:e8:00.0"'] == 0 and found["nvidia_vgpu_problems", 'code="gpu_off_bus",severity="error"'] == 1


def test_metrics_as_json(made, command):
    samples = json.loads(command(made, "metrics", "--json")[1])
    assert {"name": "nvidia_vgpu_vfs", "value": 32, "labels": {"gpu": "0000:e8:00.0"}} in samples
