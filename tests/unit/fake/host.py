# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A fake host: the fake kernel, regular files in a directory, the programs that the engine runs, and virtual time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from unittest import mock

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import error
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result, run
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import SysfsError

from . import nvidia_smi
from .clock import Clock
from .kernel import Kernel
from .models import A40
from .tree import TreeSysfs

MACHINE_ID = "4c0f0e6f8a5d4a0f9f1f0d8f7c1b2a39"
PCI = "/sys/bus/pci/devices/"
DRIVERS = "/sys/bus/pci/drivers/"


class Died(BaseException):
    """Raised to simulate that the process is killed at this point."""


class Host:
    """A fake host with GPUs.

    root: an empty directory. gpus: (address, model) of each GPU. The GPUs are bound to nvidia.

    Each change to the host (a write to a kernel file, a replaced regular file, or a definition that mdevctl writes) has a number.
    Change number *fail_at* fails with EIO. Change number *die_at* kills the process instead.
    """

    def __init__(self, root, gpus=(("0000:e8:00.0", A40),), driver="nvidia", mdevctl=False, vendor_vfio=False):
        self.root = str(root)
        self.clock = Clock()
        self.kernel = Kernel(self.clock)
        self.kernel.vendor_vfio = vendor_vfio
        if vendor_vfio:
            self.kernel.release = "6.8.0-51-generic"
        self.faults = self.kernel.faults
        self.sysfs = TreeSysfs(self.kernel.top, self._count, self.clock)
        self.writes = []
        self.calls = []
        self.fail_at = None
        self.die_at = None
        self.on_disk = "550.163.02"
        self.module = "nvidia"  # file name of the module, which is nvidia-current in Debian's packages
        self.packages = []  # packages of the distribution's data center driver
        self.dependents = []  # packages that depend on those in self.packages and are removed with them
        self.signed_by = ("", "")  # serial number and name of the key that signed the nvidia module
        self.sync_rc = 0
        self.units = {}  # ActiveState of services by name; a service without an entry does not exist
        self.owners = {}  # packages by path, for the output of dpkg
        self.programs = {}  # fake programs of a test by name; each is called with (arguments, timeout)
        self.journal = []  # (unit or "kernel", message) or (unit, message, pid), oldest first
        self.load = {}  # values that nvidia-smi shows, such as the load in percent: by address for GPUs, by UUID or VF for vGPUs in use
        self.python_rc = 0  # exit status of the system's Python when it runs the engine
        for address, model in gpus:
            self.kernel.add_gpu(address, model, driver)
        self.put("/etc/machine-id", MACHINE_ID + "\n")
        self.put("/etc/default/grub", 'GRUB_CMDLINE_LINUX=""\n')
        self.put("/usr/bin/nvidia-vgpu-mgr", "")
        self.put("/usr/sbin/update-initramfs", "")
        self.put("/usr/lib/nvidia/sriov-manage", "", 0o755)
        self.put("/etc/modprobe.d/nouveau.conf", "blacklist nouveau\n")
        self.put("/usr/bin/nvidia-smi", "", 0o755)
        if mdevctl:
            self.put("/usr/sbin/mdevctl", "", 0o755)
        self.ctx = Context(self.root, self.sysfs, self.command, self.clock)
        self.ctx.side_by_side = False  # the fake kernel has no locks, so the engine must not use threads; one test enables them

    # --- regular files

    def put(self, path, content, mode=0o644):
        """Write a file below the root of the fake host."""
        os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
        with open(self.root + path, "w", encoding="utf-8") as handle:
            handle.write(content)
        os.chmod(self.root + path, mode)

    def get(self, path):
        """Return the text of a file, or None if the file does not exist."""
        return files.read_text(self.root, path)

    # --- shortcuts

    def pf(self, address=None):
        """Return a GPU of the fake kernel. Without an address, return the first GPU."""
        return self.kernel.devices[address] if address else self.kernel.pfs()[0]

    def vfs_on(self):
        """Enable the VFs of all GPUs that have VFs, as a successful sriov-manage does."""
        for pf in self.kernel.pfs():
            if pf.model.vfs and pf.model.vf_device:
                pf.set_vfs(pf.model.vfs)
        return self

    def add(self, parent, short, uuid):
        """Create a vGPU as another user of the host. The UUID is used only for mediated devices."""
        device = self.kernel.devices[parent]
        found = [one for one in device.gpu.model.types if one.short == short]
        if device.vendor:
            self.kernel.set_type(device, found[0].id)
            return
        self.kernel.create(device, found[0], uuid)

    def vgpus(self):
        """Return (uuid, parent, type) of each vGPU, sorted."""
        return sorted(one.facts() for one in list(self.kernel.mdevs.values()))

    def reboot(self):
        """Reboot the host. VFs, vGPUs, and processes disappear, but the files stay."""
        self.kernel.processes.clear()
        for ids in self.kernel.driver_ids.values():
            ids.clear()
        for pf in self.kernel.pfs():
            pf.mig = pf.mig_pending = pf.mig_pending and pf.model.mig_needs_reset
            pf.set_vfs(0)
            self.kernel.unregister(pf)
            pf.driver, pf.override = None, None
        self.kernel.load(self.on_disk)

    # --- injected failures

    def _count(self, path, value):
        self.writes.append((path, value))
        if len(self.writes) == self.die_at:
            raise Died()
        if len(self.writes) == self.fail_at:
            raise OSError(errno.EIO, path)

    @contextlib.contextmanager
    def counting_files(self):
        """Count the engine's writes to regular files as changes, so that they can fail or kill the process. Skip fsync."""

        def counted(real):
            def write(root, path, *args, **options):
                try:
                    self._count(path, "file")
                except OSError as exc:
                    raise error("the file cannot be written: %s" % exc.strerror, device=path) from exc
                return real(root, path, *args, **options)

            return write

        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(files, "write_atomic", counted(files.write_atomic)))
            stack.enter_context(mock.patch.object(files, "remove", counted(files.remove)))
            stack.enter_context(mock.patch.object(os, "fsync", lambda number: None))
            yield

    # --- fake programs

    def command(self, argv, timeout, env=None, keeps_lock=False):
        """Run a fake program of the host. This method replaces system.command.run."""
        self.calls.append(list(argv))
        name = os.path.basename(argv[0])
        if name in self.programs:
            return self.programs[name](list(argv[1:]), timeout)
        return {
            "env": lambda argv, timeout: run(["/usr/bin/env", *argv], timeout),  # the real env, which runs the real sh
            "modinfo": self._modinfo,
            "modprobe": self._modprobe,
            "sync": lambda argv, timeout: Result(self.sync_rc, "sync: error syncing: Input/output error\n" if self.sync_rc else ""),
            "systemctl": self._systemctl,
            "journalctl": self._journalctl,
            "rmmod": self._rmmod,
            "update-initramfs": self._update_initramfs,
            "dpkg-query": self._dpkg_query,
            "apt-get": self._apt_get,
            "rpm": lambda argv, timeout: Result(127, "rpm: No such file or directory\n"),
            "sriov-manage": self._sriov_manage,
            "mdevctl": self._mdevctl,
            "nvidia-smi": nvidia_smi.Program(self).run,
            "sh": self._installer,
            "python3": lambda argv, timeout: Result(self.python_rc, ""),
            "virsh": lambda argv, timeout: Result(127, "virsh: No such file or directory\n"),
            "nvidia-uninstall": self._uninstall,
        }[name](list(argv[1:]), timeout)

    def _modinfo(self, argv, timeout):
        if self.on_disk is None or argv[-1] != self.module:
            return Result(1, "modinfo: ERROR: Module %s not found.\n" % argv[-1])
        fields = {"version": self.on_disk, "sig_key": self.signed_by[0], "signer": self.signed_by[1]}
        return Result(0, fields[argv[1]] + "\n")

    def _update_initramfs(self, argv, timeout):
        """Update the timestamps of the images in /boot."""
        boot = self.root + "/boot"
        for name in os.listdir(boot) if os.path.isdir(boot) else ():
            os.utime("%s/%s" % (boot, name))
        return Result(0, "")

    def _dpkg_query(self, argv, timeout):
        """Print the package that owns a path, or list the packages, including those that were removed but not purged."""
        if argv[0] == "--search":
            owner = self.owners.get(argv[-1])
            return Result(0, "%s: %s\n" % (owner, argv[-1])) if owner else Result(1, "dpkg-query: no path found matching pattern\n")
        listed = ["ii  %s %s-1\n" % (name, self.on_disk) for name in self.packages] + ["rc  nvidia-driver-bin 470.1-1\n"]
        return Result(1, "".join(listed) + "dpkg-query: no packages found matching libnvcuvid*\n")

    def _apt_get(self, argv, timeout):
        """Purge packages, or simulate it."""
        gone = [name for name in self.packages if name in argv] + self.dependents
        if argv[0] != "--simulate":
            self.packages, self.dependents = [name for name in self.packages if name not in argv], []
            self.on_disk, self.module = None, "nvidia"
            for path in ("/etc/modprobe.d/nvidia.conf", "/usr/lib/nvidia/alternate-install-present"):
                files.remove(self.root, path)
        return Result(0, "".join("Purg %s [%s-1]\n" % (name, self.on_disk) for name in gone))

    def _systemctl(self, argv, timeout):
        if argv[0] in ("start", "stop"):
            self.units.update({name: "active" if argv[0] == "start" else "inactive" for name in argv[1:]})
            return Result(0, "")
        blocks = []
        for name in [one[: -len(".service")] for one in argv if one.endswith(".service")]:
            load, active = ("loaded", self.units[name]) if name in self.units else ("not-found", "inactive")
            blocks.append("Id=%s.service\nLoadState=%s\nActiveState=%s\nResult=success\nUnitFileState=" % (name, load, active))
        return Result(0, "\n\n".join(blocks) + "\n")

    def _journalctl(self, argv, timeout):
        """Print the journal of the requested units and transports, as journalctl --output=json does."""
        wanted = {word.partition("=")[2].replace(".service", "") for word in argv if word.startswith("_")}
        lines = []
        for number, (name, message, *pid) in enumerate(one if isinstance(one, tuple) else ("nvidia-gridd", one) for one in self.journal):
            if name in wanted:
                where = {"_TRANSPORT": "kernel"} if name == "kernel" else {"_TRANSPORT": "journal", "_SYSTEMD_UNIT": name + ".service"}
                moment = str(int((self.clock.wall() - 600 + number) * 1e6))
                lines.append(json.dumps({"__REALTIME_TIMESTAMP": moment, "MESSAGE": message, "_PID": str((pid or [7])[0]), **where}))
        return Result(0, "".join(line + "\n" for line in lines))

    def _rmmod(self, argv, timeout):
        """Unload the nvidia module together with its VFs and vGPUs. Fail if a process or a service uses the module."""
        if "active" in self.units.values() or any(path.startswith("/dev/nvidia") for one in self.kernel.processes.values() for path in one.paths):
            return Result(1, "rmmod: ERROR: Module nvidia is in use\n")
        for pf in self.kernel.pfs():
            pf.set_vfs(0)
            self.kernel.unregister(pf)
            pf.driver = None
        self.kernel.loaded.pop("nvidia")
        return Result(0, "")

    def _modprobe(self, argv, timeout):
        if self.on_disk is None:
            return Result(1, "modprobe: FATAL: Module nvidia not found in directory /lib/modules/6.1.0-50-amd64\n")
        self.kernel.load(self.on_disk)
        return Result(0, "")

    def _installer(self, argv, timeout):
        self.on_disk = argv[0].rsplit("x86_64-", 1)[1].split("-")[0]
        self.put("/usr/bin/nvidia-gridd" if "-grid" in argv[0] else "/usr/bin/nvidia-vgpu-mgr", "")
        return Result(0, "")

    def _uninstall(self, argv, timeout):
        self.on_disk = None
        for name in ("nvidia-vgpu-mgr", "nvidia-gridd"):
            if os.path.exists(self.root + "/usr/bin/" + name):
                os.unlink(self.root + "/usr/bin/" + name)
        return Result(0, "")

    def _mdevctl(self, argv, timeout):
        """Print the definitions like 'mdevctl list --defined --dumpjson'. Fail if a file contains valid JSON that is not a definition."""
        listed = {}
        directory = self.root + "/etc/mdevctl.d"
        for parent in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            for uuid in sorted(os.listdir("%s/%s" % (directory, parent))) if ":" in parent else ():
                try:
                    content = json.loads(self.get("/etc/mdevctl.d/%s/%s" % (parent, uuid)))
                except ValueError:
                    continue
                if not isinstance(content, dict):
                    return Result(1, "Error: invalid json\n")
                listed.setdefault(parent, []).append({uuid: content})
        return Result(0, json.dumps([{parent: listed[parent]} for parent in listed]))

    def _sriov_manage(self, argv, timeout):
        """Work like NVIDIA's script: get unbindLock, bind the PF to pci-pf-stub, write sriov_numvfs, and bind the PF back. A failure reverts nothing."""
        faults, address = self.faults, argv[1]
        pf = self.kernel.devices[address]
        if faults.no_vfs:
            faults.no_vfs -= 1
            return Result(0, "Enabling VFs on %s\n" % address)
        if argv[0] == "-e" and pf.vfs:
            return Result(0, "%s already has VFs enabled.\n" % address)
        output = "%s VFs on %s\n" % ("Enabling" if argv[0] == "-e" else "Disabling", address)
        if not self._unbind_lock(pf):
            return Result(1, output + "Cannot obtain unbindLock for %s\n" % address)
        self.clock.pause(faults.manage_seconds)
        strand = faults.stranded.pop(0) if faults.stranded else None
        try:
            self.sysfs.write(DRIVERS + "nvidia/unbind", address)
            if strand == "driverless":
                return Result(1, output + "awk: cannot open pci-pf-stub/new_id (File exists)\n")
            number = "10de %s" % pf.device[2:]
            self.sysfs.write(DRIVERS + "pci-pf-stub/new_id", number)
            self.sysfs.write(DRIVERS + "pci-pf-stub/remove_id", number)
            if strand == "stub":
                return Result(1, output + "awk: cannot close (No such device)\n")
            try:
                self.sysfs.write(PCI + address + "/sriov_numvfs", str(pf.model.vfs if argv[0] == "-e" else 0))
                rc = 0
            except SysfsError as exc:
                output, rc = output + "%s\n" % exc, 1
            self.sysfs.write(DRIVERS + "pci-pf-stub/unbind", address)
            self.sysfs.write(DRIVERS + "nvidia/bind", address)
        except SysfsError as exc:
            return Result(1, output + "%s\n" % exc)
        return Result(rc, output)

    def _unbind_lock(self, pf):
        if pf.driver != "nvidia":
            return False
        if self.clock.now() < self.faults.locked.get(pf.address, 0):
            return False
        if self.faults.lock_taken is not None and self.clock.now() < self.faults.lock_taken:
            return False
        if self.faults.lock_busy:
            self.faults.lock_busy -= 1
            return False
        return not self.kernel.having("/dev/nvidia%d" % pf.number)
