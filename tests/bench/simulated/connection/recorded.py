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
  - The controller does all that it does for a host that is reached over ssh with pipelining, but starts no process to get there.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - connection_pipelining
options:
  answer:
    description: What a module prints there; empty is a host that can't be reached.
    vars:
      - name: recorded_answer
    default: ""
  seconds:
    description: How long the host takes for its answer, as a real one would.
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
            raise AnsibleConnectionFailure("only modules have an answer, over pipelining: %r has none" % cmd)
        time.sleep(self.get_option("seconds"))
        with open(self.get_option("answer"), "rb") as handle:
            return 0, handle.read(), b""

    def put_file(self, in_path, out_path):
        """Fail: with pipelining, Ansible copies no file."""
        raise AnsibleConnectionFailure("%s can't be copied: nothing is there" % in_path)

    def fetch_file(self, in_path, out_path):
        """Fail: the host has no files."""
        raise AnsibleConnectionFailure("%s can't be fetched: nothing is there" % in_path)

    def close(self):
        """Do nothing: no connection is open."""
