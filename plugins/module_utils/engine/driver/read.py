# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of a driver needs of the host's files."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat

from ..read.host import HostState
from .plan import Files, Request
from .signing import KeyFile


def read(state: HostState, request: Request) -> Files:
    """The package, the free space and the keys that a request names."""
    folder = os.path.abspath(request.tmpdir or "/tmp")
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    package, free = os.path.isfile(request.src or ""), shutil.disk_usage(folder).free >> 20
    if not request.signing_key or not request.signing_certificate:
        return Files(package, free)
    return Files(package, free, _key(request.signing_key), _certificate(request.signing_certificate, bool(state.secure_boot)))


def _key(path: str) -> KeyFile:
    is_file = os.path.isfile(path)
    shared = is_file and bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    return KeyFile(path, os.path.exists(path), is_file, shared)


def _certificate(path: str, with_content: bool) -> KeyFile:
    """with_content: only Secure Boot makes the certificate's own content matter."""
    is_file = os.path.isfile(path)
    fingerprint = None
    if is_file and with_content:
        with open(path, "rb") as handle:
            fingerprint = hashlib.sha256(handle.read()).hexdigest()
    return KeyFile(path, os.path.exists(path), is_file, fingerprint=fingerprint)
