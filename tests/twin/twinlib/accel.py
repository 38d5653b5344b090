# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Selects the accelerator of new machines: KVM or emulation, whichever is faster in a measurement.

An accessible /dev/kvm is not sufficient: under some hypervisors, KVM is implemented in software and a hundred times slower than QEMU's
emulation, and under others, QEMU aborts. To compare the accelerators, the same guest program, a loop, runs on both.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import paths
from .progress import TwinError, say
from .run import run

VARIABLE = "TWIN_ACCEL"
WORDS = ("auto", "kvm", "tcg")
NAMES = {"kvm": "KVM", "tcg": "emulation (tcg)"}
CPU = {
    # Some hypervisors offer the arch-capabilities register but do not allow setting it, so QEMU aborts. Twins do not need it: mitigations are off.
    "kvm": "host,-arch-capabilities",
    # No AVX and no SMAP, because the guest does not need them. Emulating this CPU is a quarter less work than emulating `max`.
    "tcg": "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
}
DEVICE = Path("/dev/kvm")
MODULES = Path("/sys/module")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

ROUNDS = 90_000_000
DEADLINE = 5.0  # limit per accelerator in seconds; emulation takes half a second on an idle processor
EXIT_STATUS = 33  # status that isa-debug-exit computes: (0x10 << 1) | 1
# mov ecx,ROUNDS; again: dec ecx; jnz again; mov al,10h; out f4h,al; hlt
LOOP = b"\x66\xb9" + struct.pack("<I", ROUNDS) + b"\x66\x49\x75\xfc\xb0\x10\xe6\xf4\xf4"
FIRMWARE = b"\xf4" * (65536 - 16) + LOOP.ljust(16, b"\xf4")  # a processor starts 16 bytes before the end


@dataclass(frozen=True)
class Choice:
    """An accelerator, `kvm` or `tcg`, and the reason for the choice."""

    accelerator: str
    why: str

    def __str__(self) -> str:
        return f"accelerator: {NAMES[self.accelerator]}; {self.why}"


@dataclass(frozen=True)
class Trial:
    """The result of the guest program on one accelerator."""

    seconds: float  # infinite if the program failed
    found: str  # text for the user

    @property
    def ended(self) -> bool:
        """Return whether the program completed."""
        return self.seconds < DEADLINE


def requested() -> str:
    """Return the value of TWIN_ACCEL: auto, kvm, or tcg."""
    word = os.environ.get(VARIABLE) or "auto"
    if word not in WORDS:
        raise TwinError(
            f"{VARIABLE}={word}: unknown accelerator (expected: {', '.join(WORDS)}). Correct or unset the variable. "
            "Without the variable, the faster accelerator is used."
        )
    return word


def check() -> str:
    """Return the value of TWIN_ACCEL. Raises TwinError if this machine does not support the accelerator."""
    word = requested()
    denied = _denied()
    if word == "kvm" and denied:
        raise TwinError(f"{VARIABLE}=kvm, but {denied}. Load the KVM module, get access to {DEVICE}, or unset {VARIABLE}.")
    return word


def find() -> Choice:
    """Return the accelerator for a new machine. Measures once per boot of this machine, QEMU version, and KVM module."""
    word = check()
    if word != "auto":
        return Choice(word, f"{VARIABLE}={word}")
    denied = _denied()
    if denied:
        return Choice("tcg", denied)
    known = _remembered()
    if known:
        return known
    say(f"measuring KVM and emulation (at most {2 * DEADLINE:.0f} s, once per boot)")
    choice = _faster(_trial("kvm"), _trial("tcg"))
    remember(choice)
    return choice


def describe() -> str:
    """Return the text of the choice that `find` would return, without measuring."""
    word = requested()
    known = Choice(word, f"{VARIABLE}={word}") if word != "auto" else Choice("tcg", _denied()) if _denied() else _remembered()
    return str(known or f"accelerator: not measured yet. 'twin up' measures and selects the accelerator ({VARIABLE}: {', '.join(WORDS)})")


def remember(choice: Choice) -> None:
    """Store the choice for this boot of the machine, QEMU version, and KVM module."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    _file().write_text(json.dumps({"machine": _machine(), **asdict(choice)}) + "\n", encoding="utf-8")


def _remembered() -> Choice | None:
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        return Choice(kept["accelerator"], kept["why"]) if kept["machine"] == _machine() and kept["accelerator"] in CPU else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file() -> Path:
    return paths.cache() / "accel.json"


def _machine() -> str:
    """Return the properties of this machine on which the choice depends."""
    version = run(["qemu-system-x86_64", "--version"]).splitlines()[0]
    modules = sorted(module.name for module in MODULES.glob("kvm*"))
    return "; ".join([BOOT_ID.read_text(encoding="utf-8").strip(), version, " ".join(modules)])


def _denied() -> str:
    """Return the reason why KVM cannot be opened, or an empty string."""
    if not DEVICE.exists():
        return f"{DEVICE} does not exist"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} is not accessible to this user (group kvm)"
    return ""


def _faster(kvm: Trial, tcg: Trial) -> Choice:
    """Return the accelerator with the shorter time, or emulation if neither program completed."""
    winner = "kvm" if kvm.ended and kvm.seconds <= tcg.seconds else "tcg"
    return Choice(winner, f"{ROUNDS // 1_000_000} million rounds: KVM {kvm.found}, emulation {tcg.found}")


def _trial(accelerator: str) -> Trial:
    """Run the guest program on one accelerator and return the result."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as firmware:
        firmware.write(FIRMWARE)
        firmware.flush()
        begin = time.monotonic()
        try:
            done = subprocess.run(
                probe(accelerator, firmware.name), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=DEADLINE, check=False,
            )
        except subprocess.TimeoutExpired:
            return Trial(float("inf"), f"more than {DEADLINE:.0f} s")
        except OSError as error:
            return Trial(float("inf"), f"failed ({error.strerror})")
    if done.returncode != EXIT_STATUS:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        return Trial(float("inf"), f"failed ({reason})")
    seconds = time.monotonic() - begin
    return Trial(seconds, f"{seconds:.2f} s")


def probe(accelerator: str, firmware: str) -> list[str]:
    """Return the QEMU command that exits with EXIT_STATUS when the guest program has completed."""
    return [
        "qemu-system-x86_64", "-accel", accelerator, "-cpu", CPU[accelerator], "-machine", "q35", "-m", "64", "-nodefaults",
        "-display", "none", "-device", "isa-debug-exit,iobase=0xf4", "-bios", firmware,
    ]
