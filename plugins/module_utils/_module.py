# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between Ansible and the engine: the only place that knows both."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from .engine.base.errors import EngineError, Trouble, raise_if_any, trouble
from .engine.base.steps import LOST as LOST_STEP, LOST_WORDS, ApplyError
from .engine.state.lock import HostLock, clean_leftovers
from .engine.system.context import Context

DAY = 86400
ROOT = {"sysfs_root": {"type": "str", "default": "/"}}
LOCK = {"lock_timeout": {"type": "int", "default": 300}}
ASSUME = {
    "assume": {
        "type": "list",
        "elements": "str",
        "default": [],
        "choices": ["driver", "iommu", "vfs", "mig", "no_vgpus"],
    }
}
LAYOUT = {
    "type": "list",
    "elements": "dict",
    "options": {
        "gpu": {"type": "list", "elements": "str", "required": True},
        "vgpus": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "type": {"type": "str", "required": True},
                "count": {"type": "int", "default": 1},
                "uuid": {"type": "str"},
                "vgpu_params": {"type": "str"},
            },
        },
        "mixed_sizes": {"type": "bool", "default": False},
        "mig": {"type": "list", "elements": "str"},
    },
}
LOST = {"lost_gpus": {"type": "str", "default": LOST_WORDS[0], "choices": list(LOST_WORDS)}}
MDEVCTL = {
    "mdevctl": {"type": "str", "default": "auto", "choices": ["auto", "true", "false"]}
}


def run(argument_spec, work, reads_only=False, **kwargs):
    """Builds the module, calls work(module, ctx) and ends; an EngineError becomes one msg.

    A module that writes holds the host's lock from the first read to the last write.
    """
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
        module.fail_json(
            msg=str(exc),
            changed=bool(exc.done),
            actions=sentences(exc.done),
            not_done=sentences(exc.not_done),
            troubles=[one.as_dict() for one in exc.troubles],
        )
    except EngineError as exc:
        module.fail_json(msg=str(exc), troubles=[one.as_dict() for one in exc.troubles])
    except PermissionError as exc:
        wrong = Trouble(str(exc), remedy="This module must run as root: set become: true.", code="not_root")
        module.fail_json(msg=str(wrong), troubles=[wrong.as_dict()])
    for text in result.pop("warnings", []):
        module.warn(text)
    module.exit_json(**result)


def _build(spec, **kwargs):
    try:
        return AnsibleModule(argument_spec=spec, supports_check_mode=True, **kwargs)
    except OverflowError:
        # Ansible's own check of whole numbers does not reckon with one without end (.inf in YAML).
        plain = AnsibleModule(argument_spec={name: {"type": "raw"} for name in spec}, supports_check_mode=True)
        numbers = sorted(name for name in spec if spec[name]["type"] == "int" and plain.params[name] is not None)
        given = ", ".join("%s: %r" % (name, plain.params[name]) for name in numbers)
        wrong = Trouble("a number without end stands where a whole one belongs (%s)" % given, wanted="whole numbers", code="bad_number")
        plain.fail_json(msg=str(wrong), troubles=[wrong.as_dict()])


def _wrong_times(params):
    """Times that no wait could have: below 0, longer than a day, or none at all (nan)."""
    return [
        Trouble("%s is %s" % (name, params[name]), device=name, wanted="seconds, from 0 to %d" % DAY, code="bad_time")
        for name in ("timeout", "settle", "lock_timeout", "wait")
        if params.get(name) is not None and not 0 <= params[name] <= DAY
    ]


def _wrong_texts(value, where=""):
    """Texts that no file, program or path could take: those with NUL in them."""
    if isinstance(value, dict):
        return [one for key in value for one in _wrong_texts(value[key], "%s.%s" % (where, key) if where else str(key))]
    if isinstance(value, list):
        return [one for number, item in enumerate(value) for one in _wrong_texts(item, "%s[%d]" % (where, number))]
    wrong = isinstance(value, str) and "\0" in value
    return [Trouble("it has a NUL in it", device=where, wanted="text", code="bad_text")] if wrong else []


def refuse_lost(module, steps):
    """Check mode fails where the run itself would fail at its end: on GPUs that fell off the bus."""
    gone = [step for step in steps if step.kind == LOST_STEP]
    if gone and module.check_mode:
        raise ApplyError([step.args["trouble"] for step in gone], [], steps)


def lost(result):
    """What a module returns of the GPUs that its plan passed over."""
    return {"lost_gpus": result.lost} if result.lost else {}


def diff(module, texts):
    """What a module returns for --diff. texts() gives what there was and what there will be; it is called only if somebody asked."""
    return {"diff": dict(zip(("before", "after"), texts()))} if getattr(module, "_diff", False) else {}


def assumed(module):
    """The option assume, which counts in check mode only."""
    return module.params["assume"] if module.check_mode else []


def wants_mdevctl(module, binary):
    """Whether mdevctl's definitions are kept: auto follows whether it is installed."""
    word = module.params["mdevctl"]
    if word == "true" and not binary:
        raise trouble(
            "mdevctl is not installed",
            remedy="Install it, or set mdevctl: auto.",
            code="mdevctl_missing",
        )
    return binary is not None and word != "false"


class Request:
    """Options and check mode of a stage, for a module that plans several. Its params are filled up with the defaults of the stage's SPEC."""

    def __init__(self, spec, params, check_mode=True):
        self.params = dict({name: option.get("default") for name, option in spec.items()}, **params)
        self.check_mode = check_mode


def sentences(steps):
    """Steps as people read them."""
    return [str(step) for step in steps]
