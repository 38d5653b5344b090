# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Boots a machine, follows the stages of the boot until ssh responds, and falls back to emulation if the machine does not boot on KVM."""

from __future__ import annotations

import time

from . import accel, paths, qemu, ssh
from .progress import Status, TwinError, say
from .state import Machine

# The stages in order, and the text on the console at the start of a stage. The last stage starts when sshd responds.
STAGES = ("firmware", "kernel", "user space", "ssh")
MARKS = {"kernel": "Linux version", "user space": "twin: user space"}
# Seconds until a stage starts under emulation on an idle processor. "ssh": seconds until the machine is up.
EMULATED = {"full": {"kernel": 10, "user space": 20, "ssh": 70}, "quick": {"kernel": 6, "user space": 12, "ssh": 25}}
PATIENCE = 4  # KVM is abandoned if a stage takes this many times as long as under emulation
LIMIT = 600.0  # limit of a boot in seconds, sufficient on a busy machine without KVM
HANGS = 10  # a new machine is restarted once if it takes this many times as long as on an idle processor


class GivenUp(TwinError):
    """A new machine hangs, so boot() restarts it."""


class KvmGivenUp(GivenUp):
    """A machine on KVM has exited, or takes longer than under emulation."""


def boot(machine: Machine) -> None:
    """Start QEMU and wait until the machine is up. A machine that hangs is restarted once. If it hangs on KVM, it is restarted under emulation."""
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
    """Poll until ssh responds and, in the quick tier, until the driver is loaded.

    `fresh`: QEMU was just started, so a machine that hangs raises GivenUp and can be restarted. `since`: offset of this boot in `console`.
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
    """Return the stage of a boot according to its console."""
    seen = [stage for stage, mark in MARKS.items() if mark in console]
    return seen[-1] if seen else STAGES[0]


def _check(machine: Machine, stage: str, taken: float, fresh: bool) -> None:
    """Raise TwinError if the boot has failed or takes too long."""
    on_kvm = fresh and machine.accel == "kvm" and stage != "ssh"
    if not machine.pid():
        if on_kvm and stage != "user space":
            raise KvmGivenUp("QEMU on KVM has exited.")
        raise _failed(machine, "has stopped: QEMU is no longer running")
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
    """Return the console output since QEMU was started."""
    try:
        return machine.serial_log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
