# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad inputs for parsers. Each input is a good input with small changes, and all inputs are counted.

``VGPU_FUZZ`` sets the total number of inputs for a run of this directory (3,000 by default). ``VGPU_FUZZ_SEED`` selects the inputs.
The same number and the same seed produce the same inputs.
"""

from __future__ import annotations

import os
import pathlib
import random

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError

TOTAL = int(os.environ.get("VGPU_FUZZ") or 3000)
SEED = int(os.environ.get("VGPU_FUZZ_SEED") or 0)
ASKED = "VGPU_FUZZ" in os.environ
SAMPLES = pathlib.Path(__file__).resolve().parents[1] / "samples"

# Inputs that often break parsers: numbers at and beyond limits, unusual digits, ends of lines and of texts, and other encodings.
WORDS = (
    "", "0", "-1", "00", "010", "0x", "0xffffffff", "1e9", "4294967296", "18446744073709551616", "9" * 30, "9" * 5000, "1.2.3", ".", "²", "٣", "nan", "inf",
    "N/A", "[N/A]", "None", "null", "true", "[]", "{}", '""', "\n", "\n\n", "\r", "\r\n", "\t", "\x0b", "\x0c", "\0", "\x1b[31m", "\ufeff", "\u2028", "é",
    "\udcff", "\U0001f600", " " * 50, ":", "::", "=", ",", ",,", "|", "%s", "%n", "{{ 1 }}", "../", "/", "\\", "'", '"', "$(reboot)", "`", ";", "#", "(null)",
    "0000:e8:00.0", "00000000:E8:00.0", "ffffffff:ff:1f.7", "0000:e8:20.0", "e8:00.4", "GPU-", "nvidia-", "A40-24Q", "A100-1-5C", "-48Q", "1g.5gb",
    "99999g.99999gb", "0g.0gb+me", "MIG",
)


class Count:
    """Counts the tried inputs of each test."""

    def __init__(self):
        self.by_test = {}

    def add(self, test):
        """Count one more input for a test."""
        self.by_test[test] = self.by_test.get(test, 0) + 1

    @property
    def all(self):
        """Return the total over all tests."""
        return sum(self.by_test.values())


COUNT = Count()


def share(part):
    """Return the number of inputs for a test: the given thousandths of the total, rounded up."""
    return max(1, -(-TOTAL * part // 1000))


def generator(name):
    """Return the random number generator of a test."""
    return random.Random("%d %s" % (SEED, name))


def sample(name):
    """Return the captured output with that name."""
    return (SAMPLES / name).read_text(encoding="utf-8")


def samples(*endings):
    """Return all captured outputs whose file names end in one of these endings."""
    return [one.read_text(encoding="utf-8") for one in sorted(SAMPLES.iterdir()) if one.name.endswith(endings)]


def _insert(rng, text, other):
    position = rng.randint(0, len(text))
    return text[:position] + rng.choice(WORDS) + text[position:]


def _replace(rng, text, other):
    start = rng.randint(0, len(text))
    return text[:start] + rng.choice(WORDS) + text[min(len(text), start + rng.randint(1, 12)):]


def _cut(rng, text, other):
    start = rng.randint(0, len(text))
    return text[:start] + text[start + rng.randint(1, 40):]


def _truncate(rng, text, other):
    return text[: rng.randint(0, len(text))]


def _repeat(rng, text, other):
    start = rng.randint(0, len(text))
    piece = text[start: start + rng.randint(1, 60)]
    return text[:start] + piece * rng.randint(2, 5) + text[start:]


def _lines(rng, text, other):
    rows = text.split("\n")
    one, two = rng.randrange(len(rows)), rng.randrange(len(rows))
    rows[one], rows[two] = rows[two], rows[one]
    if rng.random() < 0.3:
        del rows[one]
    return "\n".join(rows)


def _cross(rng, text, other):
    return text[: rng.randint(0, len(text))] + other[rng.randint(0, len(other)):]


def _characters(rng, text, other):
    found = list(text)
    for dummy in range(min(len(found), rng.randint(1, 4))):
        found[rng.randrange(len(found))] = chr(rng.choice((rng.randrange(128), rng.randrange(0x250), rng.randrange(0x600, 0x700))))
    return "".join(found)


def _numbers(rng, text, other):
    positions = [position for position, letter in enumerate(text) if letter.isdigit()]
    if not positions:
        return text
    position = rng.choice(positions)
    return text[:position] + rng.choice(WORDS[:18]) + text[position + 1:]


_CHANGES = (_insert, _replace, _cut, _truncate, _repeat, _lines, _cross, _characters, _numbers, _numbers)


def mutated(rng, seeds):
    """Return a text derived from one of the seeds by a few changes."""
    text = rng.choice(seeds)
    for dummy in range(rng.choice((1, 1, 1, 2, 3, 6))):
        text = rng.choice(_CHANGES)(rng, text, rng.choice(seeds))
    return text


def tolerated(name, work, *arguments):
    """Return the result of *work*, or None if it raises an expected error with a message. Any other exception fails the test."""
    COUNT.add(name)
    try:
        return work(*arguments)
    except EngineError as exc:
        must_help(exc.errors)
        return None


def must_help(errors):
    """Assert that each error has a code, a finding without a traceback, and a device, an expectation, or a remedy."""
    assert errors
    for one in errors:
        assert one.found.strip() and one.code, one
        assert "Traceback" not in str(one) and "object at 0x" not in str(one), one
        assert one.device or one.expected or one.remedy, "the error has no device, no expectation, and no remedy: %s" % one
