# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between Ansible and the engine: the only place that knows both."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from .engine.context import Context
from .engine.errors import EngineError, Trouble, trouble
from .engine.lock import HostLock
from .engine.steps import ApplyError

ROOT = {"sysfs_root": {"type": "str", "default": "/"}}
LOCK = {"lock_timeout": {"type": "int", "default": 300}}
ASSUME = {
    "assume": {
        "type": "list",
        "elements": "str",
        "default": [],
        "choices": ["driver", "iommu", "vfs", "mig"],
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
MDEVCTL = {
    "mdevctl": {"type": "str", "default": "auto", "choices": ["auto", "true", "false"]}
}


def run(argument_spec, work, reads_only=False, **kwargs):
    """Builds the module, calls work(module, ctx) and ends; an EngineError becomes one msg.

    A module that writes holds the host's lock from the first read to the last write.
    """
    module = AnsibleModule(
        argument_spec=dict(argument_spec, **ROOT), supports_check_mode=True, **kwargs
    )
    ctx = Context(module.params["sysfs_root"])
    try:
        if reads_only or module.check_mode:
            result = work(module, ctx)
        else:
            with HostLock(ctx, module.params["lock_timeout"]):
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


def sentences(steps):
    """Steps as people read them."""
    return [str(step) for step in steps]
