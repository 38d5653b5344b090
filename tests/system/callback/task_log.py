# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Callback plugin for tests, which writes one JSON line per task result and host to the file $TASK_LOG."""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: task_log
type: aggregate
short_description: JSON lines of task results, for the tests of vgpu.kvm
description: Writes one JSON line for each task result to the file that the environment variable TASK_LOG names.
  begun and ended are seconds of one clock.
"""

# Actions that run on the controller without a connection to the managed host.
LOCAL_ACTIONS = {"debug", "assert", "fail", "set_fact", "set_stats", "meta", "validate_argument_spec"} | {
    "include_role", "include_tasks", "import_role", "import_tasks", "add_host", "group_by",
}


class CallbackModule(CallbackBase):
    """The callback that writes the log."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_log"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._begun = {}

    def v2_runner_on_start(self, host, task):
        self._begun[host.get_name(), task._uuid] = time.monotonic()

    def _write(self, result, outcome):
        ended = time.monotonic()
        task = getattr(result, "task", None) or result._task
        host = getattr(result, "host", None) or result._host
        content = getattr(result, "result", None) or result._result
        action = task.action.split(".")[-1]
        delegated = bool(task.delegate_to) and str(task.delegate_to) != host.get_name()
        line = {
            "task": task.get_name(),
            "action": action,
            "host": host.get_name(),
            "outcome": outcome,
            "remote": outcome != "skipped" and action not in LOCAL_ACTIONS and not delegated,
            "begun": self._begun.pop((host.get_name(), task._uuid), ended),
            "ended": ended,
            "result": content,
        }
        with open(os.environ["TASK_LOG"], "a", encoding="utf-8") as log:
            log.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self._write(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write(result, "failed")

    def v2_runner_on_skipped(self, result):
        self._write(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self._write(result, "unreachable")
