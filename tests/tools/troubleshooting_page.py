# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Makes docs/troubleshooting.md of the errors in the code: their codes, what was found and expected, and what to do.

The code is read, not run. An error is a call of ``Refusal`` or ``error``, or of a function of the same file that hands its parameters to
one. Texts are followed through constants, conditions, local variables and tables; what only a run knows is shown as ``…``.

``troubleshooting_page.py`` writes the page; with ``--check`` nothing is written, and the exit status is 1 if the page is not what it would write.
An error that STAGES has no place for, by its file or its code, is an error, as is a code in docs/failures.md that no error has.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from made_page import put  # noqa: E402  (found through the line above)

PLUGINS = ROOT / "plugins"
ENGINE = "module_utils/engine/"
PAGE = ROOT / "docs" / "troubleshooting.md"
SYMPTOMS = ROOT / "docs" / "failures.md"

PARAMETERS = ("found", "device", "expected", "remedy", "code")
UNKNOWN = "…"
MOST = 8  # readings of one text that are followed
WIDTH = 150

# Stage: what to say of it, the files (or directories, with a slash) whose errors are its own, and codes of files that several stages share.
# A file comes before its directory.
STAGES = {
    "Before anything else": (
        "Who runs it, where, and one at a time.",
        ("module_utils/_module.py", "state/lock.py", "system/files.py", "base/steps.py", "system/sysfs.py", "plugin_utils/hosts.py"),
        ("bad_time", "host_unsupported", "no_gpu", "gpu_unsupported", "gpu_unknown", "gpu_off_bus"),
    ),
    "The layout": (
        "What was written in `vgpu_layout`, or handed to a module.",
        ("hardware/address.py", "read/inventory.py", "vgpu/", "plugin_utils/verdict.py"),
        (),
    ),
    "Releasing the GPUs": (
        "Role `gpu_release`, module `nvidia_pci_driver`.",
        ("binding/",),
        ("bad_boot", "boot_cause", "gpu_on_vfio", "gpu_on_nouveau", "gpu_on_stub", "gpu_on_other_driver", "gpu_unbound", "nouveau_loaded"),
    ),
    "IOMMU and boot loader": (
        "Role `iommu`, module `nvidia_kernel_cmdline`. What is done for each boot loader: [Boot loaders](bootloaders.md).",
        ("bootloader/", "system/shell.py", "system/grub.py", "system/grubby.py", "system/proxmox_boot_tool.py"),
        ("iommu_off", "iommu_flags_missing", "bootloader"),
    ),
    "The bundle and its way onto the host": (
        "Role `driver`, modules `nvidia_driver_bundle` and `nvidia_driver_download`.",
        ("driver/bundle.py", "driver/download.py", "driver/supply.py", "lookup/driver_files.py"),
        ("ca_missing", "no_tls"),
    ),
    "The host driver": (
        "Role `driver`, module `nvidia_driver`; Secure Boot.",
        ("driver/", "read/secure_boot.py"),
        (
            *("driver_datacenter", "driver_of_guest", "driver_unfinished", "driver_missing", "driver_module_missing", "driver_not_loaded"),
            *("driver_mismatch", "next_kernel_without_driver", "secure_boot"),
        ),
    ),
    "Services": ("Role `services`.", (), ("manager_not_running", "vgpud_failed", "service_not_enabled", "fabric_mode")),
    "VFs": ("Role `sriov`, module `nvidia_sriov`.", ("sriov/",), ("sriov_off", "vfs_off", "vfs_fewer", "vfs_missing", "vfs_unbound")),
    "MIG": (
        "Role `mig`, module `nvidia_mig`.",
        ("mig/",),
        ("mig_unsupported", "mig_unknown", "mig_lost", "mig_instances_missing", "mig_pending"),
    ),
    "vGPUs": (
        "Role `vgpus`, modules `nvidia_vgpu` and `nvidia_mdev`.",
        ("vgpu/apply.py", "frameworks/", "system/mdevctl.py", "state/install_mark.py"),
        ("no_types", "vendor_vfio", "in_use", "gpu_gone", "vgpus_missing", "vgpu_wrong_type"),
    ),
    "Bringing them back at boot": (
        "Module `nvidia_vgpu_restore`, the unit `vgpu-restore.service`.",
        ("boot/", "state/layout_file.py", "state/migration.py", "state/restore_record.py"),
        ("restore_not_enabled", "restore_failed"),
    ),
    "VMs of libvirt's": (
        "Role `libvirt_attach`, module `nvidia_vgpu_attach`.",
        ("libvirt/", "system/virsh.py"),
        ("bad_connect", "libvirt_managed", "vgpu_in_two_vms", "vm_without_vgpu"),
    ),
    "Clouds": (
        "Role `cloudpods`, modules `nvidia_cloudpods_config` and `nvidia_vgpu_cloud_info`.",
        ("cloud/",),
        ("bad_prefix",),
    ),
    "The guest": (
        "Roles `driver` and `guest_license`, modules `nvidia_guest_info`, `nvidia_grid_license` and `nvidia_grid_license_info`.",
        ("guest/",),
        ("license_unread", "wrong_product"),
    ),
    "The logs": (
        "What lines of the last day and this boot mean, in the journals of NVIDIA's and libvirt's services, in the kernel's log, in the logs of QEMU and"
        " of NVIDIA's installer. They show what has happened: such a finding is a warning.",
        ("checks/logs.py", "checks/symptoms.py"),
        (),
    ),
    "Metrics": ("Role `metrics`.", ("cli/",), ()),
}
# Files and directories of no single stage, where each code must be assigned above; the modules' own files are such, too.
SHARED = ("checks/problems.py", "checks/drift.py", "checks/health.py", "checks/in_use.py", "base/refusals.py")

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->
<!-- Made by tests/tools/troubleshooting_page.py of the code's own messages; edit those. -->
# Troubleshooting

A message reads `device: what was found (expected: what should be). What to do.` Several problems are numbered in one message. Each has a code: in
`errors` of a module's result, in `problems` of `nvidia_gpu_info`, in brackets in `vgpuctl doctor`, in the table of `vgpu.kvm.validate` and as
the label `code` of the metric `nvidia_vgpu_problems`. Look the code up here, or search this page for words of the message. What only a run knows,
such as an address or a number, is shown as `…`. One code may have several messages.

First steps, in this order:

1. `ansible-playbook -i inventory vgpu.kvm.validate` shows what is wrong with the whole fleet and changes nothing.
2. On a host, `sudo vgpuctl doctor` tells the same of this host; `sudo vgpuctl status` shows GPUs, VFs and vGPUs.
3. `dmesg`, `journalctl -u nvidia-vgpu-mgr -u nvidia-vgpud -u vgpu-restore`, `/var/log/nvidia-installer.log`.
4. Put right what is named, and run the playbook again: it goes on from where it stopped.

What each fault of a run looks like, and what is left after it, is in [Faults](faults.md).
"""
# What the messages of a code can't say here, because a run puts their words together.
NOTES = {
    "error": "Messages that have no code of their own.",
    "host_unsupported": "A container, a host of ostree, the dom0 of Xen, or a machine that is not x86_64. Use another host.",
    "kernel_…": "The kernel refused a read or a write; the code ends with the error's name, such as `kernel_eio`. `dmesg` tells more.",
    "link_expired": "NVIDIA's links end after some hours: get a new one from the licensing portal. What was fetched is kept.",
    "wrong_shape": "A value in the layout is of another kind than it should be, such as a word where a list belongs.",
}
# In place of a text of which nothing is known beforehand.
SAID = "(the message quotes what the system said)"


class PageError(Exception):
    """Sources and this file don't agree; said in one message."""


@dataclass(frozen=True)
class Message:
    """One way in which an error is told."""

    found: tuple[str, ...]
    expected: tuple[str, ...]
    remedy: tuple[str, ...]


@dataclass
class Source:
    """A file of the plugins, with what is looked up in it."""

    name: str
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    taken: dict[str, tuple[str, str]] = field(default_factory=dict)  # names from other files of ours: file, name there

    @classmethod
    def read(cls, path: Path) -> Source:
        """The file at *path*."""
        one = cls(path.relative_to(PLUGINS).as_posix().replace(ENGINE, ""), ast.parse(path.read_text(encoding="utf-8")))
        for node in one.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                one.constants[node.targets[0].id] = node.value
            if isinstance(node, ast.ImportFrom) and node.level and node.module:
                file = "/".join([*one.name.split("/")[: -node.level], *node.module.split(".")]) + ".py"
                one.taken.update({alias.asname or alias.name: (file, alias.name) for alias in node.names})
        one.functions = {node.name: node for node in ast.walk(one.tree) if isinstance(node, ast.FunctionDef)}
        return one


def parameters(function: ast.FunctionDef) -> list[str]:
    """Names of a function's parameters."""
    return [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


class Reader:
    """Reads errors out of the sources."""

    def __init__(self, sources: list[Source]) -> None:
        """Know all sources, so that constants of one are found from another."""
        self.sources = {one.name: one for one in sources}
        self.by_module = {Path(one.name).stem: one for one in sources}

    def errors(self, source: Source) -> list[tuple[str, Message]]:
        """(code, message) of each error in the file, in its order."""
        found: list[tuple[str, Message]] = []
        scopes = [source.tree, *(node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef))]
        for scope in scopes:
            for call in sorted(calls_of(scope), key=lambda one: (one.lineno, one.col_offset)):
                names = self.taken(source, call)
                if names and not self.only_hands_on(scope, names, call):
                    for environment in self.rows(source, scope, call):
                        found += self.told(source, scope, names, call, environment)
        return found

    def taken(self, source: Source, call: ast.Call) -> list[str]:
        """Parameters of a call that makes an error, in their order; none for other calls."""
        name = called(call)
        if name in ("Refusal", "error"):
            return list(PARAMETERS)
        own = source.functions.get(name)
        if own and isinstance(call.func, ast.Name) and {"found", "remedy", "code"} <= set(parameters(own)):
            return parameters(own)
        return []

    @staticmethod
    def only_hands_on(scope: Union[ast.Module, ast.FunctionDef], names: list[str], call: ast.Call) -> bool:
        """Whether the call stands in a function that hands its own parameter *code* on."""
        if isinstance(scope, ast.Module) or "code" not in parameters(scope):
            return False
        given = dict(zip(names, call.args), **{one.arg: one.value for one in call.keywords if one.arg})
        return isinstance(given.get("code"), ast.Name) and given["code"].id == "code"

    def rows(self, source: Source, scope: Union[ast.Module, ast.FunctionDef], call: ast.Call) -> list[dict[str, list[str]]]:
        """What names mean in each round of a loop over a table of constants; one empty meaning where there is none."""
        for loop in ast.walk(scope):
            inside = isinstance(loop, ast.For) and any(node is call for node in ast.walk(loop))
            if not (inside and isinstance(loop.target, ast.Tuple) and isinstance(loop.iter, ast.Name)):
                continue
            table = source.constants.get(loop.iter.id)
            if isinstance(table, (ast.Tuple, ast.List)):
                columns = [one.id for one in loop.target.elts if isinstance(one, ast.Name)]
                return [dict(zip(columns, [self.texts(source, source.tree, cell, {}) for cell in row.elts])) for row in table.elts]
        return [{}]

    def told(self, source: Source, scope, names: list[str], call: ast.Call, environment) -> list[tuple[str, Message]]:
        """The messages of one call."""
        given = dict(zip(names, call.args), **{one.arg: one.value for one in call.keywords if one.arg})

        def text(name: str) -> tuple[str, ...]:
            return tuple(self.texts(source, scope, given[name], environment)) if name in given else ()

        codes = text("code") or ("error",)
        if UNKNOWN in codes:
            raise PageError(f"{source.name}:{call.lineno}: the code of this error can't be read: write it as a constant")
        return [(code, Message(text("found"), text("expected"), text("remedy"))) for code in codes]

    def texts(self, source: Source, scope, node: ast.expr, environment) -> list[str]:
        """All texts that an expression may have, in the order of the code."""
        return list(dict.fromkeys(self.raw(source, scope, node, environment)))[:MOST]

    def raw(self, source: Source, scope, node: ast.expr, environment) -> list[str]:
        """Like texts, with repetitions."""

        def inner(one: ast.expr) -> list[str]:
            return self.texts(source, scope, one, environment)

        if isinstance(node, ast.Constant):
            return [] if node.value in (None, "") else [str(node.value)]
        if isinstance(node, ast.IfExp):
            return inner(node.body) + inner(node.orelse)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            return [text for one in node.values for text in inner(one)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return [left + right for left in inner(node.left) or [""] for right in inner(node.right) or [""]]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            values = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
            return [filled(text, [inner(one) for one in values]) for text in inner(node.left)]
        if isinstance(node, ast.Name):
            return self.named(source, scope, node.id, environment)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            other = self.by_module.get(node.value.id)
            if other and node.attr in other.constants:
                return self.texts(other, other.tree, other.constants[node.attr], {})
        if isinstance(node, ast.Call) and called(node) == "get" and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            return self.looked_up(source, scope, node, environment)
        return [UNKNOWN]

    def looked_up(self, source: Source, scope, node: ast.Call, environment) -> list[str]:
        """The values of a table of constants, and the default."""
        name = node.func.value.id
        tables = [one.value for one in assignments(scope) if isinstance(one.targets[0], ast.Name) and one.targets[0].id == name]
        table = (tables or [source.constants.get(name)])[0]
        if not isinstance(table, ast.Dict):
            return [UNKNOWN]
        values = list(table.values) + node.args[1:]
        return [text for one in values for text in self.texts(source, scope, one, environment)]

    def named(self, source: Source, scope, name: str, environment) -> list[str]:
        """What a name may hold: of the round of a loop, of the function, of the file."""
        if name in environment:
            return environment[name]
        found = []
        for one in assignments(scope) if isinstance(scope, ast.FunctionDef) else []:
            target, value = one.targets[0], one.value
            if isinstance(target, ast.Name) and target.id == name:
                found.append(value)
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                found += [two for left, two in zip(target.elts, value.elts) if isinstance(left, ast.Name) and left.id == name]
        if found:
            return [text for value in found if not mentions(value, name) for text in self.texts(source, scope, value, environment)] or [UNKNOWN]
        if name in source.constants:
            return self.texts(source, source.tree, source.constants[name], {})
        file, there = source.taken.get(name, ("", ""))
        other = self.sources.get(file)
        if other and there in other.constants:
            return self.texts(other, other.tree, other.constants[there], {})
        return [UNKNOWN]


def calls_of(scope: Union[ast.Module, ast.FunctionDef]) -> list[ast.Call]:
    """Calls of a function, or of a file outside its functions; those of functions inside a function are theirs."""
    found, waiting = [], list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Call):
            found.append(node)
        waiting += ast.iter_child_nodes(node)
    return found


def assignments(scope) -> list[ast.Assign]:
    """Assignments of a function or file, in the order of the code."""
    return sorted((node for node in ast.walk(scope) if isinstance(node, ast.Assign)), key=lambda one: one.lineno)


def mentions(node: ast.expr, name: str) -> bool:
    """Whether an expression reads the name."""
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def filled(text: str, values: list[list[str]]) -> str:
    """A format with those of its values that are known beforehand; the others as ``…``."""
    waiting = iter(values)

    def value(match: re.Match) -> str:
        if match.group() == "%%":
            return "%"
        known = next(waiting, [])
        return known[0] if len(known) == 1 else UNKNOWN

    return re.sub(r"%[-+ 0#]*\d*(?:\.\d+)?[a-zA-Z%]", value, text)


def listed(name: str, entries: Collection[str]) -> str:
    """The entry that is a file's: the file itself, else its directory; empty where there is none."""
    return next((one for one in (name, name[: name.rfind("/") + 1]) if one and one in entries), "")


def collect(folder: Path = PLUGINS) -> dict[str, dict[str, list[Message]]]:
    """By stage and code: the messages. Raises PageError for what no stage has."""
    sources = [Source.read(path) for path in sorted(folder.rglob("*.py"))]
    reader = Reader(sources)
    of_file = {name: stage for stage, (_words, names, _codes) in STAGES.items() for name in names}
    of_code = {code: stage for stage, (_words, _names, codes) in STAGES.items() for code in codes}
    found: dict[str, dict[str, list[Message]]] = {stage: {} for stage in STAGES}
    lost = []
    for source in sources:
        if source.name == "base/errors.py":
            continue
        for code, message in reader.errors(source):
            stage = of_code.get(code) or (None if listed(source.name, SHARED) else of_file.get(listed(source.name, of_file)))
            if stage is None:
                lost.append(f"{source.name}: {code}")
                continue
            messages = found[stage].setdefault(code, [])
            if message not in messages:
                messages.append(message)
    if lost:
        raise PageError("STAGES in tests/tools/troubleshooting_page.py names no stage for: " + ", ".join(sorted(set(lost))))
    return found


def wrapped(text: str, first: str) -> str:
    """Text in lines of the page's width, after *first*; ``<`` would begin HTML, ``*`` and ``_`` at a word's edge emphasis."""
    text = re.sub(r"([*\[\]|])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    rest = " " * (len(first) - len(first.lstrip()) + 2)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def known(texts: tuple[str, ...]) -> list[str]:
    """Those texts that say something."""
    return [text for text in texts if text.strip(UNKNOWN + " ")]


def block(message: Message) -> list[str]:
    """The lines of one message."""
    lines = [wrapped(" / ".join(known(message.found)) or SAID, "- ")]
    if known(message.expected):
        lines.append(wrapped(" / ".join(known(message.expected)), "  - expected: "))
    return lines + [wrapped(text, "  - do: ") for text in known(message.remedy)]


def symptoms(codes: set[str]) -> list[str]:
    """The table of docs/failures.md, with each code as a link."""
    rows = [line.split("|") for line in SYMPTOMS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    lines = ["## By symptom", "", "| you see | look at |", "|---|---|"]
    for row in rows:
        named = re.findall(r"`([a-z_]+)`", row[3])
        missing = sorted(set(named) - codes)
        if missing:
            raise PageError(f"docs/failures.md names codes that no error has: {', '.join(missing)}")
        lines.append(f"| {row[1].strip()}: {row[2].strip()} | {', '.join(f'[`{code}`](#{code})' for code in named)} |")
    return [*lines, ""]


def page(found: dict[str, dict[str, list[Message]]]) -> str:
    """The whole page. A code that is told in several stages stands in the first of them."""
    lines = [HEAD, *symptoms({code for codes in found.values() for code in codes})]
    merged: dict[str, list[Message]] = {}
    for codes in found.values():
        for code, messages in codes.items():
            merged.setdefault(code, []).extend(one for one in messages if one not in merged.get(code, []))
    unknown = sorted(set(NOTES) - set(merged))
    if unknown:
        raise PageError("NOTES in tests/tools/troubleshooting_page.py names codes that no error has: " + ", ".join(unknown))
    done: set[str] = set()
    for stage, codes in found.items():
        lines += [f"## {stage}", "", STAGES[stage][0], ""]
        for code in sorted(set(codes) - done):
            lines += [f"### `{code.replace(UNKNOWN, '*')}`", ""]
            if code in NOTES:
                lines += [NOTES[code], ""]
            for message in merged[code]:
                lines += block(message)
            lines.append("")
            done.add(code)
    return "\n".join(lines).rstrip("\n") + "\n"


def main(argv: list[str]) -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    try:
        expected = page(collect())
    except PageError as exc:
        print(exc)
        return 1
    return 0 if put(PAGE, expected, options.check, "the code's messages", "is not what the code says: run tests/tools/troubleshooting_page.py") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
