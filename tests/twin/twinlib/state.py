# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""What is remembered about each machine: .build/twin/NAME/machine.json, and who has which port."""

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
    """One twin. Everything that is needed to start it again, and to talk to it."""

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
    kernel: str = ""  # quick tier: files of the direct boot
    initrd: str = ""
    key: str = ""
    system: str = "debian12"
    models: list[str] = field(default_factory=list)  # of each GPU; none: all A40
    driver: list[str] = field(default_factory=list)  # settings of the driver, KEY=NUMBER
    guest: str = ""  # a VM: the type of its vGPU, or "none"
    extras: list[str] = field(default_factory=list)  # what --with added
    boot: str = "bios"  # firmware and boot loader: a name in image.BOOTS
    board: str = ""  # hgx: the GPUs' board with its NVSwitches

    @property
    def folder(self) -> Path:
        """Where its disk, sockets and logs lie."""
        return paths.machines() / self.name

    @property
    def disk(self) -> Path:
        """Its own disk; also holds the snapshots."""
        return self.folder / "disk.qcow2"

    @property
    def efi_variables(self) -> Path:
        """What its UEFI firmware remembers; in the disk's format, because snapshots hold it, too."""
        return self.folder / "efivars.qcow2"

    @property
    def serial_log(self) -> Path:
        """What the machine wrote on its serial console, since it was last started."""
        return self.folder / "serial.log"

    @property
    def control_path(self) -> Path:
        """Where ssh connections are shared; short, because socket addresses have at most 107 characters, and in plain ones, for ssh's options."""
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
        """QEMU's process id; 0 when it does not run."""
        try:
            pid = int((self.folder / "qemu.pid").read_text(encoding="utf-8"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return 0
        return pid if f"guest=twin-{self.name},".encode() in command else 0  # pids are used again

    def save(self) -> None:
        """Write machine.json."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2) + "\n"
        (self.folder / "machine.json").write_text(text, encoding="utf-8")


def check_name(name: str) -> str:
    """Names become folders and host names."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise TwinError(f"'{name}' is not a valid name for a twin (expected: up to 32 of the characters a-z, 0-9, and -).")
    return name


def load(name: str) -> Machine:
    """The machine of that name."""
    path = paths.machines() / check_name(name) / "machine.json"
    if not path.exists():
        known = ", ".join(m.name for m in every()) or "none"
        raise TwinError(f"The twin '{name}' does not exist (known: {known}). Start the twin with 'tests/twin/twin up {name}'.")
    data = json.loads(path.read_text(encoding="utf-8"))
    return Machine(**{f.name: data[f.name] for f in fields(Machine) if f.name in data})


def every() -> list[Machine]:
    """All machines of this checkout."""
    return [load(p.parent.name) for p in sorted(paths.machines().glob("*/machine.json"))]


def claim(machine: Machine) -> None:
    """Give the machine a free port and write it down; two `up` at once get different ones."""
    with cache.lock(paths.machines() / "ports.lock"):
        taken = {m.port for m in every() if m.name != machine.name}
        while machine.port == 0 or machine.port in taken:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                machine.port = probe.getsockname()[1]
        machine.save()
