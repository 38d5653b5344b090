# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The command line of the launcher."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

from . import accel, boot, bundle, cache, disk, fabric, faults, guest, host_packages, image, inventory, models, qemu, room, snapshots, ssh, state
from .progress import TwinError, say
from .run import run

GPUS = 8
MEMORY_MIB = 2048


def _check(args: argparse.Namespace) -> int:
    accel.check()
    room.check(args.memory)
    host_packages.check(args.packages)
    return 0


def _build(args: argparse.Namespace) -> int:
    if args.quick and args.boot != "bios":
        raise TwinError("--quick requires --boot bios, because the quick tier has no boot loader.")
    accel.check()
    room.check()
    host_packages.ensure(args.boot != "bios")
    built = image.build(image.SYSTEMS[args.system], args.extras, args.boot)
    say(f"bundle: {bundle.path(built)}")
    if args.quick:
        bundle.quick_disk(built)
    else:
        image.variant_disk(built, "vfio-pci", "intel", False)
    say("built")
    return 0


def _up(args: argparse.Namespace) -> int:
    name = state.check_name(args.name)
    known = {m.name: m for m in state.every()}
    if name in known and known[name].pid():
        raise TwinError(f"'{name}' is already running. To start over, run 'tests/twin/twin down {name}' first.")
    room.check(args.memory)
    host_packages.ensure(args.boot != "bios")
    choice = accel.find()
    say(f"{name}: {choice}")
    if name in known:
        machine = known[name]
        say(f"{name}: starting again with the existing disk (to start over, run 'twin down {name}' first)")
        if not snapshots.tags(machine):  # snapshots work only with the accelerator of the machine
            machine.accel = choice.accelerator
            machine.save()
    else:
        machine = _create(args, name, choice.accelerator)
    boot.boot(machine)
    if args.snapshot:
        snapshots.save(machine, args.snapshot)
    return 0


def _create(args: argparse.Namespace, name: str, accelerator: str) -> state.Machine:
    if args.guest:
        guest.settle(args)
    chosen = _models(args)
    _check_board(args, chosen)
    if args.boot != "bios" and (args.tier == "quick" or args.start == "ready" or args.iommu != "intel"):
        raise TwinError(f"--boot {args.boot} requires the full tier, --iommu intel, and --start with one of: {' '.join(image.STARTS)}.")
    built = image.build(image.SYSTEMS[args.system], args.extras, args.boot)
    framework = [] if args.framework is None else [f"vendor_vfio={int(args.framework == 'vendor_vfio')}"]
    machine = state.Machine(
        name=name, tier=args.tier, gpus=0 if args.guest == guest.NONE else len(chosen), iommu=args.iommu, start=args.start, boot_iommu=args.boot_iommu == "on",
        port=0, accel=accelerator, memory_mib=args.memory, cpus=args.cpus, hardware=args.hw, key=str(image.ssh_key()), guest=args.guest or "",
        system=args.system, models=chosen, driver=[*framework, *args.driver], extras=args.extras, boot=args.boot,
        board=args.board or "",
    )
    if args.tier == "quick":
        base = bundle.quick_disk(built)
        machine.kernel = str(built.image / "vmlinuz")
        machine.initrd = str(_quick_initrd(built, args.iommu))
    elif args.start == "ready":
        base = bundle.ready_disk(built, args.iommu)
    else:
        base = image.variant_disk(built, args.start, args.iommu, machine.boot_iommu, chosen)
    state.claim(machine)
    machine.disk.unlink(missing_ok=True)
    disk.overlay(base, machine.disk)
    if machine.boot != "bios":
        run(["qemu-img", "convert", "-O", "qcow2", str(host_packages.FIRMWARE["variables"]), str(machine.efi_variables)])
    return machine


def _models(args: argparse.Namespace) -> list[str]:
    """Return the model of each GPU. One name applies to all GPUs. A list determines the number of GPUs."""
    try:
        chosen = models.parse(args.model, GPUS)
    except models.BadModel as error:
        raise TwinError(str(error)) from error
    if args.model in models.names():
        return chosen * (args.gpus or GPUS)
    if args.gpus not in (None, len(chosen)):
        raise TwinError(f"--model {args.model} selects {len(chosen)} GPUs, but --gpus is {args.gpus}. Omit --gpus.")
    return chosen


def _check_board(args: argparse.Namespace, chosen: list[str]) -> None:
    if args.board and (args.guest or len(set(chosen)) > 1 or not models.load(chosen[0]).board):
        known = ", ".join(name for name in models.names() if models.load(name).board)
        raise TwinError(f"--board {args.board} requires a host whose GPUs are all of one model with such a board (expected: {known}).")


def _quick_initrd(built: image.Build, iommu: str):
    """Return the quick tier's initramfs, preceded by the IOMMU's ACPI table."""
    parts = [built.image / f"twin-acpi-{iommu}.cpio"] if iommu != "none" else []
    parts.append(built.image / "quick.cpio")

    def make(folder) -> None:
        (folder / "initrd").write_bytes(b"".join(part.read_bytes() for part in parts))

    key = cache.digest(parts)
    return cache.product(f"quick-initrd-{iommu}", key, make, f"quick tier: initramfs for IOMMU {iommu}") / "initrd"


def _ssh(args: argparse.Namespace) -> int:
    machine = state.load(args.name)
    terminal = [] if args.command or not sys.stdin.isatty() else ["-t"]
    argv = ssh.argv(machine)
    return subprocess.run([argv[0], *terminal, *argv[1:], *([" ".join(args.command)] if args.command else [])], check=False).returncode


def _inventory(args: argparse.Namespace) -> int:
    print(inventory.text(state.load(args.name)), end="")
    return 0


def _snapshot(args: argparse.Namespace) -> int:
    snapshots.save(state.load(args.name), args.tag)
    return 0


def _restore(args: argparse.Namespace) -> int:
    snapshots.restore(state.load(args.name), args.tag)
    return 0


def _fault(args: argparse.Namespace) -> int:
    machine = state.load(args.name)
    print(faults.write(machine, args.assignments) if args.assignments else faults.listing(machine), end="")
    return 0


def _power_cut(args: argparse.Namespace) -> int:
    machine = state.load(args.name)
    if not machine.pid():
        boot.boot(machine)
        return 0
    shown = len(boot.console(machine))
    qemu.cut_power(machine)
    ssh.forget_connections(machine)
    say(f"{machine.name}: power cut")
    boot.wait(machine, since=shown if machine.tier == "full" else 0)  # a restart of QEMU truncates the log, a reset does not
    return 0


def _down(args: argparse.Namespace) -> int:
    machine = state.load(args.name)
    qemu.stop(machine)
    ssh.forget_connections(machine)
    if not args.keep:
        cache.remove(machine.folder)
    say(f"{machine.name}: down" + (", and its disk is kept" if args.keep else ", and its disk is deleted"))
    return 0


def _list(_args: argparse.Namespace) -> int:
    print(accel.describe())
    for m in state.every():
        pid = m.pid()
        tags = ",".join(snapshots.tags(m)) or "-"
        print(f"{m.name}\t{'up pid ' + str(pid) if pid else 'down'}\tport {m.port}\t{m.accel}\t{m.tier}\t{m.system}\t{_summary(m)}\tiommu {m.iommu}"
              f"\tstart {m.start}\tsnapshots {tags}")
    return 0


def _summary(machine: state.Machine) -> str:
    """Return a summary such as "8 x a40", "1 x t4, 2 x a40", or "guest of A40-24Q"."""
    if machine.guest:
        return f"guest of {machine.guest}"
    every = machine.models or ["a40"] * machine.gpus
    return ", ".join(f"{every.count(name)} x {name}" for name in dict.fromkeys(every)) + "".join(f", with {extra}" for extra in machine.extras)


def _bundle(args: argparse.Namespace) -> int:
    host_packages.ensure()
    print(bundle.path(image.build(image.SYSTEMS[args.system])))
    return 0


def _fabric(args: argparse.Namespace) -> int:
    host_packages.ensure()
    print(fabric.repository(image.SYSTEMS[args.system], args.version))
    return 0


def _tree(args: argparse.Namespace) -> int:
    host_packages.ensure()
    print(image.tree_of(image.SYSTEMS[args.system], args.packages))
    return 0


def _gpus(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= GPUS:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {GPUS}")
    return int(text)


def _hardware(text: str) -> str:
    key, _unused, value = text.partition("=")
    number, dot, name = key.rpartition(".")
    if not name.isidentifier() or not value or (dot and not number.isdigit()):
        raise argparse.ArgumentTypeError("expected KEY=NUMBER, see the table in tests/twin/README.md")
    return text


def parser() -> argparse.ArgumentParser:
    """Return the parser with all commands and options."""
    top = argparse.ArgumentParser(prog="twin", description="Manage disposable machines with emulated NVIDIA GPUs. See tests/twin/README.md.")
    commands = top.add_subparsers(dest="command_name", required=True, metavar="COMMAND")

    def add(name, function, text, with_name=True):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        if with_name:
            command.add_argument("name", metavar="NAME")
        return command

    def systems(command):
        command.add_argument("--os", dest="system", choices=list(image.SYSTEMS), default="debian12")

    def extras(command):
        command.add_argument("--with", dest="extras", action="append", default=[], choices=image.EXTRAS, help="additional packages: libvirt and QEMU")

    def loader(command):
        command.add_argument("--boot", choices=image.BOOTS, default="bios", help="bios: GRUB without UEFI; other values: boot loaders with UEFI (OVMF)")

    def memory(command):
        command.add_argument("--memory", type=int, default=MEMORY_MIB, help=f"memory in MiB (default: {MEMORY_MIB})")

    command = add("check", _check, "check whether this machine has the packages, disk space, and memory for a build and a machine", False)
    command.add_argument("--packages", nargs="*", default=[], metavar="PACKAGE", help="additional missing packages")
    memory(command)
    command = add("build", _build, "build the image, kernel modules, and driver bundle, unless they are in the cache", False)
    systems(command)
    extras(command)
    loader(command)
    command.add_argument("--quick", action="store_true", help="build the disk of the quick tier instead of the disk of the full tier")
    command = add("up", _up, "create and start a machine, or start a stopped machine, and wait for ssh")
    systems(command)
    extras(command)
    loader(command)
    command.add_argument("--tier", choices=("full", "quick"), default="full", help="quick: no GRUB, no systemd, driver installed, IOMMU enabled")
    command.add_argument("--gpus", type=_gpus, help="number of GPUs, 1 to 8 (default: 8); bus numbers: the last of 67 68 6a 6b e5 e6 e7 e8")
    command.add_argument("--model", default="a40", metavar="MODEL[*NUMBER][,…]", help="model of all GPUs, or of each GPU: t4,a40,a100 or a40*4,t4")
    command.add_argument("--board", choices=("hgx",), help="place the GPUs on a board with NVSwitches")
    command.add_argument("--guest", metavar="TYPE", help="create a VM with a vGPU of this type (such as A40-24Q), or without a vGPU (none), instead of a host")
    command.add_argument("--framework", choices=("mdev", "vendor_vfio"), help="vGPU framework of GPUs with SR-IOV (default: the framework of the kernel)")
    command.add_argument("--iommu", choices=image.IOMMUS, default="intel")
    command.add_argument(
        "--start", choices=(*image.STARTS, "ready"), default="vfio-pci",
        help="start state of the host (full tier); ready: driver installed, IOMMU enabled",
    )
    command.add_argument("--boot-iommu", choices=("on", "off"), default="off", help="whether the IOMMU is enabled at the first boot (full tier)")
    command.add_argument("--snapshot", metavar="TAG", help="save a snapshot with this name after the boot")
    for option, text in (("--hw", "hardware setting, such as sriov=0, or 2.sriov=0 for GPU 2"), ("--driver", "driver setting, such as creatable_format=1")):
        command.add_argument(option, action="append", default=[], type=_hardware, metavar="KEY=NUMBER", help=text)
    memory(command)
    command.add_argument("--cpus", type=int, default=2)
    command = add("ssh", _ssh, "run a command in the machine as the user ansible, who can use sudo; without a command, start a shell")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    add("inventory", _inventory, "print an Ansible inventory")
    for name, function, text in (
        ("snapshot", _snapshot, "save the complete state of the machine"), ("restore", _restore, "restore a snapshot"),
    ):
        add(name, function, text).add_argument("tag", metavar="TAG")
    command = add("fault", _fault, "set faults (KEY=NUMBER; KEY= resets a fault); without arguments, list the faults")
    command.add_argument("assignments", nargs="*", metavar="KEY=NUMBER")
    add("power-cut", _power_cut, "cut the power, boot the machine again, and wait for ssh")
    add("down", _down, "stop a machine and delete its disk").add_argument("--keep", action="store_true", help="keep the disk")
    add("list", _list, "list this checkout's machines", False)
    systems(add("bundle", _bundle, "print the path of the driver bundle (debian13: also with modules for Debian 12)", False))
    command = add("fabric", _fabric, "print the path of an apt repository with Fabric Manager's packages", False)
    systems(command)
    command.add_argument("--version", default=fabric.VERSION, help=f"driver version (default: {fabric.VERSION}, the version in the bundle)")
    command = add("tree", _tree, "print the path of a root tree with Debian packages for programs in a chroot; build the tree if necessary", False)
    systems(command)
    command.add_argument("packages", nargs="+", metavar="PACKAGE")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status. Errors that the user can fix result in one message without a traceback."""
    args = parser().parse_args(argv)
    host_packages.extend_path()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: stops all processes that the command has started
    try:
        return args.function(args)
    except TwinError as error:
        print(f"twin: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("twin: interrupted", file=sys.stderr)
        return 130
