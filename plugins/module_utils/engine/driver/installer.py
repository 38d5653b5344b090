# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's .run installer: the options of its releases, the conditions that end a silent run, and the steps before and after a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from ..base.errors import Refusal
from ..base.steps import Step
from ..hardware.gpu import Holder
from ..read.host import UNINSTALL, Driver
from ..read.inventory import Inventory
from ..system import daemons

RUNNING = "--allow-installation-with-running-driver"
SKIP_LOAD = "--skip-module-load"
REBUILD = "--rebuild-initramfs"
MODULE_TYPE = "--kernel-module-type"
NO_X_CHECK = "--no-x-check"
NO_ALTERNATE_CHECK = "--no-check-for-alternate-installs"
# The first release that supports an option. All releases support other options. A release fails with status 1 at an unknown option.
_SINCE = {RUNNING: 545, REBUILD: 545, "--no-rebuild-initramfs": 545, SKIP_LOAD: 550, MODULE_TYPE: 560}

ALTERNATE = "/usr/lib/nvidia/alternate-install-present"
X_LOCKS = tuple("/tmp/.X%d-lock" % display for display in range(8))
# The order of unloading: each module can be unloaded after those before it.
MODULES = ("nv_peer_mem", "nvidia_peermem", "nvidia_vgpu_vfio", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")


@dataclass(eq=False, repr=False)
class Machine:
    """The state that the installer finds. alternate: the package that claims to manage the driver; empty if unknown, None if there is none.

    x_server: pid and lock of a running X server. services: the running daemons.UNITS (SETUP: if it has run). modules: the loaded ones of MODULES.
    uninstaller: whether NVIDIA's uninstaller exists. command: the command that removes the driver's packages, empty without packages. removes: the
    packages that it removes; empty if removal_error has the reason for which they would stay. begun: whether an interrupted removal is continued.
    """

    alternate: str | None = None
    x_server: tuple[str, str] | None = None
    services: Sequence[str] = ()
    modules: Sequence[str] = ()
    uninstaller: bool = True
    command: Sequence[str] = ()
    removes: Sequence[str] = ()
    removal_error: str = ""
    begun: bool = False


@dataclass(eq=False, repr=False)
class Run:
    """A run of the installer. load: whether to load the module now; False: a reboot follows. extra: the user's arguments."""

    version: str
    load: bool
    extra: Sequence[str] = field(default_factory=list)

    def knows(self, option: str) -> bool:
        """Whether the release supports an option. The option's value is ignored."""
        return int(self.version.split(".")[0]) >= _SINCE.get(option.split("=")[0], 0)

    def unloads(self, driver: Driver) -> bool:
        """Whether the loaded driver must be unloaded first. Some releases can install without this if a reboot follows."""
        return bool(driver.loaded) and RUNNING not in self.extra and (self.load or not self.knows(RUNNING))


def refusals(inventory: Inventory, run: Run, machine: Machine) -> list[Refusal]:
    """The errors of conditions that would end the installer."""
    errors = []
    for word in run.extra:
        if not run.knows(word):
            found, first = "the %s installer does not support %s" % (run.version, word), "release %d or later" % _SINCE[word.split("=")[0]]
            errors.append(Refusal(found, "extra_arguments", first, "Remove this argument.", "unknown_argument"))
    goes = machine.alternate in machine.removes or machine.removal_error  # removed with the distribution's driver, or the error has the reason
    if machine.alternate is not None and not goes and NO_ALTERNATE_CHECK not in run.extra:
        errors.append(_alternate(machine.alternate))
    if machine.x_server and run.load and NO_X_CHECK not in run.extra:
        errors.append(_x_server(*machine.x_server))
    return errors + _nouveau(inventory, run)


def _alternate(package: str) -> Refusal:
    found = "%s manages the driver, and NVIDIA's .run installer stops in this case" % ("the package %s" % package if package else "another installer")
    remove = "'apt-get purge %s' or 'dnf remove %s'" % (package, package)
    if not package:
        remove = "'dpkg -S %s' or 'rpm -qf %s' names its package" % (ALTERNATE, ALTERNATE)
    remedy = "Remove or update the driver with the tool that installed it (%s)." % remove
    return Refusal(found, ALTERNATE, "no driver from another installer", remedy, "alternate_install")


def _x_server(pid: str, lock: str) -> Refusal:
    found = "an X server is running (pid %s), and NVIDIA's installer stops in this case" % pid
    remedy = "Stop the X server ('systemctl isolate multi-user.target') and run again, or install with load: false and reboot."
    return Refusal(found, lock, "no X server", remedy, "x_running")


def _nouveau(inventory: Inventory, run: Run) -> list[Refusal]:
    """The error of a GPU on nouveau: the installer can't test its module. Some releases can skip this test if a reboot follows."""
    taken = [gpu.address for gpu in inventory.gpus if gpu.driver == "nouveau"]
    if not taken or (not run.load and run.knows(SKIP_LOAD)):
        return []
    instead = " With load: false, the installer continues, and the reboot completes the change." if run.knows(SKIP_LOAD) else ""
    remedy = (
        "Prevent nouveau from loading: role gpu_release, or 'printf \"blacklist nouveau\\noptions nouveau modeset=0\\n\" "
        "> /etc/modprobe.d/nvidia-vgpu-nouveau.conf' and 'update-initramfs -u' or 'dracut --force'. Reboot, then run again.%s" % instead
    )
    found = "nouveau is bound to this GPU, and the %s installer stops in this case" % run.version
    return [Refusal(found, taken[0], "no driver, or nvidia", remedy, "gpu_on_nouveau")]


def held(inventory: Inventory, driver: Driver, run: Run) -> list[Refusal]:
    """The errors of a driver that must be unloaded but can't: programs other than its services use it, or idle vGPUs would be lost."""
    if not run.unloads(driver):
        return []
    others = inventory.open_files.without(daemons.STOPPED, inventory.open_files.natives())
    errors = [still_loaded(run, others)] if others else []
    if inventory.vgpus and run.load:
        found = "unloading the driver %s would remove the idle vGPUs (%d)" % (driver.loaded, len(inventory.vgpus))
        remedy = "Install with load: false and reboot, which restores the vGPUs. Or remove them first (module nvidia_vgpu)."
        errors.append(Refusal(found, "driver", "no vGPUs", remedy, "vgpus_exist"))
    return errors


def no_uninstaller(driver: Driver) -> Refusal:
    """The error of a driver that NVIDIA's uninstaller can't remove."""
    if driver.unfinished:
        missing = "%s does not exist: the installation was interrupted before it wrote this file" % UNINSTALL
        return Refusal(missing, remedy="Complete the installation (state: present), then uninstall the driver.", code="no_uninstaller")
    found = "%s does not exist, so the driver was not installed by NVIDIA's .run installer" % UNINSTALL
    remedy = "Remove its packages with apt or dnf, then run again."
    if driver.removal:
        remedy = "Set replace_datacenter: true to have its packages removed, or remove them manually: '%s'." % " ".join(driver.removal)
    return Refusal(found, remedy=remedy, code="no_uninstaller")


def stays(driver: Driver, machine: Machine) -> list[Refusal]:
    """The errors of an installed driver that can't be removed: the package manager refuses, or there is no uninstaller."""
    if not machine.command:
        return [] if machine.uninstaller else [no_uninstaller(driver)]
    if machine.removes:
        return []
    found, remedy = "'%s' would fail: %s" % (" ".join(machine.command), machine.removal_error), "Fix the reported error, then run again."
    return [Refusal(found, "driver", "the driver removed by its package manager", remedy, "packages_stay")]


def removal(machine: Machine, driver: str) -> Step:
    """The step that removes the driver. For packages, the step lists all removed ones."""
    what = "the rest of a driver whose removal was interrupted" if machine.begun else driver
    if not machine.command:
        return Step("uninstall", None, None, "uninstall %s" % what)
    text = "remove %s (%s): %s" % (what, " ".join(machine.command[:2]), ", ".join(machine.removes))
    return Step("purge", None, None, text, command=machine.command)


def still_loaded(run: Run, holders: Sequence[Holder], said: str = "") -> Refusal:
    """The error of modules that can't be unloaded. said: the output of rmmod."""
    by = " by %s" % ", ".join(map(str, holders)) if holders else ": %s" % (said or "its use count is not 0 ('lsmod')")
    remedy = "End these programs and run again, or install with load: false and reboot."
    if not run.knows(RUNNING):
        remedy = (
            "The %s installer can't install while a module is loaded. End these programs and run again; or boot once with modprobe.blacklist=nvidia "
            "on the kernel command line; or uninstall the driver first ('nvidia-uninstall', reboot)." % run.version
        )
    return Refusal("it is in use%s" % by, "the module nvidia", "a module that can be unloaded", remedy, "module_in_use")


def around(inventory: Inventory, driver: Driver, run: Run, machine: Machine) -> tuple[list[Step], list[Step]]:
    """The steps before the installer and after it."""
    if not run.unloads(driver):
        return [], []
    before = [Step("remove", None, one.key, "remove the idle vGPU until the reboot", parent=one.parent) for one in inventory.vgpus]
    running = [name for name in machine.services if name != daemons.SETUP]
    if running:
        before.append(Step("stop", None, None, "stop %s" % ", ".join(running), services=list(reversed(running))))
    before.append(Step("unload", None, None, "unload the modules %s" % ", ".join(machine.modules), run=run, modules=machine.modules))
    again = [name for name in machine.services if name != daemons.FABRIC]  # role fabric starts that, in the new driver's version
    after = [Step("start", None, None, "start %s again" % ", ".join(again), services=again)] if again else []
    return before, after
