# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A connection to a host of the test bed. Each call goes to the bed's server (bed.py), which answers for the host or fails as the test requests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.executor import module_common
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: fleet
short_description: Reach a host of the test bed
description:
  - On the controller, Ansible works as over ssh with pipelining. The server on the socket $FLEET_SOCKET answers for the host.
author:
  - The vgpu.kvm authors (@vgpu-kvm)
extends_documentation_fragment:
  - connection_pipelining
options:
  name:
    description: The host.
    vars:
      - name: inventory_hostname
"""


def ask(request: dict) -> dict:
    """Return the answer of the bed's server."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["FLEET_SOCKET"])
        line.sendall(json.dumps(request).encode() + b"\n")
        line.shutdown(socket.SHUT_WR)
        with line.makefile("rb") as answer:
            return json.load(answer)


class Connection(ConnectionBase):
    """The connection plugin."""

    transport = "fleet"
    has_pipelining = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # The server has the modules and needs only their arguments, so Ansible does not need to collect each module's imports, which takes a second
        # per module and run. The change affects only the process of one task. Modules on localhost run in other processes.
        module_common.ModuleDepFinder.visit = lambda self, node: None

    def set_become_plugin(self, plugin):
        """Do nothing: on a host of the bed, the user is already root, regardless of the inventory's settings for sudo."""

    def _connect(self):
        self._connected = True
        return self

    def _ask(self, **request):
        """Return the answer to a call. A failing call raises the same errors as over ssh."""
        answer = ask({"host": self.get_option("name"), **request})
        time.sleep(answer.get("seconds", 0))
        if answer.get("fault") == "unreachable":
            raise AnsibleConnectionFailure("ssh: connect to host %s port 22: Connection timed out" % self.get_option("name"))
        if answer.get("fault") == "timeout":
            signal.raise_signal(signal.SIGALRM)  # Ansible implements the task keyword timeout with this signal.
        return answer

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Return (status, output, errors) of a module, whose program is in_data, or of a command line."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        answer = self._ask(module=in_data.decode()) if in_data else self._ask(command=cmd)
        if answer.get("really"):
            done = subprocess.run(cmd, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # commands for Ansible's scratch directories
            return done.returncode, done.stdout, done.stderr
        return answer["rc"], answer["out"].encode(), answer.get("err", "").encode()

    def put_file(self, in_path, out_path):
        """Write a file into Ansible's scratch directory, which is a directory of the test."""
        super().put_file(in_path, out_path)
        if self._ask(file=out_path).get("rc"):
            raise AnsibleError("failed to transfer file to %s" % out_path)
        shutil.copyfile(in_path, out_path)

    def fetch_file(self, in_path, out_path):
        """Fail: no role fetches a file."""
        raise AnsibleConnectionFailure("%s can't be fetched" % in_path)

    def close(self):
        """Mark the connection as closed. No real connection is open."""
        self._connected = False

    def reset(self):
        """Do nothing: no connection is open."""
