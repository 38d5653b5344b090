# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists known incompatibilities between NVIDIA's drivers and kernels, GPUs, and vGPU software editions, with their sources.

The compatibility table causes only warnings before an installation, never errors. The machine's state has priority over the table: a kernel that
has the driver module is compatible, and a GPU that offers vGPU types is supported. Users can add rows in the same format to
vgpu_driver_compatibility. User rows have priority over the table, and can correct the rows of the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ..base.errors import Refusal, raise_if_any, shown
from ..hardware.gpu import Gpu

GRID, AI_ENTERPRISE = EDITIONS = ("grid", "ai_enterprise")
_SPAN = re.compile(r"(?=.*[0-9])(?:[0-9]{1,6}(?:\.[0-9]{1,6}){0,3})?(?:\.\.(?:[0-9]{1,6}(?:\.[0-9]{1,6}){0,3})?)?\Z")
_SPANS = ("driver", "kernel", "host_driver")
_CONDITIONS = ("kernel", "gpus", "edition", "host_driver")
VARIABLE = "vgpu_driver_compatibility"


@dataclass(eq=False, repr=False)
class Row:
    """A row of the compatibility table: an incompatible combination or, if works is true, a compatible combination.

    A row applies if all its conditions are met. An empty condition is always met. A version range has one of the forms 535, ..535, 6.14.., or
    535..570. The upper bound of a range includes all versions that begin with the bound.

    Attributes:
        note: The consequence of the combination, as a clause for a message.
        driver: The driver version range.
        kernel: The kernel version range.
        gpus: GPU architectures, or GPU selectors as in a layout.
        edition: One of EDITIONS.
        host_driver: The host driver version range, for a guest driver.
    """

    note: str
    driver: str = ""
    kernel: str = ""
    gpus: Sequence[str] = ()
    edition: str = ""
    host_driver: str = ""
    remedy: str = ""
    source: str = ""
    works: bool = False

    @property
    def conditions(self) -> set[str]:
        """The names of the row's conditions other than the driver version."""
        return {name for name in _CONDITIONS if getattr(self, name)}


@dataclass(eq=False, repr=False)
class Subject:
    """The combination to check against the compatibility table.

    Attributes:
        driver: The driver version to install.
        kernels: The kernels without a module for the driver version.
        gpus: The GPUs on which the driver version does not offer vGPU types yet.
        edition: One of EDITIONS, or empty if unknown.
        host_driver: The host driver version, or empty if unknown.
    """

    driver: str
    kernels: Sequence[str] = ()
    gpus: Sequence[Gpu] = ()
    edition: str = ""
    host_driver: str = ""


_LAST_WITH_PASCAL = "https://github.com/anomixer/proxmox-vgpu-installer/issues/29"
_KERNEL_6_8 = "https://gitlab.com/polloloco/vgpu-proxmox/-/merge_requests/9"
# Only the first matching row for each kernel or GPU causes a warning.
TABLE: Sequence[Row] = (
    Row(
        "releases of branch 535 before 535.216.01 (vGPU 16.8) do not build on kernels 6.8 and later", "..535.183", "6.8..6.13",
        remedy="Install a later release.", source=_KERNEL_6_8,
    ),
    Row(
        "the first releases of branch 550 do not build on kernels 6.8 and later", "550..550.54", "6.8..6.13",
        remedy="Install a later release.", source=_KERNEL_6_8,
    ),
    Row(
        "branch 535 and older branches do not build on kernels 6.14 and later", "..535", "6.14..",
        remedy="Boot an older kernel, or install a later branch.", source="https://github.com/anomixer/proxmox-vgpu-installer/issues/18",
    ),
    Row(
        "branch 550 does not build on kernels 6.17 and later", "550", "6.17..",
        remedy="Boot an older kernel, or install a later branch.", source="https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1143",
    ),
    Row(
        "only branch 595 (vGPU 20) and later branches are reported to build on kernels 7.0 and later", "..580", "7..",
        remedy="Boot an older kernel, or install a later branch.", source="https://github.com/anomixer/proxmox-vgpu-installer/issues/27",
    ),
    Row(
        "branch 535 (vGPU 16) is the last branch that offers vGPU types on GPUs of this generation", "536..", gpus=("Maxwell", "Pascal"),
        remedy="Install a release of branch 535.", source=_LAST_WITH_PASCAL,
    ),
    Row(
        "branch 580 (vGPU 19) is the last branch that offers vGPU types on this GPU", "581..", gpus=("Volta", "RTX 6000", "RTX 8000"),
        remedy="Install a release of branch 580.", source=_LAST_WITH_PASCAL,
    ),
    Row(
        "vGPU types on GPUs of this generation require branch 525 (vGPU 15) or later", "..524", gpus=("Hopper",),
        remedy="Install a later branch.", source="https://docs.nvidia.com/ai-enterprise/3.0/release-notes/index.html",
    ),
    Row(
        "the GRID bundle of this branch enables VFs on GPUs of this generation, but offers no vGPU types", "525..550", gpus=("Hopper",), edition=GRID,
        remedy="Install the driver from the NVIDIA AI Enterprise bundle (…-vgpu-kvm-aie.run).", source="https://github.com/harvester/harvester/issues/7111",
    ),
    Row(
        "GPUs of this generation require branch 570 (vGPU 18) or later", "..569", gpus=("Blackwell",),
        remedy="Install a later branch.", source="https://github.com/NVIDIA/cloud-native-docs/pull/184",
    ),
    Row(
        "NVIDIA's release notes list this GPU only for branch 580 (vGPU 19) and later", "570..579", gpus=("RTX PRO 6000 Blackwell SE",),
        remedy="Install a later branch.", source="https://docs.nvidia.com/vgpu/latest/grid-vgpu-release-notes-microsoft-azure-stack-hci/index.html",
    ),
)


def _numbers(text: str) -> list[int]:
    """Returns the numbers at the start of a version, such as 6, 14, 11 for 6.14.11-5-pve."""
    match = re.match(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}", text)
    return [int(one) for one in match.group().split(".")] if match else []


def within(version: str, span: str) -> bool:
    """Returns whether a version is in a range. An unknown version is in no range."""
    low, dots, high = span.partition("..")
    found, least, most = _numbers(version), _numbers(low), _numbers(high if dots else low)
    return bool(found) and (not least or found >= least) and (not most or found[: len(most)] <= most)


def parse(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns the parsed rows of vgpu_driver_compatibility. Raises EngineError with all invalid version ranges.

    A value of None has the same effect as a missing value.
    """
    found, errors = [], []
    for number, row in enumerate(rows):
        given = {name: value for name, value in row.items() if value is not None}
        found.append(Row(**given))
        errors += [
            Refusal(
                "%s is not a version range" % shown(str(given[name])), "%s[%d]" % (VARIABLE, number), "a version range such as 535, ..535, 6.14.., or 535..570",
                "Correct and quote the value of %s, because YAML reads an unquoted 6.10 as 6.1." % name, "bad_compatibility",
            )
            for name in _SPANS if given.get(name) and not _SPAN.match(str(given[name]))
        ]
    raise_if_any(errors)
    return found


def edition(package: str, bundle: str) -> str:
    """Returns the vGPU software edition that the package and bundle names indicate, or an empty string if unknown."""
    if re.search(r"(?i)[-_]aie\b|ai[-_]enterprise", package + " " + bundle):
        return AI_ENTERPRISE
    return GRID if package.endswith("-vgpu-kvm.run") or "-GRID-" in bundle else ""


def warnings(subject: Subject, extra: Sequence[Row] = ()) -> list[str]:
    """Returns a warning for each known incompatibility of the combination. The extra rows have priority over the table."""
    rows = [*extra, *TABLE]
    good = [row for row in rows if row.works]
    found: dict[tuple[object, ...], str] = {}
    no_gpu: Sequence[Gpu | None] = [None]
    for row in rows:
        for kernel in subject.kernels if row.kernel else [""]:
            for gpu in subject.gpus if row.gpus else no_gpu:
                corrected = any(row.conditions <= one.conditions and _holds(one, subject, kernel, gpu) for one in good)
                if _holds(row, subject, kernel, gpu) and not row.works and not corrected:
                    found.setdefault((kernel, gpu, bool(row.host_driver)), _text(row, subject, kernel, gpu))
    return list(found.values())


def _holds(row: Row, subject: Subject, kernel: str, gpu: Gpu | None) -> bool:
    return all((
        not row.driver or within(subject.driver, row.driver),
        not row.kernel or within(kernel, row.kernel),
        not row.gpus or gpu is not None and any(_is_one(gpu, word) for word in row.gpus),
        row.edition in ("", subject.edition),
        not row.host_driver or within(subject.host_driver, row.host_driver),
    ))


def _is_one(gpu: Gpu, word: str) -> bool:
    return gpu.answers_to(word) or bool(gpu.model and gpu.model.architecture.lower() == word.strip().lower())


def _text(row: Row, subject: Subject, kernel: str, gpu: Gpu | None) -> str:
    on = ["kernel %s" % kernel] if kernel else []
    on += ["%s (%s)" % (gpu.address, gpu.name)] if gpu else []
    on += ["the host driver %s" % subject.host_driver] if row.host_driver else []
    sentences = [
        "the driver %s%s: %s." % (subject.driver, " with %s" % " and ".join(on) if on else "", row.note.rstrip(".")),
        row.remedy,
        "Source: %s." % row.source if row.source else "",
        "This warning is based on a compatibility table and does not stop the run. To correct the table, set %s." % VARIABLE,
    ]
    return " ".join(filter(None, sentences))
