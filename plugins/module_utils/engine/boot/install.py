# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's copy on the host: files, unit and command, so that a boot needs no controller."""

from __future__ import annotations

import os
import re

from ..base.errors import Trouble, raise_if_any, shown
from ..base.steps import Step, execute
from ..state.paths import COMMAND, COPY as FOLDER, PACKAGE, STORE, UNIT
from ..system import files
from . import bytecode

# What a line of the unit may name: anything else would write lines of its own.
_UNIT = re.compile(r"^[A-Za-z0-9:_.@\\-]{1,200}\.(service|socket|target|mount|device|timer|path|slice|scope|swap|automount)\Z")

_COMMAND_TEXT = """#!%(interpreter)s
# Written by vgpu.kvm. Shows this host's vGPUs and brings the stored ones back.
import sys

sys.path.insert(0, "%(folder)s")
sys.dont_write_bytecode = True

from nvidia_vgpu_engine.cli import main

sys.exit(main())
"""

_UNIT_TEXT = """# Written by vgpu.kvm.
[Unit]
Description=Restore NVIDIA VFs and vGPUs
Documentation=file:%(store)s
After=nvidia-vgpud.service nvidia-vgpu-mgr.service systemd-modules-load.service systemd-udev-settle.service
Wants=nvidia-vgpud.service nvidia-vgpu-mgr.service
Before=%(before)s
ConditionPathExists=%(store)s

[Service]
Type=oneshot
RemainAfterExit=yes
# VMs wait for it, while udev is busy with hundreds of new VFs.
Nice=-10
ExecStart=%(command)s restore
TimeoutStartSec=15min

[Install]
WantedBy=multi-user.target
"""

# What hands vGPUs to VMs, and cloud agents that take free VFs for themselves.
BEFORE = (
    "libvirtd.service",
    "virtqemud.service",
    "virtnodedevd.service",
    "libvirt-guests.service",
    "pve-guests.service",
    "nova-compute.service",
    "openstack-nova-compute.service",
    "kubelet.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
)


def wanted_files(sources, before, interpreter):
    """Text and mode of each file by path. sources: the engine's modules by relative path."""
    raise_if_any(
        Trouble(
            "%s is no unit of systemd" % shown(unit),
            device="before[%d]" % number,
            wanted="a name such as my-agent.service",
            code="bad_unit",
        )
        for number, unit in enumerate(before)
        if not _UNIT.match(unit)
    )
    wanted = {"%s/%s" % (PACKAGE, name): (text, 0o644) for name, text in sources.items()}
    wanted[COMMAND] = (_COMMAND_TEXT % {"interpreter": interpreter, "folder": FOLDER}, 0o755)
    units = list(BEFORE) + [unit for unit in before if unit not in BEFORE]
    wanted[UNIT] = (
        _UNIT_TEXT % {"store": STORE, "command": COMMAND, "before": " ".join(units)},
        0o644,
    )
    return wanted


def folders(root):
    """Folders of the engine's copy that are there, each before those in it."""
    return files.folders(root, PACKAGE)


def present(root):
    """Paths of ours that lie on the host."""
    found = []
    for folder in folders(root):
        found += files.names(root, folder, ".py")
    return found + [path for path in (COMMAND, UNIT) if os.path.exists(root + path)]


def plan(root, wanted):
    """Steps from what lies there to the wanted files; an empty wish removes all."""
    steps = []
    for path in sorted(wanted):
        text, mode = wanted[path]
        if files.read_text(root, path) != text:
            steps.append(Step("write", None, path, "write it", content=text, mode=mode))
    for path in present(root):
        if path not in wanted:
            steps.append(Step("delete", None, path, "remove it"))
    modules = _modules(wanted)
    if any(step.device in modules for step in steps) or not bytecode.complete(root, modules, folders(root)):
        steps.append(Step("compile", None, PACKAGE, "compile it" if modules else "remove what was compiled of it", modules=modules))
    return steps


def _modules(wanted):
    return sorted(path for path in wanted if path.startswith(PACKAGE + "/"))


def apply(root, steps):
    """Writes and removes the files."""

    def perform(step):
        if step.kind == "write":
            files.write_atomic(root, step.device, step.args["content"], step.args["mode"])
        elif step.kind == "compile":
            bytecode.make(root, step.args["modules"], folders(root))
        else:
            files.remove(root, step.device)

    execute(steps, perform)
    if any(step.kind != "write" for step in steps):
        for folder in [*reversed(folders(root)), FOLDER]:
            if os.path.isdir(root + folder) and not os.listdir(root + folder):
                os.rmdir(root + folder)
