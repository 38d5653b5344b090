# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Callback plugin for tests that runs no module. It appends each module's arguments as a JSON line to $STAGE_ARGUMENTS and answers from $STAGE_ANSWERS.

The controller works as usual (variables, templates, facts, includes, argument specs). After a failed assertion, the callback records the failure and
continues the run, because the tests also need the arguments of later stages.
"""

from __future__ import annotations

import json
import os

from ansible.executor.task_executor import TaskExecutor
from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader

DOCUMENTATION = r"""
name: stage_arguments
type: aggregate
short_description: Record the arguments of modules for the tests of vgpu.kvm
description: Writes the arguments of each module to the file that the environment variable STAGE_ARGUMENTS names. Answers come from STAGE_ANSWERS.
"""

# Actions that only compute on the controller. The action template renders its file there and passes it to the action copy.
REAL = {"set_fact", "debug", "assert", "fail", "set_stats", "validate_argument_spec", "template"}
KEYWORDS = ("become", "delegate_to", "retries", "delay", "timeout", "throttle", "environment")


def write(task, host: str, **what) -> None:
    """Append a line to the log."""
    line = {"host": host, "task": task.get_name(), "action": task.action, **{word: getattr(task, word) for word in KEYWORDS}, **what}
    with open(os.environ["STAGE_ARGUMENTS"], "a", encoding="utf-8") as log:
        log.write(json.dumps(line, default=str, sort_keys=True) + "\n")


class Recorded(ActionBase):
    """A replacement for the action plugin of a module."""

    def run(self, tmp=None, task_vars=None):
        """Return this module's answer from the file. Without an entry, return only changed: true."""
        args = dict(self._task.args)
        if self._task.action.endswith("template"):
            with open(args["src"], encoding="utf-8") as handle:
                args["src"] = handle.read()
        write(self._task, task_vars["inventory_hostname"], args=args)
        with open(os.environ["STAGE_ANSWERS"], encoding="utf-8") as handle:
            return {"changed": True, **json.load(handle).get(self._task.action, {})}


def going_on(handler):
    """Change an action's handler to record its result and to continue after failed assertions."""
    run = handler.run

    def recorded(tmp=None, task_vars=None):
        result = run(task_vars=task_vars)
        word = handler._task.action.split(".")[-1]
        if word in ("assert", "fail"):
            result["failed"] = False
        if word not in ("validate_argument_spec", "template"):
            facts = {name: value for name, value in result.get("ansible_facts", {}).items() if len(str(value)) < 5000}
            write(handler._task, task_vars["inventory_hostname"], msg=str(result.get("msg", "")), facts=facts)
        return result

    handler.run = recorded
    return handler


def instead(original):
    """Wrap TaskExecutor's choice of a handler."""

    def choose(self, *args, **kwargs):
        handler, context = original(self, *args, **kwargs)
        if self._task.action.split(".")[-1] in REAL:
            return going_on(handler), context
        parts = ("task", "connection", "play_context", "loader", "templar", "shared_loader_obj")
        return Recorded(**{name: getattr(handler, "_" + name) for name in parts}), context

    return choose


class CallbackModule(CallbackBase):
    """The callback that patches TaskExecutor. Ansible's workers are forks of this process and inherit the patch."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stage_arguments"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        action_loader.get("ansible.legacy.copy", class_only=True).run = Recorded.run
        TaskExecutor._get_action_handler_with_module_context = instead(TaskExecutor._get_action_handler_with_module_context)
