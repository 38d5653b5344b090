# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A host of the test bed: the fake host of the unit tests, extended by services, packages, an installer and a boot."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from pathlib import Path

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.tests.unit.fake import boot
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import A40_24Q, ADDRESS, DIRECTORY, Guest
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40

OLD, NEW = "550.144.02", "550.163.02"
RELEASES = {
    "redhat": 'ID="rhel"\nVERSION_ID="9.6"\nPRETTY_NAME="Red Hat Enterprise Linux 9.6"\nID_LIKE="fedora"\n',
    "suse": 'ID="sles"\nVERSION_ID="15.6"\nPRETTY_NAME="SUSE Linux Enterprise Server 15 SP6"\nID_LIKE="suse"\n',
}
BY_HAND = {"refind": "rEFInd 0.14.2", "unknown": None}  # Boot loaders that require the operator to set the kernel flags.
DEBIAN = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID_LIKE=debian\n'
DRIVERS = ("nvidia-vgpud", "nvidia-vgpu-mgr")  # services of the host driver
FLAGS = ["intel_iommu=on", "iommu=pt"]
UNITS = "/etc/systemd/system/"


class Machine(Host):
    """A bare host, by default on Debian with GRUB. drained: the host is out of service. failing: the error message of its installer, or None."""

    def __init__(self, root, gpus=(("0000:e8:00.0", A40),), loader="debian"):
        super().__init__(root, gpus, driver=None)
        if loader in BY_HAND:
            boot.kernel(self, "quiet " + " ".join(FLAGS)).kernel.loader = BY_HAND[loader]
        else:
            boot.KINDS[loader](self)
        self.put("/etc/os-release", RELEASES.get(loader, DEBIAN))
        self.dracut = loader in RELEASES
        self.kernel.loaded.clear()
        self.on_disk = None
        for name in ("nvidia-vgpu-mgr", "nvidia-gridd"):
            self.folder_of("/usr/bin/" + name).unlink(missing_ok=True)
        self.put("/usr/sbin/dracut" if self.dracut else "/usr/sbin/update-initramfs", "", 0o755)
        self.programs["dracut"] = self._update_initramfs
        self.rebuilds = 0
        self.loader = loader
        self.boot_id = str(uuid.uuid4())
        self.boots = 0
        self.drained = False
        self.drains = []  # all "drain" and "undrain" calls, in order
        self.failing = None
        self.packages_there = set()
        self.enabled = set()
        self.started = set()
        self.initramfs_fails = False
        self.shutdown_fails = False

    def folder_of(self, path):
        """Return the controller's path of a file on the fake host."""
        return Path(self.root + path)

    def has_text(self, text):
        """Return whether a file of the host contains the text."""
        return any(text.encode() in path.read_bytes() for path in Path(self.root).rglob("*") if path.is_file() and not path.is_symlink())

    # --- services

    def exists(self, unit):
        """Return whether systemd has the unit."""
        if unit.split(".")[0] in DRIVERS:
            return os.path.exists(self.root + "/usr/bin/nvidia-vgpu-mgr")
        name = unit if "." in unit else unit + ".service"
        return os.path.exists(self.root + UNITS + name)

    def _systemctl(self, argv, timeout):
        if argv[0] != "show":
            for name in [one.replace(".service", "") for one in argv[1:] if not one.startswith("-")]:
                self.set_service(name, argv[0])
            return Result(0, "")
        blocks = []
        for name in [one[: -len(".service")] for one in argv if one.endswith(".service")]:
            there = self.exists(name)
            shown = (name, "loaded" if there else "not-found", "active" if name in self.started and name != "nvidia-vgpud" else "inactive")
            state = "enabled" if name in self.enabled else "disabled" if there else ""
            blocks.append(
                "Id=%s.service\nLoadState=%s\nActiveState=%s\nResult=success\n" % shown
                + "UnitFileState=%s\nInactiveExitTimestampMonotonic=%d" % (state, 7 if name in self.started else 0)
            )
        return Result(0, "\n\n".join(blocks) + "\n")

    def set_service(self, name, word):
        """Start, restart, stop, enable or disable a service. Return whether the state changed; a restart always counts as a change."""
        which = self.started if word in ("start", "restart", "stop") else self.enabled
        there = name in which
        if word in ("start", "restart", "enable"):
            which.add(name)
            return not there or word == "restart"
        which.discard(name)
        return there

    # --- driver

    def _modinfo(self, argv, timeout):
        return super()._modinfo(argv[2:] if argv[0] == "-k" else argv, timeout)  # The fake host has the same modules for all kernels.

    def _installer(self, argv, timeout):
        if self.failing:
            self.put("/usr/bin/nvidia-half", "half")
            return Result(1, "ERROR: %s\n" % self.failing)
        done = super()._installer(argv, timeout)
        if any(word.startswith("--module-signing-secret-key=") for word in argv):
            self.signed_by = ("0A", "the operator's key")
        self.put("/usr/bin/nvidia-uninstall", "", 0o755)
        return done

    def uninstall(self):
        """Remove the driver as the removal of its package does."""
        self._uninstall([], 0)

    def _uninstall(self, argv, timeout):
        for name in ("nvidia-uninstall", "nvidia-half"):
            if os.path.exists("%s/usr/bin/%s" % (self.root, name)):
                os.unlink("%s/usr/bin/%s" % (self.root, name))
        self.started.difference_update(DRIVERS)
        self.enabled.difference_update(DRIVERS)
        return super()._uninstall(argv, timeout)

    # --- boot

    def update_initramfs(self):
        """Rebuild the initramfs and return the exit status."""
        if self.initramfs_fails:
            return 1
        self.rebuilds += 1
        for release in os.listdir(self.root + "/lib/modules"):
            self.put("/boot/initramfs-%s.img" % release if self.dracut else "/boot/initrd.img-" + release, "")
        return 0

    def _update_initramfs(self, argv, timeout):
        """Simulate the initramfs command that a module starts."""
        status = self.update_initramfs()
        return Result(status, "no space left on device" if status else "")

    def _next_cmdline(self):
        """Return the boot loader's kernel command line for the next boot. If no file contains a command line, return the current one."""
        esp = "/esp/" + boot.UUID  # The path of a Proxmox EFI system partition on the fake host.
        for path in (esp + "/grub/grub.cfg", "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"):
            found = re.search(r"^\tlinux\t(.*)$", self.get(path) or "", re.MULTILINE)
            if found:
                return "BOOT_IMAGE=" + found.group(1)
        for directory in (esp + "/loader/entries", "/boot/loader/entries", "/boot/efi/loader/entries"):
            for entry in sorted(self.folder_of(directory).glob("*.conf"), reverse=True):
                found = re.search(r"^options (.*)$", entry.read_text(), re.MULTILINE)
                return ("BOOT_IMAGE=/vmlinuz " if self.loader == "redhat" else "") + found.group(1)
        return self.kernel.cmdline

    def reboot(self):
        """Reboot the host: files below /run vanish, enabled services start, and the restore runs."""
        self.boots += 1
        shutil.rmtree(self.folder_of("/run"), ignore_errors=True)
        self.boot_id = str(uuid.uuid4())
        self.kernel.cmdline = self._next_cmdline()
        options = "".join(path.read_text() for path in self.folder_of("/etc/modprobe.d").glob("*.conf"))
        self.kernel.registry = "".join(re.findall(r'NVreg_RegistryDwords="(.*)"', options))
        self.started = set()
        self.kernel.processes.clear()
        for one in list(self.kernel.mdevs.values()):
            self.kernel.remove(one)
        self.kernel.loaded.clear()
        if self.on_disk is None:
            for pf in self.kernel.pfs():
                pf.set_vfs(0)
                self.kernel.unregister(pf)
                pf.driver, pf.override = None, None
            return
        super().reboot()
        self.started = {name for name in self.enabled if self.exists(name)}
        if "vgpu-restore" in self.started:
            restore.restore(self.ctx, 60, 1, lambda line: None)

    # --- current state

    def state(self):
        """Return everything that a run can change, for comparisons."""
        return {
            "driver": (self.on_disk, self.kernel.loaded.get("nvidia")), "vgpus": [list(one) for one in self.vgpus()], "cmdline": self.kernel.cmdline,
            "gpus": [(pf.address, pf.driver, len(pf.vfs), pf.override) for pf in self.kernel.pfs()], "boots": self.boots,
            "services": (sorted(self.started), sorted(self.enabled)), "drained": self.drained, "packages": sorted(self.packages_there), "files": self.files(),
        }

    def files(self):
        """Return the files of the host as {path: (mode, checksum)}."""
        found = {}
        for folder, dummy, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    with open(path, "rb") as handle:
                        found[path[len(self.root) :]] = (oct(os.stat(path).st_mode & 0o777), hashlib.sha256(handle.read()).hexdigest()[:12])
        return found


class Vm(Machine, Guest):
    """A VM with a vGPU and without a driver. It has a license if the driver's daemon runs and a token file exists."""

    def __init__(self, root):
        super().__init__(root, gpus=((ADDRESS, A40_24Q),))

    def exists(self, unit):
        """Return whether systemd has the unit."""
        return os.path.exists(self.root + "/usr/bin/nvidia-gridd") if unit.split(".")[0] == "nvidia-gridd" else super().exists(unit)

    def command(self, argv, timeout, env=None, keeps_lock=False):
        """Replace system.command.run."""
        runs = "nvidia-gridd" in self.started
        self.daemon.update(ActiveState="active" if runs else "inactive", SubState="running" if runs else "dead")
        if os.path.basename(argv[0]) == "nvidia-smi" and self.on_disk:
            self.kernel.load(self.on_disk)  # nvidia-smi loads the driver through nvidia-modprobe.
            self.pf().driver = "nvidia"
        licensed = runs and list(self.folder_of(DIRECTORY).glob("*.tok"))
        self.status = ["Licensed (Expiry: 2027-11-25 7:29:4 GMT)" if licensed else "Unlicensed (Unrestricted)"]
        return super().command(argv, timeout, env, keeps_lock)
