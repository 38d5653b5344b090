# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A connection to a host that does not exist: it answers every module with the same file."""

from __future__ import annotations

import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: recorded
short_description: Answer each module with a file
description:
  - The controller performs the same steps as for a host that it reaches over ssh with pipelining, but starts no ssh process.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - connection_pipelining
options:
  answer:
    description: Output of each module on the host. If empty, the host is unreachable.
    vars:
      - name: recorded_answer
    default: ""
  seconds:
    description: Delay before the host answers, in seconds.
    type: float
    vars:
      - name: recorded_seconds
    default: 0
"""


class Connection(ConnectionBase):
    """A connection that answers with a recorded result."""

    transport = "recorded"
    has_pipelining = True

    def _connect(self):
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Return (status, output, errors) of a module, whose program comes as *in_data*."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if not self.get_option("answer"):
            raise AnsibleConnectionFailure("ssh: connect to host %s port 22: No route to host" % self._play_context.remote_addr)
        if not in_data:
            raise AnsibleConnectionFailure("this connection answers only modules that Ansible sends with pipelining, but received: %r" % cmd)
        time.sleep(self.get_option("seconds"))
        with open(self.get_option("answer"), "rb") as handle:
            return 0, handle.read(), b""

    def put_file(self, in_path, out_path):
        """Fail: with pipelining, Ansible copies no file."""
        raise AnsibleConnectionFailure("%s cannot be copied: the host has no files" % in_path)

    def fetch_file(self, in_path, out_path):
        """Fail: the host has no files."""
        raise AnsibleConnectionFailure("%s cannot be fetched: the host has no files" % in_path)

    def close(self):
        """Do nothing: no connection is open."""
