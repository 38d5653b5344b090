# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extracts error messages and codes from source files, for 'vgpuctl explain' and the troubleshooting page.

Source files are parsed but not executed. An error is a call to ``Refusal`` or ``error``, or to a function in the same file that passes its parameters
to ``Refusal`` or ``error``. Texts are resolved through constants, conditions, local variables, and tables. ``…`` stands for values that are known
only at run time.
"""

from __future__ import annotations

import ast
import posixpath
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Union

PARAMETERS = ("found", "device", "expected", "remedy", "code")
UNKNOWN = "…"
MOST = 8  # the maximum number of variants for one text

Scope = Union[ast.Module, ast.FunctionDef]
# Maps each name to its possible texts in one loop iteration.
Environment = Dict[str, List[str]]


class MessageError(Exception):
    """The exception for an error whose code cannot be determined from the source file."""


@dataclass(frozen=True)
class Message:
    """The texts of one error: what was found, what was expected, and what to do."""

    found: tuple[str, ...]
    expected: tuple[str, ...]
    remedy: tuple[str, ...]


@dataclass
class Source:
    """A parsed Python file of the plugins, with an index of its definitions."""

    name: str
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    taken: dict[str, tuple[str, str]] = field(default_factory=dict)  # maps imported names to (file, name) in the collection

    @classmethod
    def of(cls, name: str, text: str) -> Source:
        """Returns the Source for a file's text. *name* is a relative path, such as vgpu/plan.py."""
        one = cls(name, ast.parse(text))
        for node in one.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                one.constants[node.targets[0].id] = node.value
            if isinstance(node, ast.ImportFrom) and node.level and node.module:
                file = "/".join([*one.name.split("/")[: -node.level], *node.module.split(".")]) + ".py"
                one.taken.update({alias.asname or alias.name: (file, alias.name) for alias in node.names})
        one.functions = {node.name: node for node in ast.walk(one.tree) if isinstance(node, ast.FunctionDef)}
        return one


def parameters(function: ast.FunctionDef) -> list[str]:
    """Returns a function's parameter names."""
    return [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]


def called(call: ast.Call) -> str:
    """Returns the last component of the called function's name."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


class Reader:
    """Extracts errors and their codes from source files."""

    def __init__(self, sources: Iterable[Source]) -> None:
        """Indexes all source files, because an error text may use constants from other files."""
        self.sources = {one.name: one for one in sources}
        self.by_module = {posixpath.basename(one.name)[: -len(".py")]: one for one in self.sources.values()}

    def errors(self, source: Source) -> list[tuple[str, Message]]:
        """Returns a (code, message) pair for each error in a source file, in source order."""
        found: list[tuple[str, Message]] = []
        scopes: list[Scope] = [source.tree, *(node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef))]
        for scope in scopes:
            for call in sorted(calls_of(scope), key=lambda one: (one.lineno, one.col_offset)):
                names = self.taken(source, call)
                if names and not self.only_hands_on(scope, names, call):
                    for environment in self.rows(source, scope, call):
                        found += self.told(source, scope, names, call, environment)
        return found

    def taken(self, source: Source, call: ast.Call) -> list[str]:
        """Returns the ordered parameter names of a call that creates an error, or an empty list for other calls."""
        name = called(call)
        if name in ("Refusal", "error"):
            return list(PARAMETERS)
        own = source.functions.get(name)
        if own and isinstance(call.func, ast.Name) and {"found", "remedy", "code"} <= set(parameters(own)):
            return parameters(own)
        return []

    @staticmethod
    def only_hands_on(scope: Scope, names: list[str], call: ast.Call) -> bool:
        """Returns whether the enclosing function passes its *code* parameter to the called function."""
        if isinstance(scope, ast.Module) or "code" not in parameters(scope):
            return False
        given = dict(zip(names, call.args), **{one.arg: one.value for one in call.keywords if one.arg})
        code = given.get("code")
        return isinstance(code, ast.Name) and code.id == "code"

    def rows(self, source: Source, scope: Scope, call: ast.Call) -> list[Environment]:
        """Returns the loop variables' values for each row of a constant table. Without a loop, returns one empty dictionary."""
        for loop in ast.walk(scope):
            if not (isinstance(loop, ast.For) and isinstance(loop.target, ast.Tuple) and isinstance(loop.iter, ast.Name)):
                continue
            if not any(node is call for node in ast.walk(loop)):
                continue
            table = source.constants.get(loop.iter.id)
            if isinstance(table, (ast.Tuple, ast.List)):
                columns = [one.id for one in loop.target.elts if isinstance(one, ast.Name)]
                cells = [row.elts for row in table.elts if isinstance(row, (ast.Tuple, ast.List))]
                return [dict(zip(columns, [self.texts(source, source.tree, cell, {}) for cell in row])) for row in cells]
        return [{}]

    def told(self, source: Source, scope: Scope, names: list[str], call: ast.Call, environment: Environment) -> list[tuple[str, Message]]:
        """Returns a (code, message) pair for each possible code of a call."""
        given = dict(zip(names, call.args), **{one.arg: one.value for one in call.keywords if one.arg})

        def text(name: str) -> tuple[str, ...]:
            return tuple(self.texts(source, scope, given[name], environment)) if name in given else ()

        codes = text("code") or ("error",)
        if UNKNOWN in codes:
            raise MessageError(f"{source.name}:{call.lineno}: the code of this error cannot be determined. Write the code as a constant.")
        return [(code, Message(text("found"), text("expected"), text("remedy"))) for code in codes]

    def texts(self, source: Source, scope: Scope, node: ast.expr, environment: Environment) -> list[str]:
        """Returns all possible texts of an expression without duplicates, in source order."""
        return list(dict.fromkeys(self.raw(source, scope, node, environment)))[:MOST]

    def raw(self, source: Source, scope: Scope, node: ast.expr, environment: Environment) -> list[str]:
        """Returns all possible texts of an expression, including duplicates."""

        def inner(one: ast.expr) -> list[str]:
            return self.texts(source, scope, one, environment)

        if isinstance(node, ast.Constant):
            return [] if node.value in (None, "") else [str(node.value)]
        if isinstance(node, ast.IfExp):
            return inner(node.body) + inner(node.orelse)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            return [text for one in node.values for text in inner(one)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            if isinstance(node.right, ast.Constant) and isinstance(node.right.value, int):
                return [UNKNOWN]
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

    def looked_up(self, source: Source, scope: Scope, node: ast.Call, environment: Environment) -> list[str]:
        """Returns all values in a constant table, and the default value of the lookup call."""
        name = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        tables = [one.value for one in assignments(scope) if isinstance(one.targets[0], ast.Name) and one.targets[0].id == name]
        table = tables[0] if tables else source.constants.get(name)
        if not isinstance(table, ast.Dict):
            return [UNKNOWN]
        values = list(table.values) + node.args[1:]
        return [text for one in values for text in self.texts(source, scope, one, environment)]

    def named(self, source: Source, scope: Scope, name: str, environment: Environment) -> list[str]:
        """Returns the possible values of a name that a loop, a function, the file, or an import defines."""
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


def calls_of(scope: Scope) -> list[ast.Call]:
    """Returns the calls in a function, or in a file outside of functions. A call in a nested function belongs only to the nested function."""
    found, waiting = [], list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Call):
            found.append(node)
        waiting += ast.iter_child_nodes(node)
    return found


def assignments(scope: Scope) -> list[ast.Assign]:
    """Returns the assignments in a function or file, in source order."""
    return sorted((node for node in ast.walk(scope) if isinstance(node, ast.Assign)), key=lambda one: one.lineno)


def mentions(node: ast.expr, name: str) -> bool:
    """Returns whether an expression reads the name."""
    return any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(node))


def filled(text: str, values: list[list[str]]) -> str:
    """Returns a format string with known values inserted. ``…`` stands for unknown values."""
    waiting = iter(values)

    def value(match: Any) -> str:
        if match.group() == "%%":
            return "%"
        known = next(waiting, [])
        if len(known) != 1:
            return UNKNOWN
        # Octal and hexadecimal conversions require an integer, but the known text contains a decimal number.
        return match.group() % int(known[0]) if known[0].isdigit() and match.group()[-1] in "doxX" else known[0]

    return re.sub(r"%[-+ 0#]*\d*(?:\.\d+)?[a-zA-Z%]", value, text)
