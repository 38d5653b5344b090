# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Names and files of the two drivers in a bundle: the host driver and the guest driver."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from twinlib import models as gpu_models  # noqa: E402  (the directory is not a package)

# Files that are generated from the twin's GPU models.
_MADE = {"share/vgpuConfig.xml": gpu_models.vgpu_config, "share/guest-types": gpu_models.guest_types}


@dataclass(frozen=True)
class Edition:
    """One driver. files: mode, source below the driver's directory, and path on the machine. units: units that the installation enables. starts: whether
    it also starts them.
    """

    kind: str
    version: str
    flavour: str
    package: str
    title: str
    depends: str
    files: tuple[tuple[str, str, str], ...]
    units: tuple[str, ...]
    starts: bool

    @property
    def run(self) -> str:
        """Return the name of the .run without the suffix."""
        return f"NVIDIA-Linux-x86_64-{self.version}-{self.flavour}"

    def text(self, name: str) -> str:
        """Return the text of one of the driver's files."""
        if name in _MADE:
            return _MADE[name]()
        text = (HERE / self.kind / name).read_text(encoding="utf-8").replace("@VERSION@", self.version)
        # Python programs get their interpreter line here, because ansible-test allows such a line in the sources only for modules.
        return text if text.startswith("#!") or not name.startswith("tools/") else f"#!/usr/bin/python3\n{text}"


HOST = Edition(
    kind="host", version="550.163.02", flavour="vgpu-kvm", package="nvidia-vgpu-ubuntu-550", title="vGPU host driver for Linux KVM",
    depends="kmod, pciutils, python3", units=("nvidia-vgpud", "nvidia-vgpu-mgr"), starts=False,
    files=(
        ("0755", "tools/nvidia-smi", "/usr/bin/nvidia-smi"),
        ("0755", "tools/nvidia-vgpud", "/usr/bin/nvidia-vgpud"),
        ("0755", "tools/nvidia-vgpu-mgr", "/usr/bin/nvidia-vgpu-mgr"),
        ("0755", "tools/sriov-manage", "/usr/lib/nvidia/sriov-manage"),
        ("0644", "share/vgpuConfig.xml", "/usr/share/nvidia/vgpu/vgpuConfig.xml"),
        ("0644", "units/nvidia-vgpud.service", "/usr/lib/systemd/system/nvidia-vgpud.service"),
        ("0644", "units/nvidia-vgpu-mgr.service", "/usr/lib/systemd/system/nvidia-vgpu-mgr.service"),
    ),
)
GUEST = Edition(
    kind="guest", version="550.163.01", flavour="grid", package="nvidia-linux-grid-550", title="vGPU guest driver for Linux",
    depends="kmod, python3", units=("nvidia-gridd",), starts=True,
    files=(
        ("0755", "tools/nvidia-smi", "/usr/bin/nvidia-smi"),
        ("0755", "tools/nvidia-gridd", "/usr/bin/nvidia-gridd"),
        ("0755", "tools/twin-cuinit", "/usr/bin/twin-cuinit"),
        ("0644", "share/guest-types", "/usr/share/nvidia/guest-types"),
        ("0644", "gridd.conf.template", "/etc/nvidia/gridd.conf.template"),
        ("0644", "units/nvidia-gridd.service", "/usr/lib/systemd/system/nvidia-gridd.service"),
    ),
)
