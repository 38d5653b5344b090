# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defines rules for NVIDIA's .run installer: supported options, conditions that stop a silent run, and steps before and after a run."""

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
# The first driver branch whose installer supports each option. Installers of all branches support unlisted options.
# NVIDIA's installer exits with status 1 if an option is not supported.
_SINCE = {RUNNING: 545, REBUILD: 545, "--no-rebuild-initramfs": 545, SKIP_LOAD: 550, MODULE_TYPE: 560}

ALTERNATE = "/usr/lib/nvidia/alternate-install-present"
X_LOCKS = tuple("/tmp/.X%d-lock" % display for display in range(8))
# The kernel modules of NVIDIA's driver, in the order in which they must be unloaded.
MODULES = ("nv_peer_mem", "nvidia_peermem", "nvidia_vgpu_vfio", "nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")


@dataclass(eq=False, repr=False)
class Machine:
    """The machine state that NVIDIA's installer depends on.

    Attributes:
        alternate: The package that manages the driver, an empty string if the package is unknown, or None if no package manages the driver.
        x_server: The process ID and the lock file of a running X server, or None.
        services: The running units in daemons.UNITS, including the one-shot unit daemons.SETUP after its run.
        modules: The loaded modules in MODULES.
        uninstaller: Whether NVIDIA's uninstaller exists.
        command: The command that removes the driver packages, or empty if the driver has no packages.
        removes: The packages that the removal command removes, or empty if the command would fail.
        removal_error: The reason why the removal command would fail.
        begun: Whether the removal command continues an interrupted removal.
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
    """A run of NVIDIA's installer.

    Attributes:
        version: The version of the driver to install.
        load: Whether to load the module right after the installation, without a reboot.
        extra: Additional installer arguments that the user set.
    """

    version: str
    load: bool
    extra: Sequence[str] = field(default_factory=list)

    def knows(self, option: str) -> bool:
        """Returns whether this installer release supports an option, regardless of the option's value."""
        return int(self.version.split(".")[0]) >= _SINCE.get(option.split("=")[0], 0)

    def unloads(self, driver: Driver) -> bool:
        """Returns whether the loaded driver must be unloaded first. Some releases can replace a loaded driver if a reboot follows."""
        return bool(driver.loaded) and RUNNING not in self.extra and (self.load or not self.knows(RUNNING))


def refusals(inventory: Inventory, run: Run, machine: Machine) -> list[Refusal]:
    """Returns the errors for conditions that would make NVIDIA's installer exit without installing the driver."""
    errors = []
    for word in run.extra:
        if not run.knows(word):
            found, first = "the %s installer does not support the argument %s" % (run.version, word), "release %d or later" % _SINCE[word.split("=")[0]]
            errors.append(Refusal(found, "extra_arguments", first, "Remove this argument.", "unknown_argument"))
    # Packages in *removes* are removed together with the distribution's driver. stays() reports a removal_error.
    goes = machine.alternate in machine.removes or machine.removal_error
    if machine.alternate is not None and not goes and NO_ALTERNATE_CHECK not in run.extra:
        errors.append(_alternate(machine.alternate))
    if machine.x_server and run.load and NO_X_CHECK not in run.extra:
        errors.append(_x_server(*machine.x_server))
    return errors + _nouveau(inventory, run)


def _alternate(package: str) -> Refusal:
    found = "%s manages the driver, so NVIDIA's .run installer would stop" % ("the package %s" % package if package else "another installer")
    remove = "For example, run 'apt-get purge %s' or 'dnf remove %s'." % (package, package)
    if not package:
        remove = "To find the package, run 'dpkg -S %s' or 'rpm -qf %s'." % (ALTERNATE, ALTERNATE)
    remedy = "Remove or update the driver with the tool that installed the driver. %s" % remove
    return Refusal(found, ALTERNATE, "no driver from another installer", remedy, "alternate_install")


def _x_server(pid: str, lock: str) -> Refusal:
    found = "an X server is running (pid %s), so NVIDIA's installer would stop" % pid
    remedy = "Run 'systemctl isolate multi-user.target' to stop the X server, then rerun the playbook. Or install the driver with 'load: false' and reboot."
    return Refusal(found, lock, "no X server", remedy, "x_running")


def _nouveau(inventory: Inventory, run: Run) -> list[Refusal]:
    """Returns the error for a GPU that is bound to nouveau, which prevents NVIDIA's installer from loading its module for a test.

    Some installer releases can skip the test if a reboot follows.
    """
    taken = [gpu.address for gpu in inventory.gpus if gpu.driver == "nouveau"]
    if not taken or (not run.load and run.knows(SKIP_LOAD)):
        return []
    instead = " With 'load: false', the installer continues, and the reboot completes the installation." if run.knows(SKIP_LOAD) else ""
    remedy = (
        "To block nouveau, run the gpu_release role. Alternatively, run 'printf \"blacklist nouveau\\noptions nouveau modeset=0\\n\" "
        "> /etc/modprobe.d/nvidia-vgpu-nouveau.conf' and then 'update-initramfs -u' or 'dracut --force'. Reboot, then rerun the playbook.%s" % instead
    )
    found = "the GPU is bound to nouveau, so the %s installer would stop" % run.version
    return [Refusal(found, taken[0], "a GPU that is bound to nvidia or to no driver", remedy, "gpu_on_nouveau")]


def held(inventory: Inventory, driver: Driver, run: Run) -> list[Refusal]:
    """Returns the errors for a driver that must be unloaded but cannot be unloaded.

    The driver cannot be unloaded while programs other than NVIDIA's services use the driver, or if unloading would remove idle vGPUs and no reboot
    follows.
    """
    if not run.unloads(driver):
        return []
    others = inventory.open_files.without(daemons.STOPPED, inventory.open_files.natives())
    errors = [still_loaded(run, others)] if others else []
    if inventory.vgpus and run.load:
        found = "unloading the driver %s would remove %d idle vGPUs" % (driver.loaded, len(inventory.vgpus))
        remedy = "Install the driver with 'load: false' and reboot, which restores the vGPUs. Or first remove the vGPUs with the nvidia_vgpu module."
        errors.append(Refusal(found, "driver", "no vGPUs", remedy, "vgpus_exist"))
    return errors


def no_uninstaller(driver: Driver) -> Refusal:
    """Returns the error for a driver that cannot be removed because NVIDIA's uninstaller does not exist."""
    if driver.unfinished:
        missing = "%s does not exist, because the installation was interrupted before the installer wrote this file" % UNINSTALL
        return Refusal(missing, remedy="Complete the installation with 'state: present', then uninstall the driver.", code="no_uninstaller")
    found = "%s does not exist, so the driver was not installed by NVIDIA's .run installer" % UNINSTALL
    remedy = "Remove the driver packages with apt or dnf. Then rerun the playbook."
    if driver.removal:
        remedy = "Set 'replace_datacenter: true' to remove the driver packages automatically, or run '%s' manually." % " ".join(driver.removal)
    return Refusal(found, remedy=remedy, code="no_uninstaller")


def stays(driver: Driver, machine: Machine) -> list[Refusal]:
    """Returns the errors for a driver that cannot be removed: the package manager would fail, or NVIDIA's uninstaller does not exist."""
    if not machine.command:
        return [] if machine.uninstaller else [no_uninstaller(driver)]
    if machine.removes:
        return []
    found, remedy = "'%s' would fail: %s" % (" ".join(machine.command), machine.removal_error), "Fix the reported error. Then rerun the playbook."
    return [Refusal(found, "driver", "a driver that the package manager can remove", remedy, "packages_stay")]


def removal(machine: Machine, driver: str) -> Step:
    """Returns the step that removes the driver. If packages are removed, the text of the step lists all packages."""
    what = "the remaining packages of a driver whose removal was interrupted" if machine.begun else driver
    if not machine.command:
        return Step("uninstall", None, None, "uninstall %s" % what)
    text = "remove %s (%s): %s" % (what, " ".join(machine.command[:2]), ", ".join(machine.removes))
    return Step("purge", None, None, text, command=machine.command)


def still_loaded(run: Run, holders: Sequence[Holder], said: str = "") -> Refusal:
    """Returns the error for kernel modules that cannot be unloaded.

    Args:
        holders: The processes that use a device of the driver.
        said: The output of rmmod.
    """
    by = " by %s" % ", ".join(map(str, holders)) if holders else ": %s" % (said or "the use count of the module is not 0 (see 'lsmod')")
    remedy = "Stop the programs that use the module and rerun the playbook, or install the driver with 'load: false' and reboot."
    if not run.knows(RUNNING):
        remedy = (
            "The %s installer cannot install the driver while an nvidia module is loaded. Stop the programs that use the module and rerun the playbook, "
            "boot once with modprobe.blacklist=nvidia on the kernel command line, or uninstall the driver first ('nvidia-uninstall') and reboot."
            % run.version
        )
    return Refusal("the module is in use%s" % by, "the nvidia module", "a module that can be unloaded", remedy, "module_in_use")


def around(inventory: Inventory, driver: Driver, run: Run, machine: Machine) -> tuple[list[Step], list[Step]]:
    """Returns the steps before and after the run of NVIDIA's installer."""
    if not run.unloads(driver):
        return [], []
    before = [Step("remove", None, one.key, "remove the idle vGPU until the reboot", parent=one.parent) for one in inventory.vgpus]
    running = [name for name in machine.services if name != daemons.SETUP]
    if running:
        before.append(Step("stop", None, None, "stop %s" % ", ".join(running), services=list(reversed(running))))
    before.append(Step("unload", None, None, "unload the modules %s" % ", ".join(machine.modules), run=run, modules=machine.modules))
    again = [name for name in machine.services if name != daemons.FABRIC]  # the fabric role starts the Fabric Manager version for the new driver
    after = [Step("start", None, None, "start %s again" % ", ".join(again), services=again)] if again else []
    return before, after
