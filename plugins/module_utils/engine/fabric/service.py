# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the steps that configure and start Fabric Manager in vGPU mode. The fabric role installs the packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

from ..base.errors import Refusal
from ..base.plan import Plan
from ..base.steps import Step
from ..read.fabric import Fabric
from ..system.fabric_manager import CONFIG, MODES, UNIT, VGPU_MODE

INSTALL, MODE, ENABLE, DISABLE, START, RESTART, STOP = (
    *("fabric_install", "fabric_set_mode", "fabric_enable", "fabric_disable"), *("fabric_start", "fabric_restart", "fabric_stop"),
)


@dataclass(eq=False, repr=False)
class Target:
    """The result of a plan for Fabric Manager.

    Attributes:
        installs: The Fabric Manager version to install, or None if the required version is installed.
    """

    installs: str | None = None


ServicePlan = Plan[Target]


def plan(fabric: Fabric, driver: str | None, users: Mapping[str, str], assume: bool) -> ServicePlan:
    """Returns the plan that starts Fabric Manager in vGPU mode.

    Args:
        driver: The host driver version, or None if unknown.
        users: The user of each GPU that is in use, as message text, keyed by GPU address.
        assume: Whether check mode assumes that the run installs missing packages later.
    """
    made: ServicePlan = Plan(Target())
    manager, service = fabric.manager, UNIT + ".service"
    version = driver or "in the driver's version"
    if not manager.installed or (driver and manager.version and manager.version != driver):
        made.target.installs = driver or ""
        if not assume:
            found = "Fabric Manager %s is installed" % manager.version if manager.installed else "Fabric Manager is not installed"
            code = "fabric_version" if manager.installed else "fabric_not_installed"
            remedy = "Run the fabric role, or install Fabric Manager and its library from your package source."
            made.errors.append(Refusal(found, service, "Fabric Manager %s, as required by the driver" % version, remedy, code))
            return made
        made.steps.append(Step(INSTALL, None, service, "install Fabric Manager %s" % version))
    if manager.mode != VGPU_MODE and (manager.installed or assume):
        was = " (previously %s)" % manager.mode if manager.mode is not None else ""
        made.steps.append(Step(MODE, None, CONFIG, "set FABRIC_MODE=%s%s" % (VGPU_MODE, was), mode=VGPU_MODE))
    if manager.unit.get("enabled") != "enabled":
        made.steps.append(Step(ENABLE, None, service, "enable the service"))
    stale = fabric.silence is not None and fabric.silence.code == "fabric_mode"
    if not manager.running:
        made.steps.append(Step(START, None, service, "start the service"))
    elif manager.mode != VGPU_MODE or stale or made.target.installs is not None:
        _restart(made, fabric, users, "starting Fabric Manager in vGPU mode")
    return made


def undo(fabric: Fabric, users: Mapping[str, str]) -> ServicePlan:
    """Returns the plan that restores the Fabric Manager state from before this collection's first change."""
    made: ServicePlan = Plan(Target())
    manager, record, service = fabric.manager, fabric.record, UNIT + ".service"
    back = record.mode_before is not None and manager.mode == VGPU_MODE and manager.installed
    if back:
        text = "restore FABRIC_MODE=%s (%s)" % (record.mode_before, MODES.get(str(record.mode_before), "as before"))
        made.steps.append(Step(MODE, None, CONFIG, text, mode=record.mode_before))
    if record.packages:  # the fabric role removes the packages that this collection installed
        if manager.running:
            _guard(made, fabric, users, "stopping Fabric Manager")
            made.steps.append(Step(STOP, None, service, "stop the service"))
        if manager.unit.get("enabled") == "enabled":
            made.steps.append(Step(DISABLE, None, service, "disable the service"))
    elif back and manager.running:
        _restart(made, fabric, users, "starting Fabric Manager in the previous mode")
    return made


def interrupts(made: ServicePlan) -> bool:
    """Returns whether the plan restarts or stops Fabric Manager, which would interrupt the fabric of running VMs."""
    return any(step.kind in (RESTART, STOP) for step in made.steps)


def _restart(made: ServicePlan, fabric: Fabric, users: Mapping[str, str], doing: str) -> None:
    _guard(made, fabric, users, doing)
    made.steps.append(Step(RESTART, None, UNIT + ".service", "restart the service"))


def _guard(made: ServicePlan, fabric: Fabric, users: Mapping[str, str], doing: str) -> None:
    """Adds an error for each GPU that is in use, because the GPU's user would lose the fabric."""
    made.errors += [
        Refusal(
            "the GPU is in use by %s" % user, pf, "a GPU that is not in use, as required for %s" % doing,
            "Stop the VM or process that uses the GPU, then rerun.", "in_use",
        )
        for pf, user in sorted(users.items())
    ]
