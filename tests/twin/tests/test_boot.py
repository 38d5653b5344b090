# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of boots: stages, progress, failures, and the fallback from KVM to emulation."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from twinlib import accel, boot, cli, paths, progress, qemu, ssh, state
from twinlib.progress import TwinError

KERNEL = "[    0.0] Linux version 6.1.0-1-amd64\n"
USER_SPACE = KERNEL + "twin: user space\n"


class Clock:
    """A clock that advances only in sleep()."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(boot.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(boot.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        """Advance the fake clock."""
        self.now += seconds


class Guest:
    """A machine whose console and sshd follow a plan: {accelerator: [(second, console so far), …, (second, "up")]}."""

    def __init__(self, machine, clock, monkeypatch, plan) -> None:
        self.machine, self.clock, self.plan = machine, clock, plan
        self.started: list[str] = []
        self.running = False
        self.begin = 0.0
        monkeypatch.setattr(qemu, "start", self.start)
        monkeypatch.setattr(qemu, "stop", self.stop)
        monkeypatch.setattr(state.Machine, "pid", lambda _self: 4711 if self.alive() else 0)
        monkeypatch.setattr(boot, "console", lambda _machine: self.shown())
        monkeypatch.setattr(ssh, "banner", lambda _port: self.last() == "up")
        monkeypatch.setattr(ssh, "output", lambda *_args: "")

    def start(self, machine, load_tag="") -> None:
        """Start the fake machine in place of qemu.start."""
        self.started.append(machine.accel)
        if self.plan[machine.accel] == "does not start":
            raise TwinError("qemu-system-x86_64 … failed with 134")
        self.running, self.begin = True, self.clock.now

    def stop(self, _machine) -> None:
        """Stop the fake machine in place of qemu.stop."""
        self.running = False

    def past(self) -> list[str]:
        """Return the events of the plan since the fake machine's start."""
        return [text for second, text in self.plan[self.machine.accel] if self.clock.now - self.begin >= second]

    def last(self) -> str:
        """Return the last event of the plan since the fake machine's start."""
        return (self.past() or [""])[-1]

    def alive(self) -> bool:
        """Return whether the fake QEMU runs."""
        return self.running and self.last() != "ended"

    def shown(self) -> str:
        """Return the text on the fake machine's console."""
        return ([text for text in self.past() if text not in ("up", "ended")] or [""])[-1]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPO", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(accel, "_machine", lambda: "this boot")
    one = state.Machine(
        name="t1", tier="full", gpus=1, iommu="intel", start="bare", boot_iommu=False, port=4242, accel="kvm", memory_mib=1024, cpus=1, hardware=[],
    )
    one.save()
    return one


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


EMULATED = [(8, KERNEL), (15, USER_SPACE), (60, "up")]


@pytest.mark.parametrize(
    "console,stage", [("", "firmware"), ("Loading Linux 6.1.0\n", "firmware"), (KERNEL, "kernel"), (USER_SPACE, "user space")]
)
def test_stages_by_the_console(console, stage):
    assert boot.reached(console) == stage


@pytest.mark.parametrize(
    "on_kvm,reason",
    [
        ([], "has not reached the stage 'kernel' after 40 s (emulation needs 10 s)"),
        ([(1, "Loading Linux\n")], "has not reached the stage 'kernel'"),
        ([(30, KERNEL)], "has not reached the stage 'user space' after 80 s"),
        ([(2, "ended")], "QEMU on KVM has exited"),
        ("does not start", "QEMU does not start on KVM"),
    ],
    ids=["nothing on the console", "only the boot loader", "kernel hangs", "QEMU ends", "QEMU aborts"],
)
def test_a_machine_that_does_not_come_up_on_kvm_comes_up_under_emulation(machine, clock, monkeypatch, capsys, on_kvm, reason):
    guest = Guest(machine, clock, monkeypatch, {"kvm": on_kvm, "tcg": EMULATED})
    boot.boot(machine)
    assert guest.started == ["kvm", "tcg"]
    assert state.load("t1").accel == "tcg", "this machine must keep using emulation"
    said = capsys.readouterr().err
    assert reason in said and "starting again under emulation" in said and "up after 60" in said
    remembered = accel._remembered()
    assert remembered == accel.Choice("tcg", "a machine on KVM did not boot"), "new machines must also use emulation"


def test_a_machine_that_is_quick_on_kvm_stays_there(machine, clock, monkeypatch, capsys):
    guest = Guest(machine, clock, monkeypatch, {"kvm": [(1, KERNEL), (2, USER_SPACE), (9, "up")]})
    boot.boot(machine)
    assert guest.started == ["kvm"] and accel._remembered() is None
    assert "KVM" in capsys.readouterr().err


def test_user_space_on_kvm_is_waited_for_as_under_emulation(machine, clock, monkeypatch):
    guest = Guest(machine, clock, monkeypatch, {"kvm": [(1, KERNEL), (2, USER_SPACE)]})
    with pytest.raises(TwinError, match="did not boot within 600 s, stage: user space"):
        boot.boot(machine)
    assert guest.started == ["kvm", "kvm"] and accel._remembered() is None


def test_a_machine_that_hangs_is_started_once_more(machine, clock, monkeypatch, capsys):
    """A hang is restarted. In CI, the kernel of a quick twin once hung while two other sessions used the same two cores."""
    machine.accel, machine.tier = "tcg", "quick"
    guest = Guest(machine, clock, monkeypatch, {"tcg": [(5, USER_SPACE)]})
    ends = []

    def stop(_machine) -> None:
        ends.append(clock.now)
        guest.running, guest.plan = False, {"tcg": EMULATED}

    monkeypatch.setattr(qemu, "stop", stop)
    boot.boot(machine)
    said = capsys.readouterr().err
    assert guest.started == ["tcg", "tcg"] and [round(now) for now in ends] == [1250], "each of the two attempts must stop after ten times the usual 25 s"
    assert "did not boot within 250 s, stage: user space" in said and "starting again\n" in said and "up after 60" in said


def test_a_reboot_of_a_machine_on_kvm_is_not_given_up(machine, clock, monkeypatch):
    guest = Guest(machine, clock, monkeypatch, {"kvm": [(100, USER_SPACE), (200, "up")]})
    guest.running = True
    boot.wait(machine)
    assert guest.started == []


def test_each_failed_boot_ends_with_console_log_and_what_to_do(machine, clock, monkeypatch):
    machine.accel = "tcg"
    Guest(machine, clock, monkeypatch, {"tcg": [(1, KERNEL), (2, "ended")]})
    machine.serial_log.write_text("first\n" + "line\n" * 40 + "the last line\n")
    with pytest.raises(TwinError) as caught:
        boot.boot(machine)
    text = str(caught.value)
    assert text.startswith("'t1' has stopped: QEMU") and "the last line" in text and "\nfirst\n" not in text
    assert str(machine.serial_log) in text and "twin down t1" in text and "TWIN_ACCEL" in text


@pytest.mark.parametrize(
    "said,why",
    [
        ("Kernel panic - not syncing: timer\n---[ end Kernel panic - not syncing: timer ]---\n", "its kernel panicked"),
        ("No init found. Try passing init= bootarg.\n(initramfs) ", "its initramfs"),
    ],
)
def test_a_machine_that_stopped_ends_the_wait_at_once(machine, clock, monkeypatch, said, why):
    machine.accel = "tcg"
    Guest(machine, clock, monkeypatch, {"tcg": [(3, KERNEL + said)]})
    with pytest.raises(TwinError, match=f"'t1' has stopped: {why}"):
        boot.boot(machine)
    assert clock.now < 1005


def test_progress_without_a_terminal_is_a_line_every_half_minute(machine, clock, monkeypatch, capsys):
    machine.accel = "tcg"
    Guest(machine, clock, monkeypatch, {"tcg": [(20, KERNEL), (50, USER_SPACE), (100, "up")]})
    boot.boot(machine)
    lines = [line for line in capsys.readouterr().err.splitlines() if "booting" in line]
    assert [line.split("stage: ")[1].split(" (")[0] for line in lines] == ["kernel", "user space", "user space"]
    assert all("usually 70 s under emulation" in line for line in lines)


def test_progress_on_a_terminal_is_one_line(machine, clock, monkeypatch, capsys):
    machine.accel = "tcg"
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    Guest(machine, clock, monkeypatch, {"tcg": [(5, KERNEL), (10, USER_SPACE), (20, "up")]})
    boot.boot(machine)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.splitlines()[-1].split("\r\033[K")[-1].endswith("emulation (tcg))")
    assert max(len(part) for part in shown.split("\r\033[K")[:-1]) < 80
    assert all(f"stage: {stage}" in shown for stage in ("firmware", "kernel", "user space"))


def test_an_interruption_stops_the_machine_and_leaves_the_line_empty(machine, clock, monkeypatch, capsys):
    def interrupt(seconds: float) -> None:
        clock.now += seconds
        if clock.now > 1010:
            raise KeyboardInterrupt

    machine.accel = "tcg"
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(boot.time, "sleep", interrupt)
    guest = Guest(machine, clock, monkeypatch, {"tcg": [(5, KERNEL)]})
    with pytest.raises(KeyboardInterrupt):
        boot.boot(machine)
    assert not guest.running and capsys.readouterr().err.endswith("\r\033[K")


@pytest.mark.booted
@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="requires /dev/kvm")
def test_forced_kvm_comes_up(monkeypatch, capfd):
    """The machine boots with any /dev/kvm. If KVM is slow or broken, the launcher abandons it and boots the machine under emulation."""
    monkeypatch.setenv("TWIN_ACCEL", "auto")
    chosen = accel.find()
    monkeypatch.setenv("TWIN_ACCEL", "kvm")
    kept = accel._file().read_text(encoding="utf-8")
    subprocess.run([str(paths.HERE / "twin"), "down", "selftest-kvm"], check=False, capture_output=True)
    try:
        assert cli.main(["up", "selftest-kvm", "--tier", "quick", "--gpus", "1"]) == 0
        said = capfd.readouterr().err
        assert state.load("selftest-kvm").accel == chosen.accelerator, said
        assert ("starting again under emulation" in said) == (chosen.accelerator == "tcg"), said
        assert cli.main(["ssh", "selftest-kvm", "lspci -d 10de: | wc -l"]) == 0
        assert capfd.readouterr().out.strip() == "1"
    finally:
        cli.main(["down", "selftest-kvm"])
        accel._file().write_text(kept, encoding="utf-8")
