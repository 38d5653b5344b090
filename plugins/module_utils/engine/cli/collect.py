# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implements the vgpuctl collect subcommand, which creates a bug report archive without data that identifies the host's owner."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import tarfile
import time
from typing import Any, Callable, Iterator, Sequence

from ..base.errors import EngineError, error
from ..state import layout_file, migration
from ..system import files, libvirt_xml
from ..system.context import Context
from . import doctor, metrics, status
from .command import Option
from .masks import Masks
from .screen import Screen

OPTIONS = (
    Option("--output", metavar="FILE", text="path of the archive (default: vgpuctl-report-<time>.tar.gz in the current directory)"),
    Option("--list", action="store_true", text="list the contents of the archive without writing the archive"),
)
# Limits for each archive file: _MOST characters, _LINES journal lines, and _PATIENCE seconds for a program.
# A file is shortened only after masking, because a mask must match the whole secret.
_MOST, _LINES, _PATIENCE = 2 * 1024 * 1024, 3000, 60
_UNITS = ("nvidia-vgpud", "nvidia-vgpu-mgr", "vgpu-restore", "vgpu-metrics", "nvidia-fabricmanager", "libvirtd", "virtqemud")
_JOURNAL = ("journalctl", "--no-pager", "--no-hostname", "--boot", "--output=short-iso", "--lines=%d" % _LINES)
_KERNEL = re.compile(r"nvidia|NVRM|Xid|nouveau|vfio|mdev|iommu|DMAR|AMD-Vi|SR-IOV|sriov|BAR \d|Command line|Linux version", re.IGNORECASE)
_MODULES = re.compile(r"^(nvidia|nouveau|vfio|mdev|kvm|pci_pf_stub)\w*", re.MULTILINE)
_BOOT_LINES = re.compile(r"nvidia|nouveau|vfio|pci-pf-stub|blacklist", re.IGNORECASE)
# The sysfs files that are read for every GPU and every VF.
_OF_GPU = (
    *("vendor", "device", "subsystem_vendor", "subsystem_device", "class", "revision", "numa_node", "driver_override", "power_state", "reset_method"),
    *("sriov_totalvfs", "sriov_numvfs", "sriov_offset", "sriov_stride", "sriov_vf_device", "sriov_drivers_autoprobe"),
    *("current_link_speed", "current_link_width", "max_link_speed", "max_link_width"),
)
_OF_VF = ("nvidia/current_vgpu_type", "nvidia/vgpu_params")
_PCI = "/sys/bus/pci/devices"
_NVIDIA = "/proc/driver/nvidia"
# The programs that vgpuctl collect runs, each with the name of its output file.
_PROGRAMS: tuple[tuple[str, Sequence[str]], ...] = (
    ("nvidia-smi.txt", ("nvidia-smi",)),
    ("nvidia-smi-q.txt", ("nvidia-smi", "-q")),
    ("nvidia-smi-vgpu.txt", ("nvidia-smi", "vgpu", "-q")),
    ("nvidia-smi-vgpu-types.txt", ("nvidia-smi", "vgpu", "-s")),
    ("services.txt", ("systemctl", "status", "--no-pager", "--lines=0", "--full", *_UNITS)),
    ("journal-services.txt", (*_JOURNAL, *("--unit=%s" % unit for unit in _UNITS))),
)
_VERSIONS: tuple[Sequence[str], ...] = (
    *(("modinfo", "-F", "version", "nvidia"), ("mdevctl", "--version"), ("libvirtd", "--version"), ("qemu-system-x86_64", "--version")),
)


def run(ctx: Context, screen: Screen, args: argparse.Namespace) -> int:
    """Lists the archive's contents, then writes the archive, which only its owner can read."""
    now = time.localtime(ctx.clock.wall())
    path = args.output or time.strftime("vgpuctl-report-%Y%m%d-%H%M%S.tar.gz", now)
    masks = Masks()
    content, unread = _content(ctx)
    _learn(ctx, masks, content)
    masked = {name: _masked(masks, name, text) for name, text in content.items()}
    written = None if args.list else path
    if not args.json:
        screen("%s %s:" % (path, "would contain" if args.list else "contains"), "strong")
        screen.table(["FILE", "BYTES"], [[name, str(len(text.encode("utf-8", "replace")))] for name, text in masked.items()])
        screen("Masked: %s." % (", ".join("%d %s" % (number, kind) for kind, number in masks.counts.items()) or "nothing"))
        for text in unread:
            screen("Not read: %s" % masks.mask(text), "warning")
    if written:
        _write(path, masked, int(ctx.clock.wall()))
    if args.json:
        report = {"archive": written, "files": {name: len(text) for name, text in masked.items()}, "masked": masks.counts}
        screen.json(dict(report, not_read=list(map(masks.mask, unread))))
    elif written:
        screen("Created the archive %s. Check its contents before you share the archive, because secrets that match no rule are not masked." % path, "good")
    return 0


def _write(path: str, content: dict[str, str], when: int) -> None:
    """Writes the archive as a new file that only its owner can read. An existing file is never replaced."""
    begun = whole = False
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        begun = True
        with os.fdopen(number, "wb") as handle, tarfile.open(fileobj=handle, mode="w:gz") as archive:
            for name, text in content.items():
                data = text.encode("utf-8", "replace")
                entry = tarfile.TarInfo("vgpuctl-report/" + name)
                entry.size, entry.mtime, entry.mode = len(data), when, 0o600
                archive.addfile(entry, io.BytesIO(data))
        whole = True
    except OSError as exc:
        found = "the archive cannot be written: %s" % exc.strerror
        raise error(found, path, "a path at which vgpuctl can create a file", "Specify another path with --output.", "archive_not_written") from exc
    finally:
        if begun and not whole:
            with contextlib.suppress(OSError):  # an incomplete archive is useless and uses disk space
                os.unlink(path)


def _content(ctx: Context) -> tuple[dict[str, str], list[str]]:
    """Returns the archive's texts, keyed by file name, and notes about unreadable texts.

    On a broken host, the archive contains all texts that can be read.
    """
    found: dict[str, str] = {}
    unread: list[str] = []
    makers: list[tuple[str, Callable[[], str]]] = [
        *((name + ".json", _printed(ctx, command)) for name, command in (("status", status.run), ("doctor", doctor.run), ("metrics", metrics.run))),
        ("versions.txt", lambda: _versions(ctx)),
        ("sysfs.txt", lambda: "\n".join(_sysfs(ctx)) + "\n"),
        ("proc.txt", lambda: _proc(ctx)),
        ("boot-files.txt", lambda: "\n".join(_boot_files(ctx)) + "\n"),
        ("layout.json", lambda: files.read_text(ctx.root, migration.current(ctx.root, layout_file.PATH)) or ""),
        *((name, _said(ctx, argv)) for name, argv in _PROGRAMS),
        ("journal-kernel.txt", lambda: _kernel(ctx)),
    ]
    for name, make in makers:
        try:
            text = make()
        except (EngineError, OSError) as exc:
            unread.append("%s: %s" % (name, exc))
            continue
        if text.strip():
            found[name] = text
    return found, unread


def _masked(masks: Masks, name: str, text: str) -> str:
    """Returns the masked text. Each JSON string is masked separately, because JSON escapes quotes and non-ASCII letters."""
    if name.endswith(".json"):
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(_each(json.loads(text), masks.mask), indent=1, ensure_ascii=False) + "\n"
    return masks.mask(text)[-_MOST:]


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Returns the JSON value with each string replaced by change(string)."""
    if isinstance(value, dict):
        return {change(key): _each(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_each(one, change) for one in value]
    return change(value) if isinstance(value, str) else value


def _printed(ctx: Context, command: Callable[[Context, Screen, argparse.Namespace], int]) -> Callable[[], str]:
    """Returns a function that runs a subcommand with --json and returns its output."""

    def make() -> str:
        stream = io.StringIO()
        command(ctx, Screen(stream, terminal=False), argparse.Namespace(json=True, output=None, timeout=metrics.TIMEOUT))
        return stream.getvalue()

    return make


def _said(ctx: Context, argv: Sequence[str]) -> Callable[[], str]:
    """Returns a function that runs a program and returns its command line, output, and exit status."""

    def make() -> str:
        answer = ctx.command(argv, _PATIENCE)
        return "$ %s\n%s\n[exit status %d]\n" % (" ".join(argv), answer.out, answer.rc)

    return make


def _kernel(ctx: Context) -> str:
    """Returns kernel log lines about GPUs, VFIO, PCI, and the IOMMU."""
    answer = ctx.command([*_JOURNAL[:-1], "--dmesg"], _PATIENCE)
    lines = [line for line in answer.out.splitlines() if _KERNEL.search(line)] if not answer.rc else [answer.out]
    return "\n".join(lines[-_LINES:]) + "\n"


def _versions(ctx: Context) -> str:
    release = "".join(line + "\n" for line in (files.read_text(ctx.root, "/etc/os-release") or "").splitlines() if not line.startswith("BUILD_ID"))
    lines = [_said(ctx, argv)() for argv in _VERSIONS]
    machine = ["%s: %s" % (name, ctx.sysfs.read_or("/sys/class/dmi/id/%s" % name, "?")) for name in ("sys_vendor", "product_name", "bios_version")]
    return "\n".join([ctx.sysfs.read_or("/proc/version", ""), ctx.sysfs.read_or(_NVIDIA + "/version", ""), release, *machine, "", *lines])


def _sysfs(ctx: Context) -> Iterator[str]:
    """Yields a line for each sysfs file of each GPU, and one line for each VF and each mediated device."""
    for device in sorted(ctx.sysfs.list(_PCI)):
        where = "%s/%s" % (_PCI, device)
        if ctx.sysfs.read_or(where + "/vendor", "") != "0x10de":
            continue
        links = ["%s -> %s" % (name, ctx.sysfs.link("%s/%s" % (where, name))) for name in ("driver", "iommu_group")]
        if ctx.sysfs.link(where + "/physfn"):
            values = ["%s=%s" % (name, ctx.sysfs.read_or("%s/%s" % (where, name), "-").strip()) for name in _OF_VF]
            yield "%s VF of %s: %s" % (device, ctx.sysfs.link(where + "/physfn"), ", ".join([*links, *values]))
            continue
        yield "%s: %s" % (device, ", ".join(links))
        for name in _OF_GPU:
            value = ctx.sysfs.read_or("%s/%s" % (where, name))
            if value is not None:
                yield "  %s = %s" % (name, value.strip())
    for uuid in sorted(ctx.sysfs.list("/sys/bus/mdev/devices")):
        yield "mdev %s: type %s" % (uuid, ctx.sysfs.link("/sys/bus/mdev/devices/%s/mdev_type" % uuid))


def _proc(ctx: Context) -> str:
    parts = ["# /proc/cmdline", ctx.sysfs.read_or("/proc/cmdline", ""), "# /proc/modules"]
    parts += [line for line in ctx.sysfs.read_or("/proc/modules", "").splitlines() if _MODULES.match(line)]
    paths = [_NVIDIA + "/params", *("%s/gpus/%s/information" % (_NVIDIA, one) for one in sorted(ctx.sysfs.list(_NVIDIA + "/gpus")))]
    for path in paths:
        parts += ["# " + path, ctx.sysfs.read_or(path, "")]
    return "\n".join(parts) + "\n"


def _boot_files(ctx: Context) -> Iterator[str]:
    """Yields boot file lines that can bind a GPU to a driver or set kernel flags."""
    for path in [*files.names(ctx.root, "/etc/modprobe.d", ".conf"), *files.names(ctx.root, "/etc/modules-load.d", ".conf")]:
        lines = [line for line in (files.read_text(ctx.root, path) or "").splitlines() if _BOOT_LINES.search(line) and not line.lstrip().startswith("#")]
        yield from ["# " + path, *lines] if lines else ()
    for path in ("/etc/default/grub", *files.names(ctx.root, "/etc/default/grub.d", ".cfg"), "/etc/kernel/cmdline"):
        lines = [line for line in (files.read_text(ctx.root, path) or "").splitlines() if "CMDLINE" in line or path.endswith("/cmdline")]
        yield from ["# " + path, *lines] if lines else ()


def _learn(ctx: Context, masks: Masks, content: dict[str, str]) -> None:
    """Adds the names of the host, its VMs, and its users to the masks, and searches all texts for further names."""
    host = (ctx.sysfs.read_or("/proc/sys/kernel/hostname", "").strip(), (files.read_text(ctx.root, "/etc/hostname") or "").strip())
    masks.add("host", [word for name in host for word in (name, name.partition(".")[0])])
    for line in (files.read_text(ctx.root, "/etc/hosts") or "").splitlines():
        masks.add("host", [part for word in line.partition("#")[0].split()[1:] for part in (word, word.partition(".")[0]) if "ip6-" not in word])
    for line in (files.read_text(ctx.root, "/etc/resolv.conf") or "").splitlines():
        if line.startswith(("search", "domain")):
            masks.add("host", line.split()[1:])
    masks.add("vm", [one.name for one in libvirt_xml.all_domains(ctx)[0]])
    for line in (files.read_text(ctx.root, "/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 4 and fields[2].isdigit() and 1000 <= int(fields[2]) < 65534:
            masks.add("user", [fields[0], *fields[4].split(",")])

    def learn(text: str) -> str:
        masks.learn(text)
        return text

    for name, text in content.items():
        learn(text)
        if name.endswith(".json"):
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(text)
                _each(value, learn)
                masks.add("vm", _vms(value))


def _vms(value: Any) -> Iterator[str]:
    """Yields the VM names in a JSON value. The names of VMs outside libvirt come only from the VMs' processes."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key == "vm" and isinstance(one, str):
            yield one
        yield from _vms(one)
