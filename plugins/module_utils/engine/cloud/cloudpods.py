# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the planner's input for Cloudpods' host agent from a host, and applies plans to the agent's configuration file."""

from __future__ import annotations

import os

from ..base.errors import EngineError, Refusal
from ..base.plan import Plan
from ..base.steps import Step, execute
from ..read import inventory
from ..state import layout_file, migration
from ..system import files
from ..system.context import Context
from . import config_file
from .cloudpods_plan import MARK, PATH, Request, State, Target

_MARK_TEXT = "Written by vgpu.kvm: Cloudpods' host agent has not been restarted since vgpu.kvm changed host.conf.\n"


def _is_path(path: str) -> bool:
    """Returns whether a path is absolute and valid in a file system."""
    try:
        return path.startswith("/") and "\n" not in path and len(os.fsencode(path)) < 3000
    except UnicodeError:
        return False


def _file(ctx: Context, request: Request) -> tuple[str, str | None, list[Refusal]]:
    """Returns the configuration file's path with links resolved, its text or None, and errors."""
    if not _is_path(request.path):
        found = "%.60r is not a valid absolute path" % request.path
        return request.path, None, [Refusal(found, device="path", expected="the path of a file, such as %s" % PATH, code="bad_path")]
    try:
        path = files.real_path(ctx.root, request.path)
        text = config_file.read(ctx.root, path)
    except EngineError as exc:
        return request.path, None, exc.errors
    if text is not None or not request.present:
        return path, text, []
    return path, None, [Refusal(
        "the file does not exist", device=request.path, expected="the configuration file of Cloudpods' host agent",
        remedy="Add this host to Cloudpods with ocboot or Cloudpods' Kubernetes operator, which creates the file, "
        "or set the vgpu_cloudpods_path variable to the path of the file.",
        code="host_conf_missing")]


def read(ctx: Context, request: Request) -> State:
    """Reads the planner's input from the host. Stored layouts are read only if the request requires existing vGPUs."""
    found = inventory.read(ctx, with_types=False)
    path, text, errors = _file(ctx, request)
    state = State(found, path, text, os.path.lexists(ctx.root + migration.current(ctx.root, MARK)), errors=errors)
    try:
        if request.present and request.require_vgpus:
            state.stored = layout_file.read(ctx.root)
    except EngineError as exc:
        state.layout_errors = exc.errors
    return state


def clean(ctx: Context, request: Request) -> None:
    """Removes incomplete copies of the configuration file that a killed run left behind, because the copies can contain passwords."""
    try:
        directory = os.path.dirname(files.real_path(ctx.root, request.path)) if _is_path(request.path) else ""
    except EngineError:
        return  # read() reports the error
    if directory and os.path.isdir(ctx.root + directory):
        files.sweep(ctx.root, [directory])


def apply(ctx: Context, plan: Plan[Target]) -> list[Step]:
    """Performs and verifies each step of the plan."""

    def perform(step: Step) -> None:
        if step.kind == "mark":
            files.write_atomic(ctx.root, migration.current(ctx.root, MARK), _MARK_TEXT)
        elif step.kind == "forget":
            files.remove(ctx.root, migration.current(ctx.root, MARK))
        elif plan.target.edit:
            config_file.replace(ctx.root, plan.target.path, plan.target.old, plan.target.edit.text)

    return execute(plan.steps, perform)
