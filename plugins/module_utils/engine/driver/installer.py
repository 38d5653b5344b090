# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's .run installer: which release knows which option, what ends a silent run of it, and the steps around it. Pure."""

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
# The first release that knows an option; all know the others. A release ends with status 1 at an option that it does not know.
_SINCE = {RUNNING: 545, REBUILD: 545, "--no-rebuild-initramfs": 545, SKIP_LOAD: 550, MODULE_TYPE: 560}

ALTERNATE = "/usr/lib/nvidia/alternate-install-present"
X_LOCKS = tuple("/tmp/.X%d-lock" % display for display in range(8))
# Each can be unloaded once those before it are.
MODULES = ("nv_peer_mem", "nvidia_peermem", "nvidia_vgpu_vfio", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")


@dataclass(eq=False, repr=False)
class Machine:
    """What the installer meets. alternate: the package that says that the driver is its own; empty if unknown, None if none says so.

    x_server: the pid of a running one and its lock. services: those of daemons.UNITS that run (SETUP: that ran). modules: those of MODULES that are loaded.
    uninstaller: whether NVIDIA's is there. command: what removes the driver's packages; empty if it is of none. removes: the packages that go then;
    empty if removal_error says why they would stay. begun: whether command is the rest of a removal that was interrupted.
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
    """A run of the installer. load: whether the module is loaded now; False: a reboot follows. extra: arguments of the user's."""

    version: str
    load: bool
    extra: Sequence[str] = field(default_factory=list)

    def knows(self, option: str) -> bool:
        """Whether the release knows an option; its value does not count."""
        return int(self.version.split(".")[0]) >= _SINCE.get(option.split("=")[0], 0)

    def unloads(self, driver: Driver) -> bool:
        """Whether the loaded driver must be unloaded first. Where a reboot follows, releases that can go on beside it."""
        return bool(driver.loaded) and RUNNING not in self.extra and (self.load or not self.knows(RUNNING))


def refusals(inventory: Inventory, run: Run, machine: Machine) -> list[Refusal]:
    """What would end the installer."""
    errors = []
    for word in run.extra:
        if not run.knows(word):
            found, first = "the %s installer does not support %s" % (run.version, word), "release %d or later" % _SINCE[word.split("=")[0]]
            errors.append(Refusal(found, "extra_arguments", first, "Remove this argument.", "unknown_argument"))
    goes = machine.alternate in machine.removes or machine.removal_error  # with the distribution's driver, or that error has the reason
    if machine.alternate is not None and not goes and NO_ALTERNATE_CHECK not in run.extra:
        errors.append(_alternate(machine.alternate))
    if machine.x_server and run.load and NO_X_CHECK not in run.extra:
        errors.append(_x_server(*machine.x_server))
    return errors + _nouveau(inventory, run)


def _alternate(package: str) -> Refusal:
    found = "%s manages the driver, so NVIDIA's .run installer stops" % ("the package %s" % package if package else "another installer")
    remove = "'apt-get purge %s' or 'dnf remove %s'" % (package, package)
    if not package:
        remove = "'dpkg -S %s' or 'rpm -qf %s' names its package" % (ALTERNATE, ALTERNATE)
    remedy = "Remove the driver the way it was installed (%s), or update it that way." % remove
    return Refusal(found, ALTERNATE, "no driver from another installer", remedy, "alternate_install")


def _x_server(pid: str, lock: str) -> Refusal:
    found = "an X server is running (pid %s), and NVIDIA's installer stops if it finds one" % pid
    remedy = "Stop it ('systemctl isolate multi-user.target') and run again, or install with load: false and reboot."
    return Refusal(found, lock, "no X server", remedy, "x_running")


def _nouveau(inventory: Inventory, run: Run) -> list[Refusal]:
    """nouveau drives a GPU: the module can't be tried, which only some releases can leave out, where a reboot follows."""
    taken = [gpu.address for gpu in inventory.gpus if gpu.driver == "nouveau"]
    if not taken or (not run.load and run.knows(SKIP_LOAD)):
        return []
    instead = " With load: false, the installer continues, and the reboot completes the change." if run.knows(SKIP_LOAD) else ""
    remedy = (
        "Prevent nouveau from loading: role gpu_release, or 'printf \"blacklist nouveau\\noptions nouveau modeset=0\\n\" "
        "> /etc/modprobe.d/nvidia-vgpu-nouveau.conf' and 'update-initramfs -u' or 'dracut --force'. Reboot, then run again.%s" % instead
    )
    found = "nouveau drives this GPU, and the %s installer stops if it does" % run.version
    return [Refusal(found, taken[0], "no driver, or nvidia", remedy, "gpu_on_nouveau")]


def held(inventory: Inventory, driver: Driver, run: Run) -> list[Refusal]:
    """Why the loaded driver can't be unloaded, where it must be: programs other than its services, and vGPUs that no reboot restores."""
    if not run.unloads(driver):
        return []
    others = inventory.open_files.without(daemons.STOPPED, inventory.open_files.natives())
    errors = [still_loaded(run, others)] if others else []
    if inventory.vgpus and run.load:
        found = "unloading the driver %s would remove the idle vGPUs (%d)" % (driver.loaded, len(inventory.vgpus))
        remedy = "Install with load: false and reboot, which restores them. Or remove them first (module nvidia_vgpu)."
        errors.append(Refusal(found, "driver", "no vGPUs", remedy, "vgpus_exist"))
    return errors


def no_uninstaller(driver: Driver) -> Refusal:
    """The error of a driver that NVIDIA's uninstaller can't remove."""
    if driver.unfinished:
        missing = "there is no %s: the installation was interrupted before it wrote that" % UNINSTALL
        return Refusal(missing, remedy="Complete the installation (state: present), then uninstall the driver.", code="no_uninstaller")
    found = "there is no %s, so the driver was not installed by NVIDIA's .run" % UNINSTALL
    remedy = "Remove its packages with apt or dnf, then run again."
    if driver.removal:
        remedy = "Set replace_datacenter: true to have its packages removed. By hand: '%s'." % " ".join(driver.removal)
    return Refusal(found, remedy=remedy, code="no_uninstaller")


def stays(driver: Driver, machine: Machine) -> list[Refusal]:
    """Why the driver that is there can't be removed: the package manager would not, or there is no uninstaller."""
    if not machine.command:
        return [] if machine.uninstaller else [no_uninstaller(driver)]
    if machine.removes:
        return []
    found, remedy = "'%s' would fail: %s" % (" ".join(machine.command), machine.removal_error), "Correct what it reports, then run again."
    return [Refusal(found, "driver", "the driver removed by its package manager", remedy, "packages_stay")]


def removal(machine: Machine, driver: str) -> Step:
    """The step that removes the driver: one of packages, with all packages that go."""
    what = "the rest of a driver whose removal was interrupted" if machine.begun else driver
    if not machine.command:
        return Step("uninstall", None, None, "uninstall %s" % what)
    text = "remove %s (%s): %s" % (what, " ".join(machine.command[:2]), ", ".join(machine.removes))
    return Step("purge", None, None, text, command=machine.command)


def still_loaded(run: Run, holders: Sequence[Holder], said: str = "") -> Refusal:
    """The error of modules that can't be unloaded. said: by rmmod."""
    by = " by %s" % ", ".join(map(str, holders)) if holders else ": %s" % (said or "its use count is not 0 ('lsmod')")
    remedy = "End these programs and run again, or install with load: false and reboot."
    if not run.knows(RUNNING):
        remedy = (
            "The %s installer can't install while a module is loaded. End these programs and run again; or boot once with modprobe.blacklist=nvidia "
            "on the kernel's command line; or uninstall the driver first ('nvidia-uninstall', reboot)." % run.version
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
