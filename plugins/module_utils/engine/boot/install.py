# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the files that restore vGPUs at boot without a controller: the command vgpuctl and its unit.

The command is the engine as one file, a zipapp. It is replaced atomically.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from typing import Dict, Iterable, Mapping, Sequence, Tuple

from ..base.errors import Refusal, raise_if_any, shown
from ..base.steps import Step, execute
from ..state import migration
from ..state.paths import COMMAND, MANUAL, STORE, UNIT, UNIT_LINK
from ..system import files, python
from . import restore

# The content and mode of each file, by path.
Files = Dict[str, Tuple[bytes, int]]
# The engine's name in the zipapp.
PACKAGE = "vgpu_engine"
# The characters of a name in the unit. Others, such as a newline, could add lines to the unit.
_UNIT = re.compile(r"^[A-Za-z0-9:_.@\\-]{1,200}\.(service|socket|target|mount|device|timer|path|slice|scope|swap|automount)\Z")

_MAIN_TEXT = """# Written by vgpu.kvm. Shows this host's vGPUs and restores the stored ones.
import sys

from %s.cli.main import main

sys.exit(main())
""" % PACKAGE

_UNIT_TEXT = """# Written by vgpu.kvm.
[Unit]
Description=Restore NVIDIA VFs and vGPUs
Documentation=file:%(store)s
After=nvidia-vgpud.service nvidia-vgpu-mgr.service nvidia-fabricmanager.service systemd-modules-load.service systemd-udev-settle.service %(old_unit)s
Wants=nvidia-vgpud.service nvidia-vgpu-mgr.service
Before=%(before)s
ConditionPathExists=|%(store)s
ConditionPathExists=|%(old_store)s

[Service]
Type=oneshot
RemainAfterExit=yes
# VMs wait for this unit while udev handles hundreds of new VFs.
Nice=-10
ExecStart=%(command)s restore --timeout %(timeout)d
# Much longer than the timeout above: steps in progress can end, and the journal names missing vGPUs.
TimeoutStartSec=%(limit)d

[Install]
WantedBy=multi-user.target
"""

# Seconds after which the restore at boot gives up on GPUs that are in use.
DEADLINE = 660
# The unit's time limit in seconds: the wait for the host's lock, the work after it, steps that began before the deadline, and a reserve for
# programs that end slowly, for reading the state, and for monitoring new vGPUs.
LIMIT = DEADLINE + restore.LEAST + restore.REST + 100

# Units that attach vGPUs to VMs, cloud agents that claim free VFs, and services that keep all GPUs open, which prevents VFs from being enabled.
BEFORE = (
    *("libvirtd.service", "virtqemud.service", "virtnodedevd.service", "libvirt-guests.service", "pve-guests.service"),
    *("nova-compute.service", "openstack-nova-compute.service"),
    *("kubelet.service", "k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service"),
    *("nvidia-persistenced.service", "nvidia-dcgm.service", "dcgm.service", "nvidia-dcgm-exporter.service", "dcgm-exporter.service"),
    *("prometheus-dcgm-exporter.service", "prometheus-nvidia-exporter.service", "nvidia_gpu_exporter.service", "nvidia-gpu-exporter.service"),
)


def zipapp(sources: Mapping[str, str], interpreter: str) -> bytes:
    """The engine as one executable file. sources: the texts of the engine's modules by relative path.

    The same sources always give the same bytes: the files are not compressed, as zlib versions differ, and have a fixed time.
    """
    members = {"%s/%s" % (PACKAGE, name): text for name, text in sources.items()}
    members["__main__.py"] = _MAIN_TEXT
    content = io.BytesIO()
    content.write(os.fsencode(python.first_lines(interpreter)))
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the earliest time that the zip format allows
            entry.create_system = 3  # Unix: external_attr has Unix modes
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, members[name].encode("utf-8", "surrogateescape"))
    return content.getvalue()


def expected_files(sources: Mapping[str, str], before: Sequence[str], interpreter: str, manual: str = "") -> Files:
    """The content and mode of each file by path, in the order of writing. manual: the text of the man page; empty for none."""
    raise_if_any(
        Refusal("%s is not a name of a systemd unit" % shown(unit), "before[%d]" % number, "a name such as my-agent.service", code="bad_unit")
        for number, unit in enumerate(before)
        if not _UNIT.match(unit)
    )
    units = [*BEFORE, *(unit for unit in before if unit not in BEFORE)]
    old = {"old_unit": os.path.basename(migration.OLD_UNIT), "old_store": migration.OLD_STORE}
    unit_text = _UNIT_TEXT % {"store": STORE, "command": COMMAND, "timeout": DEADLINE, "limit": LIMIT, "before": " ".join(units), **old}
    found = {COMMAND: (zipapp(sources, interpreter), 0o755), UNIT: (unit_text.encode("utf-8"), 0o644)}
    return {**found, MANUAL: (manual.encode("utf-8"), 0o644)} if manual else found


def present(root: str) -> list[str]:
    """The collection's paths that exist on the host, in the order of removal: a file that starts another one comes first."""
    paths = (UNIT_LINK, UNIT, COMMAND, MANUAL, migration.current(root, STORE))
    return [path for path in paths if os.path.islink(root + path) or os.path.isfile(root + path)]


def plan(root: str, expected: Files) -> list[Step]:
    """The steps that install these files; without files, the steps that remove all. Files of an earlier release are removed last."""
    changed = [
        (path, content, mode)
        for path, (content, mode) in expected.items()
        if files.read_bytes(root, path) != content or not _starts(root, path, mode)
    ]
    steps = [Step("write", None, path, "write it", content=content, mode=mode) for path, content, mode in changed]
    # Another module manages the layout, and systemd the link that enables the unit: only a complete removal removes these.
    kept = [*expected, UNIT_LINK, migration.current(root, STORE)] if expected else []
    steps += [Step("delete", None, path, "remove it") for path in present(root) if path not in kept]
    return steps + migration.plan(root, present=bool(expected))


def _starts(root: str, path: str, mode: int) -> bool:
    """Whether a file has the execute permissions of the required mode. The operator may have changed other permissions."""
    return not mode & stat.S_IXUSR or bool(os.stat(root + path).st_mode & stat.S_IXUSR)


def apply(root: str, steps: Iterable[Step]) -> None:
    """Does the steps: writes and removes the files."""

    def perform(step: Step) -> None:
        if step.kind == "write":
            path, mode = str(step.device), step.args["mode"]
            files.write_atomic(root, path, step.args["content"], mode)
            if not _starts(root, path, mode):  # write_atomic kept the old file's mode
                os.chmod(root + path, mode)
        elif step.kind == "delete":
            files.remove(root, str(step.device))
        else:
            migration.perform(root, step)

    execute(steps, perform)
