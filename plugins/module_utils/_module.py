# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects Ansible's module interface to the engine."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Protocol, Sequence

from ansible.module_utils.basic import AnsibleModule

from .engine.base.errors import EngineError, Refusal, error, hidden, looks_signed, printable, raise_if_any, shown_link
from .engine.base.plan import UNRESPONSIVE_POLICIES, Plan
from .engine.base.steps import ApplyError
from .engine.state.lock import HostLock, clean_leftovers
from .engine.system import context

# The types of a work function's context and result, and of an argument spec.
Context = context.Context
Result = Dict[str, Any]
Spec = Dict[str, Any]


def options(kind: str, *names: str, **rest: Any) -> Spec:
    """Returns the argument spec for several options that share a type and settings."""
    return {name: {"type": kind, **rest} for name in names}


DAY = 86400
GPUS: Spec = {"gpus": {"type": "list", "elements": "str", "default": ["all"]}}
STATE: Spec = {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}
STRINGS: Spec = {"type": "list", "elements": "str", "default": []}
FORCE: Spec = {"force_remove": STRINGS}
ROOT: Spec = {"sysfs_root": {"type": "str", "default": "/"}}
LOCK: Spec = {"lock_timeout": {"type": "int", "default": 300}}
ASSUME: Spec = {"check_mode_assume": {**STRINGS, "choices": ["driver", "iommu", "vfs", "mig", "no_vgpus"]}}
VGPU: Spec = {"type": {"type": "str", "required": True}, "count": {"type": "int", "default": 1}, **options("str", "uuid", "vf", "vgpu_params", "fabric")}
GPU: Spec = {
    "gpu": {"type": "list", "elements": "str", "required": True},
    "vgpus": {"type": "list", "elements": "dict", "default": [], "options": VGPU},
    "mixed_sizes": {"type": "bool", "default": False},
    "mig": {"type": "list", "elements": "str"},
}
LAYOUT: Spec = {"type": "list", "elements": "dict", "options": GPU}
UNRESPONSIVE: Spec = {"unresponsive_gpus": {"type": "str", "default": UNRESPONSIVE_POLICIES[0], "choices": list(UNRESPONSIVE_POLICIES)}}
MDEVCTL: Spec = {"mdevctl": {"type": "str", "default": "auto", "choices": ["auto", "true", "false"]}}


class Task(Protocol):
    """The interface between a module and its work function. Both AnsibleModule and Request implement this interface."""

    params: dict[str, Any]
    check_mode: bool


class Request:
    """The parameters of one stage in check mode, for a module that plans several stages. Missing parameters get their defaults from spec."""

    check_mode = True

    def __init__(self, spec: Spec, params: dict[str, Any]) -> None:
        self.params = {**{name: option.get("default") for name, option in spec.items()}, **params}


def main_of(spec: Spec, work: Callable[[Any, Context], Result], reads_only: bool = False, **rules: Any) -> Callable[[], None]:
    """Returns the main function for a module, which calls run().

    The rules argument contains Ansible's rules for options that require or exclude each other.
    """
    whole = spec if reads_only else {**spec, **LOCK}

    def main() -> None:
        run(whole, work, reads_only, **rules)

    return main


def run(argument_spec: Spec, work: Callable[[Any, Context], Result], reads_only: bool = False, **kwargs: Any) -> None:
    """Builds the module, calls work(module, ctx), and exits. The message of an EngineError becomes the module's msg.

    A module that changes the host holds the host's lock from its first read to its last write.
    """
    module = _build({**argument_spec, **ROOT}, **kwargs)
    ctx = Context(module.params["sysfs_root"])
    try:
        raise_if_any(_wrong_texts(module.params) + _wrong_times(module.params))
        if reads_only or module.check_mode:
            result = work(module, ctx)
        else:
            with HostLock(ctx, module.params["lock_timeout"], name="%s module" % module._name):
                clean_leftovers(ctx.root)
                result = work(module, ctx)
    except ApplyError as exc:
        _fail(module, exc, **result_of(exc.done), not_done=[str(step) for step in exc.left])
    except EngineError as exc:
        _fail(module, exc)
    except PermissionError as exc:
        _fail(module, error(str(exc), remedy="The module must run as root. Set become: true.", code="not_root"))
    for text in result.pop("warnings", []):
        module.warn(printable(text))
    module.exit_json(**_printable(result))


def _fail(module: Any, error: EngineError, **more: Any) -> None:
    secrets = [value for value in map(module.params.get, ("url", "src")) if isinstance(value, str) and looks_signed(value)]
    module.fail_json(**_printable({"msg": str(error), "errors": [one.as_dict() for one in error.errors], **more}, secrets))


def _printable(value: Any, secrets: Sequence[str] = ()) -> Any:
    """Returns the result without terminal control characters, because roles and Ansible's diffs print parts of a result unchanged.

    Bytes that are not valid UTF-8 become \\xNN. Each secret is a link and is replaced with the file name from the link.
    """
    if isinstance(value, dict):
        return {_printable(key, secrets): _printable(one, secrets) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(one, secrets) for one in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, shown_link(secret))
    if value.isprintable():
        return value
    return printable(re.sub("[\udc80-\udcff]", lambda match: "\\x%02x" % (ord(match.group()) - 0xDC00), value))


def _build(spec: Spec, **kwargs: Any) -> Any:
    try:
        return AnsibleModule(argument_spec=spec, supports_check_mode=True, **kwargs)
    except OverflowError:
        # Ansible's type check raises OverflowError if an integer option is infinite (.inf in YAML).
        plain, given = _unchecked(spec, "int")
        _fail(plain, error("an integer option has an infinite value (%s)" % given, expected="finite whole numbers", code="bad_number"))
    except TypeError:
        # Ansible's type check raises TypeError if a dictionary option is a number.
        plain, given = _unchecked(spec, "dict")
        _fail(plain, error("a dictionary option has a value that is not a dictionary (%s)" % given, expected="dictionaries", code="bad_value"))


def _unchecked(spec: Spec, kind: str) -> tuple[Any, str]:
    """Returns a module whose options Ansible does not check, and a text with the values of all options of the given type."""
    raw = {name: {"type": "raw", "no_log": spec[name].get("no_log")} for name in spec}
    plain = AnsibleModule(argument_spec=raw, supports_check_mode=True)
    names = sorted(name for name in spec if spec[name]["type"] == kind and plain.params[name] is not None)
    return plain, ", ".join("%s: %r" % (name, plain.params[name]) for name in names)


def _wrong_times(params: dict[str, Any]) -> list[Refusal]:
    """Returns an error for each timeout that is negative, longer than one day, or not a number (NaN)."""
    return [
        Refusal("%s is %s" % (name, params[name]), device=name, expected="a number of seconds from 0 to %d" % DAY, code="bad_time")
        for name in ("timeout", "settle", "lock_timeout", "wait")
        if params.get(name) is not None and not 0 <= params[name] <= DAY
    ]


def _wrong_texts(value: Any, where: str = "") -> list[Refusal]:
    """Returns an error for each string that contains a NUL character, because paths and command arguments cannot contain NUL."""
    if isinstance(value, dict):
        return [one for key in value for one in _wrong_texts(value[key], "%s.%s" % (where, key) if where else str(key))]
    if isinstance(value, list):
        return [one for number, item in enumerate(value) for one in _wrong_texts(item, "%s[%d]" % (where, number))]
    wrong = isinstance(value, str) and "\0" in value
    return [Refusal("the value contains a NUL character", device=where, expected="text", code="bad_text")] if wrong else []


def result_of(steps: Sequence[object], **more: Any) -> Result:
    """Returns a module result with the executed or planned steps and the values from more."""
    return {"changed": bool(steps), "actions": [str(step) for step in steps], **more}


def result_of_plan(plan: Plan[Any], warnings: Sequence[str] = (), **more: Any) -> Result:
    """Returns the module result for a plan, with the plan's steps, all warnings, and the unresponsive GPUs that the plan skips."""
    skipped = {"unresponsive_gpus": plan.unresponsive} if plan.unresponsive else {}
    return result_of(plan.steps, warnings=[*plan.warnings, *warnings], **skipped, **more)


def titled_diff(title: str, before: str, after: str) -> dict[str, str]:
    """Returns a diff with a title. Secrets, such as passwords on the kernel command line, are masked."""
    return {"before": hidden(before), "after": hidden(after), "before_header": title, "after_header": title}


def assumed(module: Task) -> list[str]:
    """Returns the value of the check_mode_assume option in check mode, otherwise an empty list."""
    return list(module.params["check_mode_assume"]) if module.check_mode else []


def wants_mdevctl(module: Task, binary: str | None) -> bool:
    """Returns whether the module manages mdevctl definitions. With "auto", the module manages definitions only if mdevctl is installed."""
    word = module.params["mdevctl"]
    if word == "true" and not binary:
        raise error("mdevctl is not installed", remedy="Install mdevctl, or set mdevctl: auto.", code="mdevctl_missing")
    return binary is not None and word != "false"
