# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the vgpuctl command and its systemd unit, which restore vGPUs at boot without a controller.

The vgpuctl command is a zipapp, a single file that contains the engine. Updates replace the file atomically.
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

# The content and mode of each file, keyed by path.
Files = Dict[str, Tuple[bytes, int]]
# The name of the engine's package in the zipapp.
PACKAGE = "vgpu_engine"
# Matches systemd unit names. Other characters, such as line breaks, could add lines to the unit file.
_UNIT = re.compile(r"^[A-Za-z0-9:_.@\\-]{1,200}\.(service|socket|target|mount|device|timer|path|slice|scope|swap|automount)\Z")

_MAIN_TEXT = """# Written by vgpu.kvm. Shows this host's vGPUs and restores the stored vGPUs.
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
# This limit is much longer than the timeout above, because steps in progress must finish and the journal must list missing vGPUs.
TimeoutStartSec=%(limit)d

[Install]
WantedBy=multi-user.target
"""

# Seconds after which the restore at boot stops retrying GPUs that are in use.
DEADLINE = 660
# The unit's time limit in seconds, which includes the wait for the host's lock, the restore, and steps that began before the deadline.
# A reserve covers slow program exits, reading the host's state, and monitoring new vGPUs.
LIMIT = DEADLINE + restore.LEAST + restore.REST + 100

# Units that start after the restore: units that attach vGPUs to VMs, cloud agents that claim free VFs, and services that use all GPUs.
# VFs cannot be enabled while a process uses the GPU.
BEFORE = (
    *("libvirtd.service", "virtqemud.service", "virtnodedevd.service", "libvirt-guests.service", "pve-guests.service"),
    *("nova-compute.service", "openstack-nova-compute.service"),
    *("kubelet.service", "k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service"),
    *("nvidia-persistenced.service", "nvidia-dcgm.service", "dcgm.service", "nvidia-dcgm-exporter.service", "dcgm-exporter.service"),
    *("prometheus-dcgm-exporter.service", "prometheus-nvidia-exporter.service", "nvidia_gpu_exporter.service", "nvidia-gpu-exporter.service"),
)


def zipapp(sources: Mapping[str, str], interpreter: str) -> bytes:
    """Returns the engine as the content of one executable zipapp. *sources* maps relative module paths to source texts.

    Identical sources result in identical bytes: the files have a fixed timestamp and are not compressed, because zlib versions differ.
    """
    members = {"%s/%s" % (PACKAGE, name): text for name, text in sources.items()}
    members["__main__.py"] = _MAIN_TEXT
    content = io.BytesIO()
    content.write(os.fsencode(python.first_lines(interpreter)))
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the earliest time that the zip format allows
            entry.create_system = 3  # Unix, for which external_attr contains file modes
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, members[name].encode("utf-8", "surrogateescape"))
    return content.getvalue()


def expected_files(sources: Mapping[str, str], before: Sequence[str], interpreter: str, manual: str = "") -> Files:
    """Returns the content and mode of each file, keyed by path, in write order. *manual* is the man page text, or empty for no man page."""
    raise_if_any(
        Refusal("%s is not a valid name for a systemd unit" % shown(unit), "before[%d]" % number, "a name such as my-agent.service", code="bad_unit")
        for number, unit in enumerate(before)
        if not _UNIT.match(unit)
    )
    units = [*BEFORE, *(unit for unit in before if unit not in BEFORE)]
    old = {"old_unit": os.path.basename(migration.OLD_UNIT), "old_store": migration.OLD_STORE}
    unit_text = _UNIT_TEXT % {"store": STORE, "command": COMMAND, "timeout": DEADLINE, "limit": LIMIT, "before": " ".join(units), **old}
    found = {COMMAND: (zipapp(sources, interpreter), 0o755), UNIT: (unit_text.encode("utf-8"), 0o644)}
    return {**found, MANUAL: (manual.encode("utf-8"), 0o644)} if manual else found


def present(root: str) -> list[str]:
    """Returns the existing paths that the collection manages, in removal order: files that start other files are removed first."""
    paths = (UNIT_LINK, UNIT, COMMAND, MANUAL, migration.current(root, STORE))
    return [path for path in paths if os.path.islink(root + path) or os.path.isfile(root + path)]


def plan(root: str, expected: Files) -> list[Step]:
    """Returns the steps that install the expected files, or that remove all files if no files are expected.

    Files from earlier releases are removed last.
    """
    changed = [
        (path, content, mode)
        for path, (content, mode) in expected.items()
        if files.read_bytes(root, path) != content or not _starts(root, path, mode)
    ]
    steps = [Step("write", None, path, "write the file", content=content, mode=mode) for path, content, mode in changed]
    # Another module owns the stored layout, and systemd owns the symbolic link that enables the unit. Only a complete removal deletes both.
    kept = [*expected, UNIT_LINK, migration.current(root, STORE)] if expected else []
    steps += [Step("delete", None, path, "remove the file") for path in present(root) if path not in kept]
    return steps + migration.plan(root, present=bool(expected))


def _starts(root: str, path: str, mode: int) -> bool:
    """Returns whether a file has the execute permission that *mode* requires. Operators may have changed other permissions."""
    return not mode & stat.S_IXUSR or bool(os.stat(root + path).st_mode & stat.S_IXUSR)


def apply(root: str, steps: Iterable[Step]) -> None:
    """Performs the steps, which write and remove files."""

    def perform(step: Step) -> None:
        if step.kind == "write":
            path, mode = str(step.device), step.args["mode"]
            files.write_atomic(root, path, step.args["content"], mode)
            if not _starts(root, path, mode):  # write_atomic() keeps the mode of the replaced file
                os.chmod(root + path, mode)
        elif step.kind == "delete":
            files.remove(root, str(step.device))
        else:
            migration.perform(root, step)

    execute(steps, perform)
