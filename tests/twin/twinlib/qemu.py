# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""QEMU: the command line of a machine, starting and ending it."""

from __future__ import annotations

import os
import signal
import time

from . import accel, cache, host_packages, models, monitor, paths
from .progress import TwinError
from .run import run
from .state import Machine

# An emulated machine that has to wait for its turn is no fault of its kernel's: the watchdogs would fill the log with traces.
# norandmaps: programs at the same addresses each time, whose code QEMU then translates once and not for each process; pages with
# many translations also made GRUB take minutes where it wrote to them after a reboot.
# no_timer_check: a kernel that finds its timer late at boot, as on a busy machine, panics ("timer doesn't work through Interrupt-remapped IO-APIC").
PATIENT = "nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 workqueue.watchdog_thresh=0"
QUICK_CMDLINE = (
    f"console=ttyS0 quiet loglevel=6 mitigations=off clocksource=tsc tsc=reliable no_timer_check norandmaps {PATIENT} net.ifnames=0 panic=5 "
    "root=/dev/vda2"
)
IOMMU_ON = {"intel": " intel_iommu=on iommu=pt", "amd": " iommu=pt", "none": ""}
# One thread for all processors: with one for each, a busy machine's timer interrupt is sometimes never acknowledged in its APIC (QEMU 7.2), and that
# processor's timers stand still for good. Boots take as long either way.
ACCEL = {"kvm": "kvm", "tcg": "tcg,thread=single"}
# The IOMMU comes first: AMD's takes the first free slot, 00:01.0, which acpi.py names.
IOMMU_DEVICE = {"intel": ["-device", "intel-iommu,intremap=on"], "amd": ["-device", "amd-iommu,intremap=on"], "none": []}


def command_line(machine: Machine, load_tag: str = "") -> list[str]:
    """The whole QEMU command; paths are relative to the machine's folder."""
    argv = ["qemu-system-x86_64", "-name", f"guest=twin-{machine.name},debug-threads=off"]
    argv += ["-accel", ACCEL[machine.accel], "-cpu", accel.CPU[machine.accel]]
    argv += [
        "-machine", "q35" + (",kernel-irqchip=split" if machine.accel == "kvm" else ""),
        "-smp", str(machine.cpus), "-m", str(machine.memory_mib), "-nodefaults", "-display", "none", "-vga", "none",
        "-daemonize", "-pidfile", "qemu.pid", "-monitor", "unix:monitor.sock,server,nowait", "-serial", "file:serial.log",
    ]
    if machine.boot != "bios":
        argv += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={host_packages.FIRMWARE['code']}"]
        argv += ["-drive", f"if=pflash,unit=1,format=qcow2,file={machine.efi_variables.name}"]
    argv += IOMMU_DEVICE[machine.iommu]
    argv += [
        "-drive", "file=disk.qcow2,if=none,id=disk,cache=unsafe,discard=unmap",
        "-device", "virtio-blk-pci,drive=disk,addr=0x4",
        "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{machine.port}-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=,addr=0x5", "-device", "virtio-rng-pci,addr=0x6",
    ]
    for setting in [*_hardware(machine), *[f"nvidia.{setting}" for setting in machine.driver]]:
        argv += ["-smbios", f"type=11,value={setting}"]
    if machine.tier == "quick":
        cmdline = QUICK_CMDLINE + IOMMU_ON[machine.iommu]
        argv += ["-kernel", machine.kernel, "-initrd", machine.initrd, "-append", cmdline]
    return argv + (["-loadvm", load_tag] if load_tag else [])


def _hardware(machine: Machine) -> list[str]:
    """Settings of twin_hw: number of GPUs, how each model differs from an A40, what the user asked for."""
    base = models.load("a40").hardware()
    settings = [f"gpus={machine.gpus}"]
    for number, name in enumerate(machine.models):
        settings += [f"{number}.{key}={value}" for key, value in models.load(name).hardware().items() if value != base[key] and name != "a40"]
    settings += _board(machine)
    return [f"twin_hw.{setting}" for setting in [*settings, *machine.hardware]]


def _board(machine: Machine) -> list[str]:
    """The NVSwitches, and each GPU's place on the board: fewer GPUs than it has are its last ones, as with their addresses."""
    if not machine.board:
        return []
    board = models.load(machine.models[0]).board
    places = board["module_ids"].split()[-machine.gpus:]
    return [f"{key}={int(board[key], 0)}" for key in ("nvswitches", "nvswitch_device")] + [f"{n}.module_id={place}" for n, place in enumerate(places)]


def start(machine: Machine, load_tag: str = "") -> None:
    """Start QEMU; it goes on in the background."""
    if machine.pid():
        raise TwinError(f"'{machine.name}' is already running.")
    with cache.lock(paths.machines() / "start.lock"):
        run(command_line(machine, load_tag), cwd=machine.folder)


def cut_power(machine: Machine) -> None:
    """The power fails and comes back: nothing is shut down, all that was only in memory is lost.

    QEMU itself is started again in the quick tier, whose kernel it brings: once a snapshot was loaded, a reset does not boot it.
    """
    if machine.tier == "quick":
        stop(machine)
        start(machine)
    else:
        monitor.command(machine, "system_reset")


def stop(machine: Machine) -> None:
    """End QEMU (not the system in it)."""
    pid = machine.pid()
    if not pid:
        return
    for sig, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while machine.pid() and time.monotonic() < deadline:
            time.sleep(0.1)
        if not machine.pid():
            return
    raise TwinError(f"QEMU of '{machine.name}' (pid {pid}) did not end after SIGKILL.")
