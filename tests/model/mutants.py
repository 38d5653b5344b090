# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Plants defects in copies of the planner, one at a time, and prints which defects the test model finds.

Run this program by hand from a directory ``ansible_collections/vgpu/kvm``. It requires pytest and hypothesis:

    python3 tests/model/mutants.py --seconds 300 --jobs 16
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "plugins" / "module_utils" / "engine"


class Mutant(NamedTuple):
    """A planted defect. suite: the worlds that can reveal it. file: the engine file in which the only occurrence of `old` is replaced with `new`."""

    title: str
    suite: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant("nvidia-smi is not queried for keys that are recreated", "layout", "checks/in_use.py",
           'return [step.args["key"] for step in steps if step.kind == "params" or',
           'return removed(steps) or [step.args["key"] for step in steps if False and'),
    Mutant("former keys are never removed from the layout file", "layout", "state/layout_file.py",
           "if key in present and (key not in types or present[key] not in (None, types[key]))", "if key not in types"),
    Mutant("GPU instances are counted for each type", "mig", "mig/selection.py",
           "found.setdefault((profile.name, size),", "found.setdefault((name, size),"),
    Mutant("a vGPU with a moved UUID is created before the old vGPU is removed", "layout", "vgpu/plan.py",
           "    _move_first(result)\n", ""),
    Mutant("a vGPU with an explicit UUID loses its VF", "layout", "vgpu/placement.py", "return was.uuid == one.spec.uuid and", "return False and"),
    Mutant("the restore fails because of vGPUs in use that it does not change", "layout", "boot/restore.py",
           "persist=False, keeps=True", "persist=False"),
    Mutant("VFs are stored for a GPU whose VFs are disabled", "layout", "vgpu/plan.py",
           'comes = planned.placed or "vfs" in options.assume', "comes = True"),
    Mutant("a type given by number bypasses the check of MIG mode", "mig", "vgpu/layout.py",
           "if names else spec", "if names and False else spec"),
    Mutant("a vGPU of another type uses the VF of a missing vGPU", "layout", "vgpu/placement.py",
           "(one.spec.index is None, one not in continued, one.spec.uuid is None)", "(one.spec.index is None, one in continued, one.spec.uuid is None)"),
    Mutant("idle mediated devices count as sharing GPU instances", "mig", "mig/selection.py",
           "if selected.certain and len(alike) > 1 and any(one.coming for one in alike):", "if False:"),
    Mutant("more GPU instances of a profile than the driver allows", "mig", "mig/placement.py", "if most and counts[name] > most", "if False"),
    Mutant("a stranded GPU with MIG is not recovered at boot", "mig", "boot/restore.py", "if gpu.driver in STRANDED:  #", "if False:  #"),
    Mutant("a layout is rejected because of a UUID on a GPU that fell off the bus", "layout", "vgpu/plan.py",
           "gpu.address in specs and result.target.of(gpu.address).placed is None:", "False:"),
    Mutant("mixed-size mode stays enabled without a warning", "layout", "vgpu/gpu_plan.py",
           "    if not request.spec.mixed:\n        unset_mixed(result, target, request.gpu, request.stored)\n", ""),
    Mutant("the next vGPU of a VF inherits the VF's parameters", "layout", "frameworks/vendor_vfio.py",
           "        if self.params(parent):\n            self.set_params(parent, \"\")", "        if False:\n            self.set_params(parent, \"\")"),
    Mutant("vGPUs are doubled on a GPU that two selectors of an entry match", "layout", "vgpu/layout.py",
           "                specs[pf].add(entry)\n",
           "                for dummy in [one for one in entry.selectors if pf in [gpu.address for gpu in inventory.select([one])[0]]]:\n"
           "                    specs[pf].add(entry)\n"),
    Mutant("all idle MIG-backed vGPUs are recreated although recreating one suffices", "mig", "vgpu/gpu_plan.py",
           "return sorted((some for some in sets if some), key=len)", "return sorted((some for some in sets if some), key=len)[-1:]"),
    Mutant("a request without parameters prefers an idle vGPU", "layout", "vgpu/placement.py",
           "    lambda requested, present, stays: stays == _USED and requested is None,\n", ""),
    Mutant("a UUID that moved from a GPU off the bus is stored twice", "layout", "vgpu/plan.py",
           "kept.append(replace(stored, vgpus=[one for one in stored.vgpus if one.uuid not in placed]))", "kept.append(stored)"),
    Mutant("usage is not checked again before a vGPU is removed", "layout", "vgpu/apply.py",
           'holders = [] if step.args.get("forced") else', 'holders = [] if step.kind == "remove" else'),
)


def plant(mutant: Mutant, engine: Path) -> None:
    """Plant the defect in a copy of the engine. Raise ValueError unless the old text occurs exactly once."""
    path = engine / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError("%s: %r is there %d times" % (mutant.file, mutant.old, text.count(mutant.old)))
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def run(copy: Path, mutant: Mutant, seed: int, until: float, world: str = "") -> tuple[bool, str]:
    """Run all worlds of a seed, or one world, on a copy of the collection until one deviates. Return (whether one deviated, pytest's output)."""
    path = os.pathsep.join([str(copy.parents[2])] + [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one])
    settings = {"VGPU_WORLDS": "1000", "VGPU_WORLDS_SEED": str(seed), "VGPU_WORLDS_NOSHRINK": "1", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider", "tests/model/test_%s_worlds.py%s" % (mutant.suite, world)]
    try:
        answer = subprocess.run(command, cwd=copy, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                timeout=max(1.0, until - time.monotonic()), check=False)
    except subprocess.TimeoutExpired as exc:
        return False, (exc.stdout or b"").decode()
    return answer.returncode == 1, answer.stdout.decode()


def worlds_until_found(mutant: Mutant, seed: int, until: float) -> tuple[int, str]:
    """Run worlds until one deviates only with the defect, or time runs out. Return (number of worlds, the deviation or an empty text)."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "ansible_collections" / "vgpu" / "kvm"
        for name in ("plugins", "tests/unit/fake", "tests/model"):
            shutil.copytree(ROOT / name, copy / name)
        shutil.copy(ROOT / "pytest.ini", copy)
        plant(mutant, copy / "plugins" / "module_utils" / "engine")
        number = 0
        while time.monotonic() < until:
            ended, text = run(copy, mutant, seed, until)
            number += sum(len(line) for line in re.findall(r"^([.F]+)(?: +\[ *\d+%\])?$", text, re.MULTILINE))
            kind = re.search(r"Deviation_(\w+)|^E +(\w+(?:Error|Exception)\b.*)", text, re.MULTILINE)
            world = re.search(r"^FAILED [^\s:]+(::\S+)", text, re.MULTILINE)
            if not (ended and kind and world):
                return number, "" if number and not ended else text[-300:]
            if not run(ROOT, mutant, seed, until, world.group(1))[0]:
                return number, (kind.group(1) or kind.group(2)).replace("_", " ")
            seed += 1000  # the planner without the defect deviates in the same world
        return number, ""


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description="Plant defects in the planner, and count which of them the model finds.")
    parser.add_argument("--seconds", type=int, default=300, help="for all of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", help="part of a title")
    arguments = parser.parse_args()
    chosen = [one for one in MUTANTS if not arguments.only or arguments.only in one.title]
    compileall.compile_dir(str(ROOT / "plugins"), quiet=2)  # each copy includes the compiled files
    compileall.compile_dir(str(ROOT / "tests" / "unit" / "fake"), quiet=2)
    until = time.monotonic() + arguments.seconds
    with ThreadPoolExecutor(arguments.jobs) as pool:
        share = arguments.seconds * arguments.jobs / max(len(chosen), arguments.jobs)  # time limit for each defect
        results = list(pool.map(lambda one: worlds_until_found(one, arguments.seed, min(until, time.monotonic() + share)), chosen))
    for mutant, (number, kind) in zip(chosen, results):
        print("| %s | %s | %s%d | %s |" % (mutant.title, mutant.suite, "" if kind else "not in ", number, kind))
    print("%d of %d found" % (sum(bool(kind) for dummy, kind in results), len(chosen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
