# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Whether this machine can run guests on KVM.

/dev/kvm, and even machines made through it, prove nothing: under some hypervisors the guest never gets to
run. So a guest of one sector is run, which ends QEMU through its debug exit device.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from . import paths
from .progress import say

CPU = {
    "kvm": "host",
    # No AVX, no SMAP: what the guest does not use, the emulation need not do. A quarter less work than with `max`.
    "tcg": "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
}
EXIT_STATUS = 33  # isa-debug-exit: (0x10 << 1) | 1
RESET_CODE = b"\xb0\x10\xe6\xf4\xf4"  # mov al,10h; out f4h,al; hlt
FIRMWARE = b"\xf4" * (65536 - 16) + RESET_CODE.ljust(16, b"\xf4")  # a processor starts 16 bytes below the end
SECONDS = 4  # the guest needs a tenth of a second


def find() -> str:
    """`kvm` where a guest really runs on it, else `tcg` (software emulation). Asked once per boot of this machine."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    memory = paths.cache() / "accel"
    try:
        known = memory.read_text(encoding="utf-8").split()
    except OSError:
        known = []
    if len(known) == 2 and known[0] == boot_id:
        return known[1]
    say("trying KVM")
    found = "kvm" if _guest_runs() else "tcg"
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(f"{boot_id} {found}\n", encoding="utf-8")
    return found


def _guest_runs() -> bool:
    with tempfile.NamedTemporaryFile(suffix=".bin") as firmware:
        firmware.write(FIRMWARE)
        firmware.flush()
        try:
            return subprocess.run(
                probe("kvm", firmware.name), stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            ).returncode == EXIT_STATUS
        except subprocess.TimeoutExpired:
            return False


def probe(accelerator: str, firmware: str) -> list[str]:
    """The QEMU command that ends with EXIT_STATUS when the guest ran."""
    return [
        "qemu-system-x86_64", "-accel", accelerator, "-cpu", CPU[accelerator], "-machine", "q35", "-m", "64", "-nodefaults",
        "-display", "none", "-device", "isa-debug-exit,iobase=0xf4", "-bios", firmware,
    ]
