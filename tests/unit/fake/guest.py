# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A fake VM with a vGPU: one NVIDIA function without VFs, the guest driver, the output of nvidia-smi -q, and the license daemon with its journal."""

from __future__ import annotations

import base64
import json
import os

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

from .host import Host
from .models import A40, FakeModel

# In its VM, a vGPU has the device ID of the GPU, the subsystem ID of its type, and no SR-IOV.
A40_24Q = FakeModel("0x2235", "NVIDIA A40-24Q", 24, 0, [], subsystem="0x14df")
ADDRESS = "0000:02:00.0"
DIRECTORY = "/etc/nvidia/ClientConfigToken"

ANSWER = """
==============NVSMI LOG==============

Timestamp                                 : Wed Nov 25 07:29:04 2026
Driver Version                            : 550.163.01
CUDA Version                              : 12.4

Attached GPUs                             : 1
GPU 00000000:02:00.0
    Product Name                          : %(name)s
    Product Brand                         : NVIDIA RTX Virtual Workstation
    Display Mode                          : Enabled
    MIG Mode
        Current                           : Disabled
        Pending                           : Disabled
    GPU UUID                              : GPU-4c1d6f0e-7a54-11ef-9b0d-0c7d2f6f3a11
    GPU Virtualization Mode
        Virtualization Mode               : VGPU
        Host VGPU Mode                    : N/A
    vGPU Software Licensed Product
        Product Name                      : %(product)s
        License Status                    : %(status)s
    FB Memory Usage
        Total                             : %(mib)d MiB
        Reserved                          : 380 MiB
        Used                              : 0 MiB
    BAR1 Memory Usage
        Total                             : 256 MiB
"""


def token(expires=2082758400, begins=1732492800, **more):
    """Return a test token of three parts, with readable claims and an invalid signature. Times are in seconds since 1970."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = dict({"iss": "NLS Service Instance", "iat": begins, "nbf": begins, "exp": expires, "fulfillment_class_ref_list": []}, **more)
    return "%s.%s.%s" % (part({"alg": "RS256", "typ": "JWT"}), part(claims), "c2lnbmF0dXJlLW9mLW5vYm9keQ")


class Guest(Host):
    """A fake VM. *status* lists the license states that nvidia-smi prints. Each query uses the next state, and the last state stays."""

    def __init__(self, root, gpus=((ADDRESS, A40_24Q),), driver="nvidia"):
        super().__init__(root, gpus=gpus, driver=driver)
        self.on_disk = "550.163.01"
        self.kernel.load(self.on_disk)
        self.put("/usr/bin/nvidia-gridd", "", 0o755)
        os.unlink(self.root + "/usr/bin/nvidia-vgpu-mgr")
        self.name = "NVIDIA A40-24Q"
        self.product = "NVIDIA RTX Virtual Workstation"
        self.status = ["Unlicensed (Unrestricted)"]
        self.mib = 24576
        self.virtualization = "VGPU"
        self.synchronized = "yes"
        self.daemon = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success"}
        self.journal = ["Started nvidia-gridd.service - NVIDIA Grid Daemon.", "Started (912)"]
        self.smi_rc = 0

    def command(self, argv, timeout, env=None, keeps_lock=False):
        """Run a fake program of the VM. This method replaces system.command.run."""
        name = os.path.basename(argv[0])
        if name == "nvidia-smi" and argv[1:] == ["-q"]:
            self.calls.append(list(argv))
            return self._answer()
        if name == "journalctl":
            if "--output=json" in argv:
                return super().command(argv, timeout, env, keeps_lock)
            self.calls.append(list(argv))
            return Result(0, "\n".join(self.journal) + "\n")
        if name == "timedatectl":
            self.calls.append(list(argv))
            return Result(0, self.synchronized + "\n")
        if name == "systemctl" and argv[-1] == "nvidia-gridd.service":
            self.calls.append(list(argv))
            return Result(0, "".join("%s=%s\n" % one for one in self.daemon.items()))
        return super().command(argv, timeout, env, keeps_lock)

    def _answer(self):
        if "nvidia" not in self.kernel.loaded or self.smi_rc:
            return Result(9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
        status = self.status.pop(0) if len(self.status) > 1 else self.status[0]
        text = ANSWER % {"name": self.name, "product": self.product, "status": status, "mib": self.mib}
        return Result(0, text.replace(": VGPU\n", ": %s\n" % self.virtualization))

    def without_driver(self):
        """Reset the VM to its state before the driver was first installed."""
        self.on_disk = None
        self.kernel.loaded.clear()
        os.unlink(self.root + "/usr/bin/nvidia-gridd")
        for pf in self.kernel.pfs():
            pf.driver = None
        return self


def host_gpu(root):
    """Return a bare-metal machine with a physical GPU and the guest driver."""
    return Guest(root, gpus=((ADDRESS, A40),))
