# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A host whose programs print a given text, which tests use for the engine's parsers."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context


def printed(text):
    """Return a context in which each program prints *text* and succeeds."""
    return Context(command=lambda argv, timeout, env=None, keeps_lock=False: Result(0, text))
