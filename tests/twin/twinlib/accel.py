# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The accelerator of new machines: the faster of KVM and emulation, measured.

A /dev/kvm that opens proves nothing: under some hypervisors it is a KVM in software, a hundred times slower than QEMU's own emulation,
and under others QEMU aborts. So one guest program, a loop of many rounds, runs on both.
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
    # arch-capabilities: some hypervisors offer the register and refuse to set it, and QEMU aborts. Our guests run without mitigations.
    "kvm": "host,-arch-capabilities",
    # No AVX, no SMAP: what the guest does not use, the emulation need not do. A quarter less work than with `max`.
    "tcg": "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
}
DEVICE = Path("/dev/kvm")
MODULES = Path("/sys/module")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

ROUNDS = 90_000_000
DEADLINE = 5.0  # seconds for each accelerator; emulation takes half a second on an idle processor
EXIT_STATUS = 33  # isa-debug-exit: (0x10 << 1) | 1
# mov ecx,ROUNDS; again: dec ecx; jnz again; mov al,10h; out f4h,al; hlt
LOOP = b"\x66\xb9" + struct.pack("<I", ROUNDS) + b"\x66\x49\x75\xfc\xb0\x10\xe6\xf4\xf4"
FIRMWARE = b"\xf4" * (65536 - 16) + LOOP.ljust(16, b"\xf4")  # a processor starts 16 bytes below the end


@dataclass(frozen=True)
class Choice:
    """An accelerator, `kvm` or `tcg`, and why it was chosen."""

    accelerator: str
    why: str

    def __str__(self) -> str:
        return f"accelerator: {NAMES[self.accelerator]}; {self.why}"


@dataclass(frozen=True)
class Trial:
    """How the guest program did on one accelerator."""

    seconds: float  # infinite: it did not end well
    found: str  # for people

    @property
    def ended(self) -> bool:
        """Whether the program ran to its end."""
        return self.seconds < DEADLINE


def requested() -> str:
    """The word in TWIN_ACCEL: auto, kvm or tcg."""
    word = os.environ.get(VARIABLE) or "auto"
    if word not in WORDS:
        raise TwinError(
            f"{VARIABLE}={word}: unknown accelerator (expected: {', '.join(WORDS)}). Correct or unset the variable. "
            "Without the variable, the faster accelerator is used."
        )
    return word


def check() -> str:
    """The word in TWIN_ACCEL; refuse one that cannot be followed here."""
    word = requested()
    denied = _denied()
    if word == "kvm" and denied:
        raise TwinError(f"{VARIABLE}=kvm, but {denied}. Load the KVM module, get access to {DEVICE}, or unset {VARIABLE}.")
    return word


def find() -> Choice:
    """The accelerator for a new machine. Measured once per boot of this machine, QEMU version and KVM module."""
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
    """What `find` would return, without measuring."""
    word = requested()
    known = Choice(word, f"{VARIABLE}={word}") if word != "auto" else Choice("tcg", _denied()) if _denied() else _remembered()
    return str(known or f"accelerator: not measured yet. 'twin up' measures and selects the accelerator ({VARIABLE}: {', '.join(WORDS)})")


def remember(choice: Choice) -> None:
    """Keep the choice for this boot of the machine, QEMU version and KVM module."""
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
    """What the choice depends on."""
    version = run(["qemu-system-x86_64", "--version"]).splitlines()[0]
    modules = sorted(module.name for module in MODULES.glob("kvm*"))
    return "; ".join([BOOT_ID.read_text(encoding="utf-8").strip(), version, " ".join(modules)])


def _denied() -> str:
    """Why KVM cannot be opened; empty if it can."""
    if not DEVICE.exists():
        return f"{DEVICE} does not exist"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} is not accessible to this user (group kvm)"
    return ""


def _faster(kvm: Trial, tcg: Trial) -> Choice:
    """The accelerator with the shorter time; emulation if neither program ended."""
    winner = "kvm" if kvm.ended and kvm.seconds <= tcg.seconds else "tcg"
    return Choice(winner, f"{ROUNDS // 1_000_000} million rounds: KVM {kvm.found}, emulation {tcg.found}")


def _trial(accelerator: str) -> Trial:
    """Run the guest program on one accelerator."""
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
    """The QEMU command that ends with EXIT_STATUS when the guest program has ended."""
    return [
        "qemu-system-x86_64", "-accel", accelerator, "-cpu", CPU[accelerator], "-machine", "q35", "-m", "64", "-nodefaults",
        "-display", "none", "-device", "isa-debug-exit,iobase=0xf4", "-bios", firmware,
    ]
