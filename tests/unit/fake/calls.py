# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs the main() of a module on a fake host, with real task arguments and the real argument spec."""

from __future__ import annotations

import contextlib
import json
from unittest import mock

from ansible.module_utils import basic

from ansible_collections.vgpu.kvm.plugins.module_utils import _module

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # older releases of ansible-core lack patch_module_args

    @contextlib.contextmanager
    def patch_module_args(args):
        """Provide the arguments in the form in which the controller sends them."""
        with mock.patch.object(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()):
            yield


class _Ended(Exception):
    """Raised when the module calls exit_json or fail_json."""

    def __init__(self, failed, result):
        super().__init__()
        self.failed = failed
        self.result = result


class Outcome:
    """The result of a module. *writes* is the number of changes that the module made to the host."""

    def __init__(self, failed, result, warnings, writes):
        self.failed = failed
        self.result = result
        self.warnings = warnings
        self.writes = writes

    def __getitem__(self, key):
        return self.result[key]

    @property
    def ok(self):
        """Assert that the module succeeded, and return the outcome."""
        assert not self.failed, self.result["msg"]
        return self

    @property
    def msg(self):
        """Assert that the module failed without a traceback, and return its error message."""
        assert self.failed, "the module did not fail: %s" % self.result
        assert "Traceback" not in self.result["msg"]
        return self.result["msg"]

    @property
    def codes(self):
        """Return the codes of the module's errors."""
        return [one["code"] for one in self.result["errors"]]


def call(module, host, check=False, **arguments):
    """Run the module with the arguments of a task, and return its outcome."""
    warnings = []

    def ending(failed):
        def end(self, **result):
            json.dumps(result, ensure_ascii=False).encode("utf-8")  # fails if the result is not valid UTF-8, because the controller could not write it either
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
