# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Boots: start a machine, follow its stages until ssh answers, fall back from a KVM that does not get through."""

from __future__ import annotations

import time

from . import accel, paths, qemu, ssh
from .progress import Status, TwinError, say
from .state import Machine

# Stages in their order, and what the console shows when they begin. The last begins when sshd answers.
STAGES = ("firmware", "kernel", "user space", "ssh")
MARKS = {"kernel": "Linux version", "user space": "twin: user space"}
# Seconds until a stage begins under emulation, on an idle processor; "ssh": until the machine is up.
EMULATED = {"full": {"kernel": 10, "user space": 20, "ssh": 70}, "quick": {"kernel": 6, "user space": 12, "ssh": 25}}
PATIENCE = 4  # a KVM that takes this many times as long as emulation is given up
LIMIT = 600.0  # seconds for a boot, on a busy machine without KVM
HANGS = 10  # a machine that was just started and takes this many times as long as on an idle processor is started again, once


class GivenUp(TwinError):
    """A machine that was just started hangs."""


class KvmGivenUp(GivenUp):
    """A machine on KVM ended, or takes longer than emulation would."""


def boot(machine: Machine) -> None:
    """Start QEMU and wait until the machine is up. One that hangs is started once more; one on KVM under emulation."""
    try:
        _boot(machine)
        return
    except KeyboardInterrupt:
        qemu.stop(machine)
        raise
    except GivenUp as error:
        say(f"{machine.name}: {error}")
        on_kvm = isinstance(error, KvmGivenUp)
    say(f"{machine.name}: starting again{' under emulation, which new machines also use until this machine reboots' if on_kvm else ''}")
    qemu.stop(machine)
    if on_kvm:
        accel.remember(accel.Choice("tcg", "a machine on KVM did not boot"))
        machine.accel = "tcg"
        machine.save()
    qemu.start(machine)
    wait(machine)


def _boot(machine: Machine) -> None:
    try:
        qemu.start(machine)
    except TwinError as error:
        raise KvmGivenUp(f"QEMU does not start on KVM: {error}") if machine.accel == "kvm" else error
    wait(machine, fresh=True)


def wait(machine: Machine, fresh: bool = False, since: int = 0) -> None:
    """Poll until ssh answers; in the quick tier also until the driver is loaded.

    `fresh`: QEMU was just started, and may be started again: the machine may be given up (GivenUp). `since`: where this boot begins in `console`.
    """
    ready = "test -e /run/twin-driver-loaded" if machine.tier == "quick" else "true"
    begin, status, last = time.monotonic(), Status(), ""
    usual = EMULATED[machine.tier]["ssh"]
    limit = min(HANGS * usual, LIMIT) if fresh else LIMIT
    try:
        while True:
            stage = reached(console(machine)[since:])
            taken = time.monotonic() - begin
            _check(machine, stage, taken, fresh)
            try:
                if ssh.banner(machine.port):
                    stage = "ssh"
                    ssh.output(machine, ready, 60)
                    break
            except ssh.CommandFailed as error:
                last = f" ({error})"
            if taken > limit:
                hangs = _failed(machine, f"did not boot within {limit:.0f} s, stage: {stage}{last}")
                raise GivenUp(str(hangs)) if fresh else hangs
            expected = f"usually {usual} s under emulation, or longer under load" if machine.accel == "tcg" else f"usually less than {usual} s"
            status.update(f"{machine.name}: booting, {taken:.0f} s, stage: {stage} ({expected})")
            time.sleep(0.3)
    finally:
        status.clear()
    say(f"{machine.name}: up after {taken:.1f} s, ssh on port {machine.port} ({machine.tier} tier, {accel.NAMES[machine.accel]})")


def reached(console: str) -> str:
    """The stage that a boot is in, by what its console shows."""
    seen = [stage for stage, mark in MARKS.items() if mark in console]
    return seen[-1] if seen else STAGES[0]


def _check(machine: Machine, stage: str, taken: float, fresh: bool) -> None:
    """Refuse to wait for what will not come."""
    on_kvm = fresh and machine.accel == "kvm" and stage != "ssh"
    if not machine.pid():
        if on_kvm and stage != "user space":
            raise KvmGivenUp("QEMU on KVM has ended.")
        raise _failed(machine, "has ended: QEMU is no longer running")
    tail = console(machine)[-400:]
    if "end Kernel panic" in tail:
        raise _failed(machine, "has stopped: its kernel panicked")
    if "(initramfs) " in tail:
        raise _failed(machine, "has stopped: its initramfs did not mount the root file system")
    if not on_kvm:
        return
    for later in STAGES[STAGES.index(stage) + 1:-1]:
        limit = PATIENCE * EMULATED[machine.tier][later]
        if taken > limit:
            raise KvmGivenUp(f"on KVM, the machine has not reached the stage '{later}' after {limit} s (emulation needs {limit // PATIENCE} s).")


def _failed(machine: Machine, what: str) -> TwinError:
    log = machine.serial_log
    return TwinError(
        f"'{machine.name}' {what}.\nThe last lines of its console:\n{ssh.console_tail(machine)}\nThe complete console log: {log}\n"
        f"To try again, run 'twin down {machine.name}', then 'twin up {machine.name}' (the path of twin: {paths.HERE / 'twin'}). If this "
        f"machine is under load, end other work first. With {accel.VARIABLE}=tcg, machines run under emulation."
    )


def console(machine: Machine) -> str:
    """What the machine wrote on its console since QEMU was started."""
    try:
        return machine.serial_log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
