# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Updates the tables of GPUs and vGPU types from three lists of public facts.

    python3 tests/tools/gpu_tables.py GPU_NAMES VGPU_NAMES VGPU_COUNTS [--check]

GPU_NAMES    PCI device id, subsystem device id (0000: any), subsystem vendor id, product name
VGPU_NAMES   PCI device id, subsystem id that a VM sees, full name of the vGPU type
VGPU_COUNTS  short name of a vGPU type, number of vGPUs of this type that fit on one GPU

The lists are tab-separated, with comments after #. They come from the tables of NVIDIA's open kernel modules and from the example configuration of
NVIDIA's vgpu-device-manager. The rows of plugins/module_utils/engine/hardware/boards.py are written by hand: add a row for a new board. This tool
updates the columns that the lists cover (product, framebuffer, word in type names, MIG), the GPU instance profiles, and hardware/guest_types.py.
--check changes nothing and prints the names of files that differ.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Iterable

ROOT = Path(__file__).resolve().parents[2]
HARDWARE = ROOT / "plugins" / "module_utils" / "engine" / "hardware"
COLUMNS = 150

_TYPE = re.compile(r"^(?P<gpu>.+?)-(?:(?P<slices>[1-7])-)?(?P<gib>[0-9]{1,3})(?P<series>[QAC]|B4?)?(?P<suffix>ME|GFX)?$")
MOST = 32  # the same limit as in hardware/catalog.py
_SUFFIXES = {"ME": "+me", "GFX": "+gfx"}

Rows = list[list[str]]


def read_list(path: Path) -> Rows:
    """Return the rows of a tab-separated list, without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]


def block(text: str, name: str) -> tuple[str, str, str]:
    """Split a table's source into the part before the text of the string *name*, that text, and the part after it."""
    before, opening, rest = text.partition(f'{name} = """\\\n')
    inside, closing, after = rest.partition('"""')
    return before + opening, inside, closing + after


def put(text: str, name: str, lines: Iterable[str]) -> str:
    """Return a table's source with other lines in the string *name*."""
    before, _inside, after = block(text, name)
    return before + "".join(line + "\n" for line in lines) + after


def parts(type_name: str) -> dict[str, str]:
    """Return the parts of a type's name: gpu, slices, gib, series and suffix."""
    match = _TYPE.match(type_name.split()[-1])
    if match is None:
        raise SystemExit(f"{type_name} is not the name of a vGPU type")
    return {key: value or "" for key, value in match.groupdict().items()}


def profiles(counts: Rows) -> dict[str, dict[str, list[str]]]:
    """Derive the GPU instance profiles from the MIG-backed types.

    Returns {word in type names: {slices x GiB of the whole GPU: profiles, each with the number that fits on a GPU}}.
    """
    sliced: dict[str, dict[tuple[int, str], dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for name, count in counts:
        one = parts(name)
        if one["slices"]:
            sliced[one["gpu"]][(int(one["slices"]), one["suffix"])][int(one["gib"])] = int(count)
    found: dict[str, dict[str, list[str]]] = {}
    for gpu, groups in sliced.items():
        graphics = any(suffix == "GFX" for _slices, suffix in groups)
        listed = []
        for (slices, suffix), sizes in sorted(groups.items()):
            # Several vGPUs can share a GPU instance with graphics; a vGPU of the largest type fills the instance. Any other instance has a single vGPU.
            kept = {max(sizes): sizes[max(sizes)]} if graphics else sizes
            if graphics == (suffix == "GFX"):
                listed += [(slices, size, f"{slices}g.{size}gb{_SUFFIXES.get(suffix, '')}*{count}") for size, count in kept.items()]
        most = max(listed)
        found[gpu] = {f"{most[0]}x{most[1]}": [text for _slices, _size, text in sorted(listed)]}
    return found


def limits(counts: Rows, sizes: dict[str, int]) -> list[str]:
    """Return the time-sliced types whose limit is lower than the framebuffer allows, and their limits. *sizes* has the GiB by the word in type names."""
    found = []
    for name, count in counts:
        one = parts(name)
        if not one["slices"] and one["gpu"] in sizes and int(count) < min(sizes[one["gpu"]] // (int(one["gib"]) or 1), MOST):
            found.append(f"{name}*{count}")
    return found


def update_boards(text: str, gpus: Rows, types: Rows, counts: Rows) -> str:
    """Return the source of boards.py, updated from the lists."""
    words: dict[str, set[str]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for device, _subsystem, name in types:
        one = parts(name)
        words[device].add(one["gpu"])
        sizes[one["gpu"]] = max(sizes[one["gpu"]], int(one["gib"]))
    products = {(device, subsystem): name for device, subsystem, _vendor, name in reversed(gpus) if not _TYPE.match(name.split()[-1])}
    sets = profiles(counts)
    rows, used, whole = [], {}, {}
    for line in block(text, "BOARDS")[1].splitlines():
        ids, model, product, architecture, gib, vfs, word, mig = (column.strip() for column in line.split("|"))
        device, _colon, subsystem = ids.partition(":")
        known = {name for (one, number), name in products.items() if one == device and subsystem in ("", number)}
        product = product if product in known or not known else sorted(known)[0]
        if len(words[device]) == 1:
            word = next(iter(words[device]))
        gib = str(sizes.get(word) or gib)
        whole[word] = int(gib)
        mig = next(iter(sets.get(word, {})), mig)
        used.update({mig: one for key, one in sets.get(word, {}).items() if key == mig})
        rows.append(" | ".join([ids, model, product, architecture, gib, vfs, word, mig]).strip())
    listed = [f"{key}: {' '.join(one)}" for key, one in sorted(used.items(), key=lambda item: [int(number) for number in item[0].split("x")])]
    return put(put(put(text, "BOARDS", rows), "PROFILES", listed), "LIMITS", limits(counts, whole))


def update_guest_types(text: str, gpus: Rows, types: Rows) -> str:
    """Return the source of guest_types.py with all subsystem ids that a VM can see."""
    names = [tuple(row) for row in types]
    names += [(device, subsystem, name) for device, subsystem, _vendor, name in gpus if _TYPE.match(name.split()[-1]) and subsystem != "0000"]
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for device, subsystem, name in sorted(names):
        one = parts(name)
        rest = name.split()[-1][len(one["gpu"]) + 1:]
        groups[(device, name[: -len(rest) - 1])].append(f"{subsystem}={rest}")
    lines: list[str] = []
    for (device, head), ones in sorted(groups.items()):
        lines += textwrap.wrap(f"{device} {head}: {' '.join(ones)}", COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
    return put(text, "TYPES", lines)


def main(words: list[str] | None = None) -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    for name in ("gpu_names", "vgpu_names", "vgpu_counts"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing; print the names of files that differ")
    options = parser.parse_args(words)
    gpus, types, counts = (read_list(path) for path in (options.gpu_names, options.vgpu_names, options.vgpu_counts))
    boards, guests = HARDWARE / "boards.py", HARDWARE / "guest_types.py"
    expected = {
        boards: update_boards(boards.read_text(encoding="utf-8"), gpus, types, counts),
        guests: update_guest_types(guests.read_text(encoding="utf-8"), gpus, types),
    }
    differing = [path for path, text in expected.items() if path.read_text(encoding="utf-8") != text]
    for path in differing:
        print(f"{path.relative_to(ROOT)} {'differs from the lists' if options.check else 'updated'}")
        if not options.check:
            path.write_text(expected[path], encoding="utf-8")
    return 1 if options.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
