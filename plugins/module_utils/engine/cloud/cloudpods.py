# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file of Cloudpods' host agent: what a plan needs of a host, and what does the plan's steps."""

from __future__ import annotations

import os
from typing import List, Mapping, Optional, Sequence, Tuple

from ..base.errors import EngineError, Trouble
from ..base.steps import Step, execute
from ..read import inventory
from ..state import layout_file
from ..system import files
from ..system.context import Context
from . import config_file
from .cloudpods_plan import MARK, PATH, Plan, Request, State

_MARK_TEXT = "Written by vgpu.kvm: Cloudpods' host agent was not restarted since its host.conf was changed.\n"


def _is_path(path: str) -> bool:
    """Whether a file system can have it."""
    try:
        return path.startswith("/") and "\n" not in path and len(os.fsencode(path)) < 3000
    except UnicodeError:
        return False


def _file(ctx: Context, request: Request) -> Tuple[str, Optional[str], List[Trouble]]:
    """(path without links, text or None, troubles)."""
    if not _is_path(request.path):
        found = "%.60r is no absolute path" % request.path
        return request.path, None, [Trouble(found, device="path", wanted="a file, such as %s" % PATH, code="bad_path")]
    try:
        path = config_file.real_path(ctx.root, request.path)
        text = config_file.read(ctx.root, path)
    except EngineError as exc:
        return request.path, None, exc.troubles
    if text is None and request.present:
        return path, None, [
            Trouble(
                "it is not there",
                device=request.path,
                wanted="the configuration of Cloudpods' host agent",
                remedy="Add this host to Cloudpods first (ocboot, or its operator, writes the file), or give its path (role variable cloudpods_path).",
                code="host_conf_missing",
            )
        ]
    return path, text, []


def _layouts(ctx: Context, request: Request) -> Tuple[Mapping[str, layout_file.StoredGpu], Sequence[Trouble]]:
    """(The stored layouts by GPU, why they can't be read). Nothing is read where nothing is asked of them."""
    if not request.present or not request.require_vgpus:
        return {}, []
    try:
        return layout_file.read(ctx.root), []
    except EngineError as exc:
        return {}, exc.troubles


def read(ctx: Context, request: Request) -> State:
    """What a plan needs of this host."""
    found = inventory.read(ctx, with_types=False)
    path, text, troubles = _file(ctx, request)
    stored, layout_troubles = _layouts(ctx, request)
    return State(found, path, text, os.path.lexists(ctx.root + MARK), stored=stored, troubles=troubles, layout_troubles=layout_troubles)


def clean(ctx: Context, request: Request) -> None:
    """Removes what a killed run left half-written beside the file: a copy of it, which may hold passwords."""
    try:
        folder = os.path.dirname(config_file.real_path(ctx.root, request.path)) if _is_path(request.path) else ""
    except EngineError:
        return  # read() reports it
    if folder and os.path.isdir(ctx.root + folder):
        files.sweep(ctx.root, [folder])


def apply(ctx: Context, plan: Plan) -> List[Step]:
    """Does the steps, and verifies each."""

    def perform(step: Step) -> None:
        if step.kind == "mark":
            files.write_atomic(ctx.root, MARK, _MARK_TEXT)
        elif step.kind == "forget":
            files.remove(ctx.root, MARK)
        elif plan.target.edit:
            config_file.replace(ctx.root, plan.target.path, plan.target.old, plan.target.edit.text)

    return execute(plan.steps, perform)
