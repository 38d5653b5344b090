# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer at a time on a host. The lock is flock(2): it dies with its holder."""

from __future__ import annotations

import fcntl
import os

from .errors import trouble
from .waiting import until

PATH = "/run/nvidia-vgpu.lock"


class HostLock:
    """Context manager; waits for another writer until timeout seconds are over."""

    def __init__(self, ctx, timeout=60, path=PATH):
        self.ctx = ctx
        self.timeout = timeout
        self.path = ctx.root + path
        self.handle = None

    def _take(self):
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False

    def _holder(self):
        self.handle.seek(0)
        pid = self.handle.read().strip()
        command = self.ctx.sysfs.read_or("/proc/%s/cmdline" % pid, "") if pid else ""
        return "pid %s (%s)" % (pid or "?", command.replace("\0", " ").strip() or "?")

    def __enter__(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.handle = os.fdopen(number, "r+")
        if not until(self.ctx.clock, self._take, self.timeout):
            holder = self._holder()
            self.handle.close()
            raise trouble(
                "%s is changing this host's vGPUs, for more than %d s by now"
                % (holder, self.timeout),
                device=PATH,
                remedy="Wait until it ends, then run again.",
                code="locked",
            )
        self.handle.seek(0)
        self.handle.truncate()
        self.handle.write("%d\n" % os.getpid())
        self.handle.flush()
        return self

    def __exit__(self, *dummy):
        self.handle.close()
