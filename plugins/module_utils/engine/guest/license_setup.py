# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a guest's license configuration (token and gridd.conf), and performs the steps that license_plan.py plans."""

from __future__ import annotations

import os
import stat

from ..base.errors import EngineError, error
from ..base.plan import Plan
from ..base.steps import Step, execute
from ..system import files
from ..system.context import Context
from . import gridd_conf
from .license_plan import DIRECTORY_MODE, TOKEN_MODE, Directory, Request, State, Target, removable


def read(ctx: Context, request: Request) -> State:
    """Returns the current license configuration of this VM."""
    conf = files.read_text(ctx.root, gridd_conf.PATH)
    template = files.read_text(ctx.root, gridd_conf.TEMPLATE) if conf is None and request.present else None
    state = State(conf, template, frozenset(path for path in removable(request, conf) if os.path.lexists(ctx.root + path)))
    if request.present and request.token:
        state.directory = _directory(ctx, request.directory)
        if state.directory.is_directory and _is_file(ctx, request.path):
            state.token, state.mode = files.read_text(ctx.root, request.path), _mode(ctx, request.path)
    return state


def _directory(ctx: Context, path: str) -> Directory:
    if os.path.islink(ctx.root + path):
        return Directory(link=os.readlink(ctx.root + path))
    is_directory = os.path.isdir(ctx.root + path)
    names = files.names(ctx.root, path) if is_directory else []
    return Directory(is_directory, mode=_mode(ctx, path), stranger=_stranger(ctx, path), names=names)


def status(ctx: Context, path: str, follows: bool = False) -> os.stat_result | None:
    """Returns the lstat result for a path, or None if lstat fails.

    Args:
        follows: Whether to follow links, as stat does.
    """
    try:
        return os.stat(ctx.root + path, follow_symlinks=follows)
    except OSError:
        return None


def _stranger(ctx: Context, path: str) -> int | None:
    """Returns the user ID of the directory owner, or None if the current user is the owner or the directory does not exist."""
    found = status(ctx, path)
    return found.st_uid if found and found.st_uid != os.geteuid() else None


def _is_file(ctx: Context, path: str) -> bool:
    found = status(ctx, path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _mode(ctx: Context, path: str) -> int | None:
    found = status(ctx, path)
    return stat.S_IMODE(found.st_mode) if found else None


def clean(ctx: Context, request: Request) -> None:
    """Removes temporary files left by a killed run, because these files can contain the token."""
    files.sweep(ctx.root, [request.directory, os.path.dirname(gridd_conf.PATH)])


def apply(ctx: Context, plan: Plan[Target], request: Request) -> list[Step]:
    """Performs the steps in a license plan, and verifies the written files."""

    def perform(step: Step) -> None:
        path = step.device or ""
        if step.kind == "directory":
            os.makedirs(ctx.root + path, mode=DIRECTORY_MODE, exist_ok=True)
            if _stranger(ctx, path) is not None:
                os.chown(ctx.root + path, os.geteuid(), os.getegid())
            os.chmod(ctx.root + path, DIRECTORY_MODE)
        elif step.kind == "token":
            _write_token(ctx, request)
        elif step.kind == "drop":
            files.remove(ctx.root, path)
        else:
            files.write_atomic(ctx.root, path, step.args["content"])
            if files.read_text(ctx.root, path) != step.args["content"]:
                raise _not_kept(path)

    return execute(plan.steps, perform)


def _write_token(ctx: Context, request: Request) -> None:
    """Writes the token. The function replaces links and other objects that are not regular files, and never follows links."""
    path, text = request.path, (request.token or "").strip()
    if os.path.lexists(ctx.root + path) and not _is_file(ctx, path):
        files.remove(ctx.root, path)
    files.write_atomic(ctx.root, path, text + "\n", TOKEN_MODE)
    os.chmod(ctx.root + path, TOKEN_MODE)
    if _mode(ctx, path) != TOKEN_MODE or (files.read_text(ctx.root, path) or "").strip() != text:
        raise _not_kept(path)


def _not_kept(path: str) -> EngineError:
    return error(
        "the file does not contain the text that was written", device=path,
        remedy="Stop the program that changes the file. Then rerun the playbook.", code="not_kept")
