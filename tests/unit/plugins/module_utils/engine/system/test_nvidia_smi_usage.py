# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the usage of GPUs and vGPUs is parsed from nvidia-smi, in the formats of real releases and in unknown formats."""

from __future__ import annotations

import pathlib
import time

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import nvidia_smi_usage
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context

SAMPLES = pathlib.Path(__file__).resolve().parents[4] / "samples"
GPU, VGPU = "0000:17:00.0", "7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f1"


def sample(name):
    """Returns the text of a sample."""
    return (SAMPLES / name).read_text(encoding="utf-8")


class Prints:
    """A host whose nvidia-smi always returns the same result. The host counts the runs."""

    def __init__(self, folder, out, rc=0, timed_out=False):
        self.runs = []
        path = folder / "usr" / "bin" / "nvidia-smi"
        path.parent.mkdir(parents=True)
        path.touch(0o755)

        def command(argv, timeout, env=None, keeps_lock=False):
            self.runs.append((list(argv[1:]), timeout))
            return Result(rc, out, timed_out)

        self.ctx = Context(str(folder), command=command)


def test_a_gpu(tmp_path):
    answer = nvidia_smi_usage.gpus(Prints(tmp_path, sample("usage-q.txt")).ctx, (), [GPU])
    (one,) = answer.found
    assert answer.error is None and one.address == GPU
    assert one.memory == {"total": 81559, "reserved": 480, "used": 0, "free": 81079}, "these must not be the values of the BAR1 memory"
    assert one.busy == {"gpu": 0.0, "memory": 0.0, "encoder": 0.0, "decoder": 0.0, "jpeg": 0.0, "ofa": 0.0}
    assert one.ecc is True and one.ecc_errors == {"correctable": 0, "uncorrectable": 0}
    assert one.celsius == 36 and one.watts == 70.36, "these must not be the values of the GPU memory"
    assert one.throttled == dict.fromkeys(("power_cap", "hardware", "hardware_thermal", "power_brake", "thermal", "sync_boost"), False)


def test_two_vgpus_one_of_which_nothing_is_known_of(tmp_path):
    answer = nvidia_smi_usage.vgpus(Prints(tmp_path, sample("usage-vgpu-q.txt")).ctx, ())
    known, unknown = answer.found
    assert answer.error is None
    assert (known.gpu, known.number, known.uuid, known.vm, known.type) == (GPU, "3251634190", VGPU, "web1", "A40-2Q")
    assert (known.vm_uuid, known.guest_driver, known.frame_rate) == ("11111111-2222-3333-4444-555555555555", "550.163.01", 60)
    assert known.license == "Licensed (Expiry: 2027-3-19 7:29:4 GMT)"
    assert known.memory["used"] == 512 and known.busy == {"gpu": 0.37, "memory": 0.12, "encoder": 0.03, "decoder": 0.0}
    assert (unknown.vm, unknown.vm_uuid, unknown.guest_driver, unknown.license, unknown.frame_rate, unknown.busy) == (None, None, None, None, None, {})


def test_it_runs_once_as_long_as_answers_are_kept_and_names_gpus_where_it_must(tmp_path):
    host = Prints(tmp_path, sample("usage-vgpu-q.txt"))
    host.ctx.smi_answers = {}
    for dummy in range(3):
        nvidia_smi_usage.vgpus(host.ctx, (GPU, "0000:65:00.0"))
    assert [words for words, dummy in host.runs] == [["vgpu", "-q", "-i", "0000:17:00.0,0000:65:00.0"]]


def test_the_deadline_is_one_for_all_runs(tmp_path):
    host = Prints(tmp_path, "")
    host.ctx.smi_deadline = host.ctx.clock.now() + 5
    assert nvidia_smi_usage.gpus(host.ctx, ()).error is None and 0 < host.runs[0][1] <= 5
    host.ctx.smi_deadline = host.ctx.clock.now() - 1
    assert nvidia_smi_usage.gpus(host.ctx, ()).error == "timeout" and len(host.runs) == 1


@pytest.mark.parametrize(
    "out, rc, timed_out, error",
    [
        ("", 124, True, "timeout"),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18, False, "failed"),
        ("GPU 00000000:17:00.0\n    Active vGPUs : 2\n    vGPU ID : 1\n        VM Name : a\n", 0, False, "unreadable"),
        ("GPU 00000000:17:00.0\n    Vgpus aktiv : zwei\n", 0, False, "unreadable"),
        ("GPU 00000000:17:00.0\n    Active vGPUs : many\n", 0, False, "unreadable"),
        ("\x00\xff" * 50, 0, False, "unreadable"),
    ],
)
def test_why_there_is_no_answer(tmp_path, out, rc, timed_out, error):
    assert nvidia_smi_usage.vgpus(Prints(tmp_path / "a", out, rc, timed_out).ctx, ()).error == error
    assert nvidia_smi_usage.gpus(Prints(tmp_path / "b", out, rc, timed_out).ctx, (), [GPU]).error == error


def test_no_vgpu_and_no_program(tmp_path):
    assert nvidia_smi_usage.vgpus(Prints(tmp_path, "No supported devices in vGPU mode\n").ctx, ()).error is None
    assert nvidia_smi_usage.vgpus(Context(str(tmp_path / "empty")), ()).error in ("missing", "failed")


def test_the_words_of_other_releases(tmp_path):
    """Driver 470 and GPUs older than Turing print other labels."""
    bits = "".join("            %s Bit\n                Device Memory : %d\n                Total : %d\n" % one for one in (("Single", 3, 4), ("Double", 1, 2)))
    text = "GPU 00000000:17:00.0\n    FB Memory Usage\n        Total : 16 MiB\n    ECC Errors\n        Volatile\n" + bits + bits.replace(
        "Single", "Other") .replace("Double", "Another") + "        Aggregate\n" + bits + "    Power Readings\n        Power Draw : 31.5 W\n"
    (one,) = nvidia_smi_usage.gpus(Prints(tmp_path, text).ctx, (), [GPU]).found
    assert one.ecc_errors == {"correctable": 4, "uncorrectable": 2} and one.watts == 31.5


@pytest.mark.parametrize("line", [" " * 100000, "x" + " " * 100000 + "y", ": " * 50000, "\t" * 100000 + ":", "a " * 50000])
def test_a_line_of_whatever_length_does_not_take_long(tmp_path, line):
    begun = time.process_time()
    nvidia_smi_usage.vgpus(Prints(tmp_path, "GPU 00000000:17:00.0\n%s\n    Active vGPUs : 0\n" % line).ctx, ())
    assert time.process_time() - begun < 1


def test_numbers_that_can_not_be_are_none(tmp_path):
    text = sample("usage-vgpu-q.txt").replace(" 37 %", " 370 %").replace("512 MiB", "-1 MiB").replace("60 FPS", "fast")
    known = nvidia_smi_usage.vgpus(Prints(tmp_path, text).ctx, ()).found[0]
    assert "gpu" not in known.busy and "used" not in known.memory and known.frame_rate is None
