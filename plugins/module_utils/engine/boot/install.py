# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the files that restore vGPUs at boot without a controller: the command vgpuctl and its systemd unit.

The command vgpuctl is a zipapp, a single file that contains the engine. An update replaces this file atomically.
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
# The name of the engine's package in the zipapp.
PACKAGE = "vgpu_engine"
# Matches the name of a systemd unit. Other characters, such as a newline, could add lines to the unit file.
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

# The time in seconds after which the restore at boot no longer retries GPUs that are in use.
DEADLINE = 660
# The time limit of the unit in seconds. This limit includes the wait for the host's lock, the work after that wait, and steps that began before the
# deadline. A reserve covers programs that end slowly, the reading of the state, and the monitoring of new vGPUs.
LIMIT = DEADLINE + restore.LEAST + restore.REST + 100

# The restore ends before these units start: units that attach vGPUs to VMs, cloud agents that claim free VFs, and services that keep all GPUs open.
# VFs cannot be enabled while a GPU is open.
BEFORE = (
    *("libvirtd.service", "virtqemud.service", "virtnodedevd.service", "libvirt-guests.service", "pve-guests.service"),
    *("nova-compute.service", "openstack-nova-compute.service"),
    *("kubelet.service", "k3s.service", "k3s-agent.service", "rke2-server.service", "rke2-agent.service"),
    *("nvidia-persistenced.service", "nvidia-dcgm.service", "dcgm.service", "nvidia-dcgm-exporter.service", "dcgm-exporter.service"),
    *("prometheus-dcgm-exporter.service", "prometheus-nvidia-exporter.service", "nvidia_gpu_exporter.service", "nvidia-gpu-exporter.service"),
)


def zipapp(sources: Mapping[str, str], interpreter: str) -> bytes:
    """Returns the engine as one executable file. *sources* maps the relative path of each engine module to its text.

    The same sources always result in the same bytes. The files have a fixed time and are not compressed, because versions of zlib differ.
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
    """Returns the content and mode of each file by path, in the order of writing. *manual* is the text of the man page, or empty for none."""
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
    """Returns the collection's paths that exist on the host, in the order of removal. A file that starts another file is removed first."""
    paths = (UNIT_LINK, UNIT, COMMAND, MANUAL, migration.current(root, STORE))
    return [path for path in paths if os.path.islink(root + path) or os.path.isfile(root + path)]


def plan(root: str, expected: Files) -> list[Step]:
    """Returns the steps that install the expected files. If none are expected, the steps remove all files.

    Files of an earlier release are removed last.
    """
    changed = [
        (path, content, mode)
        for path, (content, mode) in expected.items()
        if files.read_bytes(root, path) != content or not _starts(root, path, mode)
    ]
    steps = [Step("write", None, path, "write it", content=content, mode=mode) for path, content, mode in changed]
    # The layout belongs to another module, and the link that enables the unit belongs to systemd. Only a complete removal removes both.
    kept = [*expected, UNIT_LINK, migration.current(root, STORE)] if expected else []
    steps += [Step("delete", None, path, "remove it") for path in present(root) if path not in kept]
    return steps + migration.plan(root, present=bool(expected))


def _starts(root: str, path: str, mode: int) -> bool:
    """Returns whether a file is executable if *mode* requires this. The operator may have changed other permissions."""
    return not mode & stat.S_IXUSR or bool(os.stat(root + path).st_mode & stat.S_IXUSR)


def apply(root: str, steps: Iterable[Step]) -> None:
    """Performs the steps, which write and remove files."""

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
