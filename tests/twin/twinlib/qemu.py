# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""QEMU: the command line of a machine, and functions that start and stop QEMU."""

from __future__ import annotations

import os
import signal
import time

from . import accel, cache, host_packages, models, monitor, paths
from .progress import TwinError
from .run import run
from .state import Machine

# An emulated machine sometimes waits for a processor. Without these options, its kernel's watchdogs would fill the log with traces.
# norandmaps: programs are always at the same addresses, so QEMU translates their code only once instead of once per process. Pages with
# many translations also slowed GRUB down by minutes when GRUB wrote to these pages after a reboot.
# no_timer_check: on a busy machine, late timer interrupts at boot cause the panic "timer doesn't work through Interrupt-remapped IO-APIC".
PATIENT = "nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 workqueue.watchdog_thresh=0"
QUICK_CMDLINE = (
    f"console=ttyS0 quiet loglevel=6 mitigations=off clocksource=tsc tsc=reliable no_timer_check norandmaps {PATIENT} net.ifnames=0 panic=5 "
    "root=/dev/vda2"
)
IOMMU_ON = {"intel": " intel_iommu=on iommu=pt", "amd": " iommu=pt", "none": ""}
# One thread for all processors. With one thread per processor, QEMU 7.2 on a busy machine sometimes never acknowledges a timer interrupt in the APIC,
# so the timers of this processor stop permanently. The duration of a boot is the same.
ACCEL = {"kvm": "kvm", "tcg": "tcg,thread=single"}
# The IOMMU must be the first device: AMD's IOMMU uses the first free slot, which must be 00:01.0 (see acpi.py).
IOMMU_DEVICE = {"intel": ["-device", "intel-iommu,intremap=on"], "amd": ["-device", "amd-iommu,intremap=on"], "none": []}


def command_line(machine: Machine, load_tag: str = "") -> list[str]:
    """Return the complete QEMU command. Paths are relative to the machine's directory."""
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
    """Return the settings of twin_hw: number of GPUs, differences between each model and an A40, and the user's settings."""
    base = models.load("a40").hardware()
    settings = [f"gpus={machine.gpus}"]
    for number, name in enumerate(machine.models):
        settings += [f"{number}.{key}={value}" for key, value in models.load(name).hardware().items() if value != base[key] and name != "a40"]
    settings += _board(machine)
    return [f"twin_hw.{setting}" for setting in [*settings, *machine.hardware]]


def _board(machine: Machine) -> list[str]:
    """Return the settings of the NVSwitches and the module ID of each GPU. A smaller number of GPUs selects the last GPUs of the board, as with buses."""
    if not machine.board:
        return []
    board = models.load(machine.models[0]).board
    places = board["module_ids"].split()[-machine.gpus:]
    return [f"{key}={int(board[key], 0)}" for key in ("nvswitches", "nvswitch_device")] + [f"{n}.module_id={place}" for n, place in enumerate(places)]


def start(machine: Machine, load_tag: str = "") -> None:
    """Start QEMU in the background."""
    if machine.pid():
        raise TwinError(f"'{machine.name}' is already running.")
    with cache.lock(paths.machines() / "start.lock"):
        run(command_line(machine, load_tag), cwd=machine.folder)


def cut_power(machine: Machine) -> None:
    """Cut the power and restore it. Nothing is shut down, and data that was only in memory is lost.

    In the quick tier, QEMU supplies the kernel. A reset does not boot it after a snapshot was loaded, so QEMU itself is restarted.
    """
    if machine.tier == "quick":
        stop(machine)
        start(machine)
    else:
        monitor.command(machine, "system_reset")


def stop(machine: Machine) -> None:
    """Stop QEMU without shutting the guest system down."""
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
