# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests vgpuctl metrics: the usage of GPUs and vGPUs, and an nvidia-smi that hangs or prints contradictory or unknown values."""

from __future__ import annotations

import pathlib
import re

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli.metrics_names import METRICS, PREFIX
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.kernel import Process
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S
from ansible_collections.vgpu.kvm.tests.unit.fake.nvidia_smi import Program
from ansible_collections.vgpu.kvm.tests.unit.fake.prometheus import metrics

GPU = "0000:e8:00.0"
LOAD = {
    "gpu": 37, "memory": 12, "encoder": 3, "used": 2048, "driver": "550.163.01", "license": "Licensed (Expiry: 2027-3-19 7:29:4 GMT)",
    "frames": "60 FPS", "vm_uuid": "11111111-2222-3333-4444-555555555555",
}


@pytest.fixture
def made(host):
    """Returns a host with two vGPUs. One vGPU is under load."""
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]).ok
    host.key = host.vgpus()[0][0]
    host.kernel.use(host.key)
    host.load = {host.key: dict(LOAD), GPU: {"gpu": 41, "SW Power Cap": "Active", "DRAM Uncorrectable": 2}}
    return host


def shown(command, host, *words):
    """Returns the metrics as {(name without prefix, labels): value}."""
    host.calls.clear()
    status, out, err = command(host, "metrics", *words)
    assert (status, err) == (0, "")
    return {(name[len(PREFIX):], labels): value for (name, labels), value in metrics(out).items()}


def of(found, name):
    """Returns the values of a metric, by labels."""
    return {labels: value for (one, labels), value in found.items() if one == name}


def asked(host):
    """Returns the arguments of each nvidia-smi call."""
    return [" ".join(call[1:]) for call in host.calls if call[0].endswith("nvidia-smi")]


def _other(out):
    """Returns the output with each vGPU's UUID replaced by one that the kernel does not list."""
    lines = [line if "MDEV UUID" not in line else line[:-1] + ("0" if line[-1] != "0" else "1") for line in out.splitlines()]
    return "\n".join(lines)


def test_a_vgpu_at_work(made, command):
    found = shown(command, made)
    where = 'gpu="%s",vgpu="%s"' % (GPU, made.key)
    engines = {engine: found["utilization_ratio", 'engine="%s",%s' % (engine, where)] for engine in ("gpu", "memory", "encoder", "decoder")}
    assert engines == {"gpu": 0.37, "memory": 0.12, "encoder": 0.03, "decoder": 0}
    assert found["framebuffer_bytes", where] == 24 * 1024**3 and found["framebuffer_used_bytes", where] == 2 * 1024**3
    assert found["licensed", where] == 1 and found["license_expiry_timestamp_seconds", where] == 1805441344
    assert found["frame_rate_limit", where] == 60
    labels = ('gpu="%s"' % GPU, 'guest_driver="550.163.01"', 'vgpu="%s"' % made.key, 'vm="web1"', 'vm_uuid="11111111-2222-3333-4444-555555555555"')
    assert of(found, "vm_info") == {",".join(labels): 1} and len(of(found, "info")) == 2


def test_a_gpu_at_work(made, command):
    found = shown(command, made)
    gpu = 'gpu="%s"' % GPU
    assert found["gpu_utilization_ratio", 'engine="gpu",' + gpu] == 0.41
    assert found["gpu_framebuffer_used_bytes", gpu] == 24 * 1024**3 and found["gpu_framebuffer_free_bytes", gpu] > 0
    assert found["gpu_throttled", gpu + ',reason="power_cap"'] == 1 and found["gpu_throttled", gpu + ',reason="thermal"'] == 0
    assert found["gpu_ecc_enabled", gpu] == 1 and found["gpu_ecc_errors_total", gpu + ',kind="uncorrectable"'] == 2
    assert found["gpu_temperature_celsius", gpu] == 31 and found["gpu_power_watts", gpu] == 22
    assert found["scrape_success", 'query="gpus"'] == found["scrape_success", 'query="vgpus"'] == 1
    assert not of(found, "scrape_error") and found["scrape_duration_seconds", ""] >= 0


@pytest.mark.parametrize("status, value", [("Unlicensed (Restricted)", 0), ("Unlicensed", 0), ("N/A (Expiry: N/A)", None), ("Lizenziert", None)])
def test_a_license_is_lost_only_where_the_driver_says_so(made, command, status, value):
    made.load[made.key]["license"] = status
    assert list(of(shown(command, made), "licensed").values()) == ([] if value is None else [value])


def test_each_query_runs_once_whatever_the_number_of_gpus(tmp_path, command):
    host = Host(tmp_path, gpus=[("0000:%02x:00.0" % bus, A40) for bus in range(16, 24)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]).ok
    for number, (key, *dummy) in enumerate(host.vgpus()):
        host.kernel.use(key, pid=5000 + number, name="vm%d" % number)
    found = shown(command, host)
    assert asked(host) == ["-q", "vgpu -q"] and len(of(found, "vm_info")) == 16
    host.pf("0000:11:00.0").off_bus = True
    found = shown(command, host)
    assert len(asked(host)) == 2 and all("0000:11:00.0" not in words and "0000:12:00.0" in words for words in asked(host))
    assert of(found, "scrape_success") == {'query="gpus"': 1, 'query="vgpus"': 1} and len(of(found, "gpu_temperature_celsius")) == 7


def test_vgpus_without_uuids_are_known_by_their_vm_if_that_is_certain(tmp_path, command):
    host = Host(tmp_path, gpus=[(GPU, L40S)], vendor_vfio=True).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-12Q", "count": 3}]}]).ok
    parents = [parent for dummy, parent, dummy2 in host.vgpus()]
    for number, (key, *dummy) in enumerate(host.vgpus()):
        host.kernel.use(key, pid=5000 + number, name=("one", "two", "two")[number])
    host.load = {parent: {"gpu": 10 * number + 10} for number, parent in enumerate(parents)}
    found = of(shown(command, host), "utilization_ratio")
    engine = 'engine="gpu",gpu="%s",vgpu="%%s"' % GPU
    assert found[engine % parents[0]] == 0.1
    others = {labels: value for labels, value in found.items() if labels.startswith('engine="gpu"') and value > 0.1}
    assert sorted(others.values()) == [0.2, 0.3] and not any(parent in labels for labels in others for parent in parents), "one VM's vGPUs cannot be matched"


def test_what_hangs_has_one_deadline_and_costs_nothing_else(made, command):
    def hangs(argv, timeout):
        made.clock.pause(timeout)
        return Result(124, "", True)

    made.programs["nvidia-smi"] = hangs
    found = shown(command, made, "--timeout", "3")
    assert of(found, "scrape_error") == {'query="gpus",reason="timeout"': 1, 'query="vgpus",reason="timeout"': 1}
    assert found["scrape_duration_seconds", ""] <= 4 and len(asked(made)) == 1
    assert list(of(found, "present").values()) == [2] and list(of(found, "in_use").values()) == [1] and "vm=\"web1\"" in str(of(found, "vm_info"))


def test_what_hangs_in_the_kernel_is_not_joined_by_another_each_minute(made, command):
    """SIGKILL does not stop an nvidia-smi that hangs in the kernel. The systemd timer must not start another nvidia-smi every minute."""
    made.kernel.add_process(4242, "nvidia-smi", ["nvidia-smi", "-q"], [])
    made.programs["nvidia-smi"] = lambda argv, timeout: Result(124, "nvidia-smi did not exit, even after SIGKILL", True, 4242)
    shown(command, made)
    assert len(asked(made)) == 1
    made.ctx.smi_hung.clear()  # the next scrape runs in a new process
    made.ctx.smi_stuck = made.ctx.smi_silent = None
    found = shown(command, made)
    assert not asked(made) and of(found, "scrape_error") == {'query="gpus",reason="timeout"': 1, 'query="vgpus",reason="timeout"': 1}
    made.kernel.add_process(4242, "other", ["other"], [])
    made.kernel.processes[4242].directory = Process(4243, "other", ["other"], []).directory  # another process now has that PID
    del made.programs["nvidia-smi"]
    made.ctx.smi_silent = None
    assert of(shown(command, made), "scrape_success") == {'query="gpus"': 1, 'query="vgpus"': 1}


@pytest.mark.parametrize(
    "change, query, reason",
    [
        (lambda out: out.replace("Active vGPUs                          : 1", "Active vGPUs : 3"), "vgpus", "unreadable"),
        (lambda out: out.replace("vGPU", "Virtual GPU"), "vgpus", "unreadable"),
        (_other, "vgpus", "contradiction"),
        (lambda out: out.replace("Used                          : 2048 MiB", "Used : 999999 MiB"), "vgpus", "contradiction"),
        (lambda out: out.replace("FB Memory Usage", "Speicher").replace("Utilization", "Auslastung"), "gpus", "unreadable"),
    ],
)
def test_what_lies_or_has_other_words_is_reported_and_breaks_nothing(made, command, change, query, reason):
    real = Program(made)
    made.programs["nvidia-smi"] = lambda argv, timeout: Result(0, change(real.run(argv, timeout).out))
    found = shown(command, made)
    assert 'query="%s",reason="%s"' % (query, reason) in of(found, "scrape_error") and found["scrape_success", 'query="%s"' % query] == 0
    assert list(of(found, "present").values()) == [2] and len(of(found, "info")) == 2 and len(of(found, "vm_info")) == 1


def _changed(made, change):
    real = Program(made)
    made.programs["nvidia-smi"] = lambda argv, timeout: Result(0, change(real.run(argv, timeout).out))


def _twice(out):
    """Returns the output with each vGPU listed twice."""
    begin = out.find("    vGPU ID")
    return out if begin < 0 else out.replace("Active vGPUs                          : 1", "Active vGPUs : 2") + out[begin:]


def test_a_vgpu_that_is_listed_twice_is_left_out(made, command):
    """If nvidia-smi lists a vGPU twice, it is unknown which entry is correct."""
    _changed(made, _twice)
    found = shown(command, made)
    assert of(found, "scrape_error") == {'query="vgpus",reason="contradiction"': 1}
    assert not of(found, "framebuffer_used_bytes") and len(of(found, "vm_info")) == 1 and len(of(found, "info")) == 2


@pytest.mark.parametrize(
    "old, new, query, name",
    [
        (r"Used +: 2048 MiB", "Used : 999999 MiB", "vgpus", "framebuffer_used_bytes"),
        (r"Used +: 24576 MiB", "Used : 999999 MiB", "gpus", "gpu_framebuffer_used_bytes"),
    ],
)
def test_more_memory_than_there_is_fires_no_alert(made, command, old, new, query, name):
    """If nvidia-smi prints an impossible amount of memory, vgpuctl omits the metric, because a wrong value would fire an alert."""
    assert of(shown(command, made), name)
    _changed(made, lambda out: re.sub(old, new, out))
    found = shown(command, made)
    assert of(found, "scrape_error") == {'query="%s",reason="contradiction"' % query: 1} and not of(found, name)


@pytest.mark.parametrize("date", ["0001-1-1 0:0:0", "0000-0-0 0:0:0", "9999-99-99 99:99:99"])
def test_a_date_that_is_none(made, command, date):
    made.load[made.key]["license"] = "Licensed (Expiry: %s GMT)" % date
    found = shown(command, made)
    assert list(of(found, "licensed").values()) == [1] and of(found, "scrape_success") == {'query="gpus"': 1, 'query="vgpus"': 1}


@pytest.mark.parametrize("query, words", [("gpus", ["-q"]), ("vgpus", ["vgpu", "-q"])])
def test_a_gpu_that_is_left_out_of_an_answer(tmp_path, command, query, words):
    host = Host(tmp_path, gpus=[("0000:10:00.0", A40), ("0000:11:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 1}]}]).ok
    for number, (key, *dummy) in enumerate(host.vgpus()):
        host.kernel.use(key, pid=5000 + number, name="vm%d" % number)
    real = Program(host)

    def program(argv, timeout):
        out = real.run(argv, timeout).out
        return Result(0, out.partition("GPU 00000000:11")[0] if argv == words else out)

    host.programs["nvidia-smi"] = program
    found = shown(command, host)
    assert of(found, "scrape_error") == {'query="%s",reason="unreadable"' % query: 1}
    assert len(of(found, "gpu_temperature_celsius")) == (1 if query == "gpus" else 2) and len(of(found, "vm_info")) == 2


def test_no_nvidia_smi(made, command):
    made.programs["nvidia-smi"] = lambda argv, timeout: Result(127, "nvidia-smi: No such file or directory")
    pathlib.Path(made.root, "usr/bin/nvidia-smi").unlink()
    found = shown(command, made)
    assert of(found, "scrape_error") == {'query="gpus",reason="missing"': 1, 'query="vgpus",reason="missing"': 1}


def test_a_host_without_the_driver_asks_nothing(host, command):
    host.pf().driver = None
    found = shown(command, host)
    assert not asked(host) and not of(found, "scrape_success") and not of(found, "scrape_error")


def test_a_vm_with_a_hostile_name(made, command):
    made.kernel.processes.clear()
    made.kernel.use(made.key, name='a"b\\c\nd\x1b[31m')
    text = command(made, "metrics")[1]
    assert metrics(text) and "\x1b" not in text


def test_what_only_the_host_knows(made, command):
    found = shown(command, made)
    assert found["reboot_pending", ""] == 0 and found["next_boot_ready", ""] == 0, "the restore is not enabled on this host"
    assert set(of(found, "drift").values()) == {0}
    made.on_disk = "550.144.02"
    made.kernel.remove(made.kernel.mdevs[made.vgpus()[1][0]])
    found = shown(command, made)
    assert found["reboot_pending", ""] == 1 and found["drift", 'code="vgpus_missing"'] == 1 and found["drift", 'code="gpu_gone"'] == 0


def test_each_metric_has_the_labels_that_are_documented(made, command):
    documented = {metric.name: set(metric.labels) for metric in METRICS}
    for name, labels in shown(command, made):
        assert {word.partition("=")[0] for word in labels.split('",') if word} == documented[name], name
