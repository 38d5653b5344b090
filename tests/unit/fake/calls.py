# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a module's main() on a fake host, with real arguments and the real argument spec."""

from __future__ import annotations

import contextlib
import json
from unittest import mock

from ansible.module_utils import basic

from ansible_collections.vgpu.kvm.plugins.module_utils import _module

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # ansible-core before it had this helper

    @contextlib.contextmanager
    def patch_module_args(args):
        """Arguments as the controller would send them."""
        with mock.patch.object(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()):
            yield


class _Ended(Exception):
    """exit_json or fail_json was called."""

    def __init__(self, failed, result):
        super().__init__()
        self.failed = failed
        self.result = result


class Outcome:
    """What a module answered. writes: how many changes it made to the host."""

    def __init__(self, failed, result, warnings, writes):
        self.failed = failed
        self.result = result
        self.warnings = warnings
        self.writes = writes

    def __getitem__(self, key):
        return self.result[key]

    @property
    def ok(self):
        """The outcome, which must be good."""
        assert not self.failed, self.result["msg"]
        return self

    @property
    def msg(self):
        """The error's text, which must be there and must not be a traceback."""
        assert self.failed, "the module did not fail: %s" % self.result
        assert "Traceback" not in self.result["msg"]
        return self.result["msg"]

    @property
    def codes(self):
        """Codes of the errors."""
        return [one["code"] for one in self.result["errors"]]


def call(module, host, check=False, **arguments):
    """Runs the module; arguments are those of a task."""
    warnings = []

    def ending(failed):
        def end(self, **result):
            json.dumps(result, ensure_ascii=False).encode("utf-8")  # the controller gets JSON, and writes it as text
            raise _Ended(failed, result)

        return end

    before = len(host.writes)
    with contextlib.ExitStack() as stack:
        stack.enter_context(host.counting_files())
        stack.enter_context(patch_module_args(dict(arguments, _ansible_check_mode=check, _ansible_diff=True)))
        stack.enter_context(mock.patch.object(_module, "Context", lambda root: host.ctx))
        stack.enter_context(mock.patch.object(basic.AnsibleModule, "exit_json", ending(False)))
        stack.enter_context(mock.patch.object(basic.AnsibleModule, "fail_json", ending(True)))
        stack.enter_context(mock.patch.object(basic.AnsibleModule, "warn", lambda self, text: warnings.append(text)))
        try:
            module.main()
        except _Ended as ended:
            return Outcome(ended.failed, ended.result, warnings, len(host.writes) - before)
    raise AssertionError("the module ended without a result")
