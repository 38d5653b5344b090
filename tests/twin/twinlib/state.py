# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The stored settings of each machine (.build/twin/NAME/machine.json), and the assignment of ports."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from . import cache, paths
from .progress import TwinError


@dataclass
class Machine:
    """The settings of one twin, with which the launcher restarts the machine and connects to it."""

    name: str
    tier: str
    gpus: int
    iommu: str
    start: str
    boot_iommu: bool
    port: int
    accel: str
    memory_mib: int
    cpus: int
    hardware: list[str]  # twin_hw settings, KEY=VALUE
    kernel: str = ""  # quick tier: files for the direct kernel boot
    initrd: str = ""
    key: str = ""
    system: str = "debian12"
    models: list[str] = field(default_factory=list)  # model of each GPU; empty: all GPUs are A40s
    driver: list[str] = field(default_factory=list)  # driver settings, KEY=NUMBER
    guest: str = ""  # for a VM: the type of its vGPU, or "none"
    extras: list[str] = field(default_factory=list)  # values of --with
    boot: str = "bios"  # firmware and boot loader, from image.BOOTS
    board: str = ""  # hgx: the GPUs are on a board with NVSwitches

    @property
    def folder(self) -> Path:
        """Return the directory with the machine's disk, sockets, and logs."""
        return paths.machines() / self.name

    @property
    def disk(self) -> Path:
        """Return the path of the machine's disk, which contains the snapshots."""
        return self.folder / "disk.qcow2"

    @property
    def efi_variables(self) -> Path:
        """Return the path of the UEFI variables. The file has the disk's format, because snapshots include the variables."""
        return self.folder / "efivars.qcow2"

    @property
    def serial_log(self) -> Path:
        """Return the path of the log with the serial console's output since the last start."""
        return self.folder / "serial.log"

    @property
    def control_path(self) -> Path:
        """Return the path of the shared ssh connection. It is short (at most 107 characters) and has only characters that ssh's options allow."""
        path = self.folder / "cm-%C"
        if re.fullmatch(r"[\w/.-]{1,33}", str(self.folder)):
            return path
        tag = hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        folder = Path(tempfile.gettempdir()) / f"twin-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise TwinError(f"{folder} belongs to another user. Set TMPDIR to a directory that belongs to you.")
        return folder / f"{tag}-%C"

    def pid(self) -> int:
        """Return QEMU's process ID, or 0 if QEMU is not running."""
        try:
            pid = int((self.folder / "qemu.pid").read_text(encoding="utf-8"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return 0
        return pid if f"guest=twin-{self.name},".encode() in command else 0  # the pid can belong to another process now

    def save(self) -> None:
        """Write machine.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2) + "\n"
        (self.folder / "machine.json").write_text(text, encoding="utf-8")


def check_name(name: str) -> str:
    """Return the name. Raises TwinError if the name is not valid as a directory name and a host name."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise TwinError(f"'{name}' is not a valid name for a twin (expected: up to 32 of the characters a-z, 0-9, and -).")
    return name


def load(name: str) -> Machine:
    """Return the machine with this name."""
    path = paths.machines() / check_name(name) / "machine.json"
    if not path.exists():
        known = ", ".join(m.name for m in every()) or "none"
        raise TwinError(f"The twin '{name}' does not exist (known: {known}). Start the twin with 'tests/twin/twin up {name}'.")
    data = json.loads(path.read_text(encoding="utf-8"))
    return Machine(**{f.name: data[f.name] for f in fields(Machine) if f.name in data})


def every() -> list[Machine]:
    """Return all machines of this checkout."""
    return [load(p.parent.name) for p in sorted(paths.machines().glob("*/machine.json"))]


def claim(machine: Machine) -> None:
    """Assign a free port to the machine and store it. Simultaneous `up` commands get different ports."""
    with cache.lock(paths.machines() / "ports.lock"):
        taken = {m.port for m in every() if m.name != machine.name}
        while machine.port == 0 or machine.port in taken:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                machine.port = probe.getsockname()[1]
        machine.save()
