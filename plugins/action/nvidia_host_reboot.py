# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reboots a host that is not in use.

The check and the reboot are one task, because the reboots of other hosts between two tasks can take minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from ansible import constants
from ansible.plugins.action import ActionBase

SPEC = {
    "may_disturb": {"type": "list", "elements": "str", "default": []},
    "one_at_a_time": {"type": "bool", "default": True},
    "reboot_timeout": {"type": "int", "default": 900},
    "msg": {"type": "str", "default": "Reboot by Ansible to configure NVIDIA vGPU (vgpu.kvm)"},
    "read": {"type": "bool", "default": True},
    "progress": {"type": "str", "default": ""},
}
_LATE = (
    "Check the host's console. When the host is running, rerun the playbook to continue. For a slower host, increase vgpu_reboot_timeout (seconds)."
)


def shown(user):
    """Returns a text that describes a VM or process that uses the host."""
    return "%spid %s (%s)" % ("VM %s, " % user["vm"] if user["vm"] else "", user["pid"], user["command"])


def failure(done, given, host):
    """Returns the error message for a failed reboot, including a remedy."""
    late = "the host did not respond within %d s of the reboot request (expected: a response over SSH after a new boot)." % given["reboot_timeout"]
    then = _LATE if done["rebooted"] else "Fix the reported error, then rerun the playbook to continue."
    said = "Ansible reported: %s." % str(done.get("msg") or "nothing").rstrip(".")
    return " ".join(["%s:" % host, late if done["rebooted"] else "the reboot was not started.", said, then, given["progress"]]).rstrip()


@contextlib.contextmanager
def turn():
    """Waits until no other host in this run is rebooting, and prevents other hosts from rebooting until the caller is done.

    With the free and host_pinned strategies, Ansible's throttle does not limit included tasks.
    """
    with open(os.path.join(constants.DEFAULT_LOCAL_TMP, "vgpu_kvm_reboot"), "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class ActionModule(ActionBase):
    """The nvidia_host_reboot action, which runs on the controller."""

    def run(self, tmp=None, task_vars=None):
        """Reboots the host unless the host is in use, and returns the task result."""
        self._supports_check_mode = True
        result = super().run(tmp, task_vars)
        given = self.validate_argument_spec(argument_spec=SPEC)[1]
        with turn() if given["one_at_a_time"] else contextlib.nullcontext():
            done = {**result, "rebooted": False, **self._reboot(given, task_vars)}
        return {**done, "msg": failure(done, given, task_vars["inventory_hostname"])} if done.get("failed") else done

    def _reboot(self, given, task_vars):
        """Checks and reboots the host, and returns the result. run() adds the final error message."""
        if given["read"] and self._connection.transport != "local":  # ansible.builtin.reboot fails with a local connection.
            options = {"may_disturb": given["may_disturb"], "detail": "counts"}
            read = self._execute_module(module_name="vgpu.kvm.nvidia_gpu_info", module_args=options, task_vars=task_vars)
            if "in_the_way" not in read or "busy" not in read:
                return {**read, "failed": True}
            reasons = [shown(user) for user in read["in_the_way"]] + read["busy"]
            if reasons:
                return {"failed": True, "msg": "The host is now in use: %s (expected: a host that no VM or program uses or changes)." % "; ".join(reasons)}
        task = self._task.copy()
        task.args = {"reboot_timeout": given["reboot_timeout"], "msg": given["msg"]}
        reboot = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.reboot", task=task, connection=self._connection, play_context=self._play_context, loader=self._loader,
            templar=self._templar, shared_loader_obj=self._shared_loader_obj,
        )
        return reboot.run(task_vars=task_vars)
