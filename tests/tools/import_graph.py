# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Checks the imports of plugins. Prints each breach as path:line: text; the exit status is 1 if a rule is broken.

1. A directory of the engine imports only itself and directories before it in ORDER. The engine imports neither Ansible nor anything above the engine.
2. No file imports itself through other files.
3. A planner imports no module and no function that writes.
4. No layer above frameworks/ refers to a specific framework by its module or its name. Only the codes of errors can contain such names.
5. Imports are at the top of a file, and a file does nothing on import.

ALLOWED lists the current exceptions. An exception that is no longer needed is also a breach.
"""

from __future__ import annotations

import ast
import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
ENGINE = "module_utils/engine/"
ANSIBLES = "ansible_collections.vgpu.kvm.plugins."

# Directories of the engine, from the lowest layer up.
ORDER = (
    *("base", "hardware", "system", "state", "frameworks", "read", "binding", "bootloader", "driver", "sriov", "mig", "fabric", "vgpu", "libvirt", "guest"),
    *("cloud", "checks", "runs", "boot", "cli"),
)
# Planners: files that plan changes without making any.
PLANNERS = (
    *("plan.py", "gpu_plan.py", "target.py", "fit.py", "placement.py", "selection.py", "layout.py", "request.py"),
    *("mdev_devices.py", "cloudpods_plan.py", "license_plan.py"),
)
# Calls that change the host, or that start a program that can change the host.
WRITES = (
    *("write", "write_atomic", "command", "remove_tree", "remove_empty", "sweep", "sync_to_disk"),
    *("open", "mkdir", "makedirs", "rename", "replace", "rmdir", "unlink", "truncate"),
)
FRAMEWORKS = ("mdev", "vendor_vfio")
# Third-party modules that the engine uses if they are installed.
GUESTS = ("yaml",)

# The current exceptions: (file of the engine, message of the breach).
ALLOWED: frozenset[tuple[str, str]] = frozenset(
    {
        # mdev is libvirt's own name for a device of a VM.
        ("libvirt/placement.py", "names the framework mdev"),
    }
)


@dataclass
class Source:
    """A file of the plugins. imports: (line, imported file, name imported from it or an empty text)."""

    name: str
    tree: ast.Module
    imports: list[tuple[int, str, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)

    @property
    def room(self) -> str:
        """Return the file's directory in the engine, or an empty text for files above the engine."""
        inside = self.name[len(ENGINE):] if self.name.startswith(ENGINE) else ""
        return inside.partition("/")[0] if "/" in inside else ""


@functools.lru_cache(maxsize=None)
def parsed(name: str, text: str) -> ast.Module:
    """Return the syntax tree of a file. The result is cached, because the tests read the same files several times."""
    return ast.parse(text, filename=name)


@functools.lru_cache(maxsize=None)
def walk(node: ast.AST) -> tuple[ast.AST, ...]:
    """Return a node and all nodes below it."""
    return tuple(ast.walk(node))


def read(folder: Path) -> dict[str, Source]:
    """Return all Python files below *folder* (a copy of plugins/) by path, with their imports resolved."""
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        sources[name] = Source(name, parsed(name, path.read_text(encoding="utf-8")))
    for source in sources.values():
        for node in walk(source.tree):
            if isinstance(node, ast.Import):
                source.others += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                resolve(source, node, sources)
    return sources


def resolve(source: Source, node: ast.ImportFrom, sources: dict[str, Source]) -> None:
    """Record the imports of one import statement."""
    module = node.module or ""
    if node.level:
        parts = source.name.split("/")[: -node.level] + (module.split(".") if module else [])
    elif module.startswith(ANSIBLES):
        parts = module[len(ANSIBLES):].split(".")
    else:
        source.others.append((node.lineno, module))
        return
    for alias in node.names:
        whole = "/".join([*parts, alias.name])
        above = "/".join(parts)
        for name, taken in ((whole + ".py", ""), (whole + "/__init__.py", ""), (above + ".py", alias.name), (above + "/__init__.py", alias.name)):
            if name in sources:
                source.imports.append((node.lineno, name, taken))
                break


def is_write(node: ast.AST) -> bool:
    """Return whether a node calls something that changes the host: a method in WRITES, or files.remove."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value
    if isinstance(owner, ast.Name) and owner.id == "files" and node.func.attr == "remove":
        return True
    return node.func.attr in WRITES and not isinstance(owner, ast.Constant) and not (node.func.attr == "replace" and len(node.args) > 1)


def writes(source: Source, taken: str) -> bool:
    """Return whether a file writes. With *taken*, check only that function or class, and the functions of the file that it calls."""
    if not taken:
        return any(is_write(node) for node in walk(source.tree))
    own = {node.name: node for node in source.tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    waiting, seen = [taken], set()
    while waiting:  # The function or class, and everything that it calls in the same file.
        name = waiting.pop()
        if name in own and name not in seen:
            seen.add(name)
            if any(is_write(node) for node in walk(own[name])):
                return True
            waiting += [node.id for node in walk(own[name]) if isinstance(node, ast.Name)]
    return False


def order(source: Source) -> list[tuple[int, str]]:
    """Return imports of the engine from a higher layer or from outside the engine."""
    if not source.name.startswith(ENGINE):
        return []
    found = [
        (line, f"imports {name}") for line, name in source.others if name.split(".")[0] not in (*sys.stdlib_module_names, *GUESTS)
    ]
    place = ORDER.index(source.room) if source.room in ORDER else -1
    if source.room not in ORDER and source.room:
        found.append((1, f"is in {source.room}, which ORDER does not list"))
    for line, name, _taken in source.imports:
        room = name[len(ENGINE):].partition("/")[0] if name.startswith(ENGINE) else ""
        if room not in ORDER or ORDER.index(room) > place:
            found.append((line, f"imports {name.replace(ENGINE, '')}, which is in a higher layer"))
    return found


def planners(source: Source, sources: dict[str, Source]) -> list[tuple[int, str]]:
    """Return a planner's imports that write."""
    if not source.room or Path(source.name).name not in PLANNERS:
        return []
    found = []
    for line, name, taken in source.imports:
        if name.endswith("/apply.py") or writes(sources[name], taken):
            found.append((line, f"is a planner, but imports {name.replace(ENGINE, '')}{' ' + taken if taken else ''}, which writes"))
    return found


def frameworks(source: Source) -> list[tuple[int, str]]:
    """Return the lines above frameworks/ that name a framework."""
    if source.room not in ORDER or ORDER.index(source.room) <= ORDER.index("frameworks"):
        return []
    modules = [ENGINE + f"frameworks/{name}.py" for name in FRAMEWORKS]
    found = [(line, f"names the framework {Path(name).stem}") for line, name, _taken in source.imports if name in modules]
    codes = {id(node.value) for node in walk(source.tree) if isinstance(node, ast.keyword) and node.arg == "code"}
    for node in walk(source.tree):
        if isinstance(node, ast.Constant) and node.value in FRAMEWORKS and id(node) not in codes:
            found.append((node.lineno, f"names the framework {node.value}"))
    return found


def at_the_top(source: Source) -> list[tuple[int, str]]:
    """Return imports that are not at the top of the file, and statements that run on import."""
    found = []
    for function in walk(source.tree):
        if isinstance(function, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            found += [(node.lineno, "imports inside a function") for node in walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
    body = False
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and body:
            found.append((node.lineno, "imports after code"))
        guarded = isinstance(node, ast.Try) and isinstance(node.body[0], (ast.Import, ast.ImportFrom))
        main = isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and getattr(node.test.left, "id", "") == "__name__"
        does = isinstance(node, (ast.Try, ast.If, ast.For, ast.With)) and not (guarded or main)
        if does or isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            found.append((node.lineno, "runs code when the file is imported"))
        body = body or isinstance(node, (ast.FunctionDef, ast.ClassDef))
    return sorted(set(found))


def cycles(sources: dict[str, Source]) -> list[tuple[str, int, str]]:
    """Return import cycles as (file, line, text), one for each cycle."""
    found: list[tuple[str, int, str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        for line, other, _taken in sources[name].imports:
            if other in path:
                ring = [*path[path.index(other):], other]
                found.append((name, line, "imports itself: " + " -> ".join(one.replace(ENGINE, "") for one in ring)))
            elif other not in done:
                visit(other, [*path, other])
        done.add(name)

    for name in sources:
        if name not in done:
            visit(name, [name])
    return found


def breaches(folder: Path = PLUGINS, allowed: frozenset[tuple[str, str]] = ALLOWED) -> list[str]:
    """Return each breach as path:line: text, and each entry of *allowed* that is no longer needed."""
    sources = read(folder)
    found = cycles(sources)
    for source in sources.values():
        for line, text in (*order(source), *planners(source, sources), *frameworks(source), *at_the_top(source)):
            found.append((source.name, line, text))
    needed = {(name.replace(ENGINE, ""), text) for name, _line, text in found}
    lines = [f"plugins/{name}:{line}: {text}" for name, line, text in sorted(set(found)) if (name.replace(ENGINE, ""), text) not in allowed]
    return lines + [f"{name}: {text}: this exception is no longer needed. Remove the entry from ALLOWED." for name, text in sorted(allowed - needed)]


def main() -> int:
    """Run the command-line program."""
    found = breaches()
    print("\n".join([*found, f"{len(found)} breaches"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
