# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between Ansible and the engine: the only place that knows both."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence

from ansible.module_utils.basic import AnsibleModule

from .engine.base.errors import EngineError, Trouble, raise_if_any, trouble
from .engine.base.plan import UNRESPONSIVE_POLICIES, Plan
from .engine.base.steps import ApplyError
from .engine.state.lock import HostLock, clean_leftovers
from .engine.system.context import Context

Result = Dict[str, Any]
Spec = Dict[str, Any]

DAY = 86400
ROOT: Spec = {"sysfs_root": {"type": "str", "default": "/"}}
LOCK: Spec = {"lock_timeout": {"type": "int", "default": 300}}
ASSUME: Spec = {"assume": {"type": "list", "elements": "str", "default": [], "choices": ["driver", "iommu", "vfs", "mig", "no_vgpus"]}}
_VGPU: Spec = {
    "type": {"type": "str", "required": True},
    "count": {"type": "int", "default": 1},
    "uuid": {"type": "str"},
    "vgpu_params": {"type": "str"},
}
_GPU: Spec = {
    "gpu": {"type": "list", "elements": "str", "required": True},
    "vgpus": {"type": "list", "elements": "dict", "default": [], "options": _VGPU},
    "mixed_sizes": {"type": "bool", "default": False},
    "mig": {"type": "list", "elements": "str"},
}
LAYOUT: Spec = {"type": "list", "elements": "dict", "options": _GPU}
LOST: Spec = {"lost_gpus": {"type": "str", "default": UNRESPONSIVE_POLICIES[0], "choices": list(UNRESPONSIVE_POLICIES)}}
MDEVCTL: Spec = {"mdevctl": {"type": "str", "default": "auto", "choices": ["auto", "true", "false"]}}


class Task(Protocol):
    """What a module's work gets of a task: an AnsibleModule, or a Request of a module that plans several."""

    params: Dict[str, Any]
    check_mode: bool


class Request:
    """A stage's options, for a module that plans several in check mode. Its params are completed with the defaults of the stage's SPEC."""

    check_mode = True

    def __init__(self, spec: Spec, params: Dict[str, Any]) -> None:
        self.params = dict({name: option.get("default") for name, option in spec.items()}, **params)


def run(argument_spec: Spec, work: Callable[[Any, Context], Result], reads_only: bool = False, **kwargs: Any) -> None:
    """Calls work(module, ctx) and ends; an EngineError becomes one msg. A module that writes holds the host's lock from first read to last write."""
    module = _build(dict(argument_spec, **ROOT), **kwargs)
    ctx = Context(module.params["sysfs_root"])
    try:
        raise_if_any(_wrong_texts(module.params) + _wrong_times(module.params))
        if reads_only or module.check_mode:
            result = work(module, ctx)
        else:
            with HostLock(ctx, module.params["lock_timeout"], name="module %s" % module._name):
                clean_leftovers(ctx.root)
                result = work(module, ctx)
    except ApplyError as exc:
        _fail(module, exc, changed=bool(exc.done), actions=sentences(exc.done), not_done=sentences(exc.left))
    except EngineError as exc:
        _fail(module, exc)
    except PermissionError as exc:
        _fail(module, trouble(str(exc), remedy="This module must run as root: set become: true.", code="not_root"))
    for text in result.pop("warnings", []):
        module.warn(text)
    module.exit_json(**result)


def _fail(module: Any, error: EngineError, **more: Any) -> None:
    module.fail_json(msg=str(error), troubles=[one.as_dict() for one in error.troubles], **more)


def _build(spec: Spec, **kwargs: Any) -> Any:
    try:
        return AnsibleModule(argument_spec=spec, supports_check_mode=True, **kwargs)
    except OverflowError:
        # Ansible's own check of whole numbers does not reckon with one without end (.inf in YAML).
        plain = AnsibleModule(argument_spec={name: {"type": "raw"} for name in spec}, supports_check_mode=True)
        numbers = sorted(name for name in spec if spec[name]["type"] == "int" and plain.params[name] is not None)
        given = ", ".join("%s: %r" % (name, plain.params[name]) for name in numbers)
        _fail(plain, trouble("a number without end stands where a whole one belongs (%s)" % given, wanted="whole numbers", code="bad_number"))


def _wrong_times(params: Dict[str, Any]) -> List[Trouble]:
    """Times that no wait could have: below 0, longer than a day, or none at all (nan)."""
    return [
        Trouble("%s is %s" % (name, params[name]), device=name, wanted="seconds, from 0 to %d" % DAY, code="bad_time")
        for name in ("timeout", "settle", "lock_timeout", "wait")
        if params.get(name) is not None and not 0 <= params[name] <= DAY
    ]


def _wrong_texts(value: Any, where: str = "") -> List[Trouble]:
    """Texts that no file, program or path could take: those with NUL in them."""
    if isinstance(value, dict):
        return [one for key in value for one in _wrong_texts(value[key], "%s.%s" % (where, key) if where else str(key))]
    if isinstance(value, list):
        return [one for number, item in enumerate(value) for one in _wrong_texts(item, "%s[%d]" % (where, number))]
    wrong = isinstance(value, str) and "\0" in value
    return [Trouble("it has a NUL in it", device=where, wanted="text", code="bad_text")] if wrong else []


def refuse_unresponsive(request: Task, plan: Plan[Any]) -> None:
    """Check mode fails if the run itself would fail at its end: on GPUs that fell off the bus."""
    if request.check_mode:
        plan.refuse_unresponsive()


def unresponsive(plan: Plan[Any]) -> Result:
    """What a module returns of the GPUs that its plan skips."""
    return {"lost_gpus": plan.unresponsive} if plan.unresponsive else {}


def diff(module: Task, texts: Callable[[], Sequence[str]]) -> Result:
    """What a module returns for --diff. texts() gives what there was and what there will be; it is called only if somebody asked."""
    return {"diff": dict(zip(("before", "after"), texts()))} if getattr(module, "_diff", False) else {}


def assumed(module: Task) -> List[str]:
    """The option assume, which counts in check mode only."""
    return list(module.params["assume"]) if module.check_mode else []


def wants_mdevctl(module: Task, binary: Optional[str]) -> bool:
    """Whether mdevctl's definitions are kept: auto follows whether it is installed."""
    word = module.params["mdevctl"]
    if word == "true" and not binary:
        raise trouble("mdevctl is not installed", remedy="Install it, or set mdevctl: auto.", code="mdevctl_missing")
    return binary is not None and word != "false"


def sentences(steps: Sequence[object]) -> List[str]:
    """Steps as people read them."""
    return [str(step) for step in steps]
