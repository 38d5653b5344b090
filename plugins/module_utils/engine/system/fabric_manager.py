# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accesses NVIDIA's Fabric Manager: the configuration file, the version, and queries through the Fabric Manager library."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Sequence

from ..base.clock import until
from ..base.errors import EngineError, Refusal, error
from ..hardware.fabric import FailedDevice, Partition
from . import daemons, files, libnvfm, packages
from .context import Context

CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
UNIT = daemons.FABRIC
BINARY = "/usr/bin/nv-fabricmanager"
VGPU_MODE = "2"
MODES = {"0": "bare metal or full passthrough", "1": "shared NVSwitch", VGPU_MODE: "vGPU"}
_LIBRARIES = tuple(
    directory + "/libnvfm.so.1" for directory in
    ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib64", "/usr/local/lib")
)
_FMPM = ("/usr/bin/fmpm", "/usr/local/bin/fmpm")
_SETTING = r"^[ \t]*%s[ \t]*=[ \t]*(\S*)[ \t]*$"
_MODE = "FABRIC_MODE"
_CALL = 30.0  # the maximum duration of one session, in seconds
_LOOK = "Find the cause in 'journalctl -u nvidia-fabricmanager' or /var/log/fabricmanager.log."
_VERSION = "Install Fabric Manager and its library (nvidia-fabricmanager-dev or nvidia-fabricmanager-devel) in exactly the driver's version."
_ITSELF = "Fabric Manager"
# The error for each status. The failed call's name is added to the text.
_MEANING = {
    libnvfm.NO_CONNECTION: Refusal(
        "Fabric Manager cannot be reached", _ITSELF, "a running Fabric Manager", "Run 'systemctl start nvidia-fabricmanager'. " + _LOOK,
        "fabric_not_running",
    ),
    libnvfm.VERSION_MISMATCH: Refusal("Fabric Manager and its library have different versions", _ITSELF, "the same version", _VERSION, "fabric_version"),
    libnvfm.NOT_SUPPORTED: Refusal(
        "Fabric Manager is not running in vGPU mode", _ITSELF, "FABRIC_MODE=2", "Run the fabric role, which sets the mode and restarts Fabric Manager.",
        "fabric_mode",
    ),
    libnvfm.NOT_CONFIGURED: Refusal(
        "Fabric Manager is still starting", _ITSELF, "the list of partitions", "Wait until Fabric Manager has started, then rerun. " + _LOOK, "fabric_starting",
    ),
    libnvfm.IN_USE: Refusal(
        "the partition or one of its GPUs is already active for another user", _ITSELF, "a partition whose GPUs are not in another active partition",
        "Run 'vgpuctl status' to list the active partitions.", "fabric_in_use",
    ),
    libnvfm.BAD_PARAMETER: Refusal(
        "Fabric Manager rejected the partition or its VFs", _ITSELF, "one VF for each GPU of the partition", _LOOK, "fabric_bad_parameter",
    ),
    libnvfm.UNINITIALIZED: Refusal(
        "the connection reached Fabric Manager's internal socket", _ITSELF, "Fabric Manager's command interface",
        "Set FM_CMD_UNIX_SOCKET_PATH to a socket path or to an empty value, then restart Fabric Manager.", "fabric_wrong_socket",
    ),
    libnvfm.NVLINK_ERROR: Refusal(
        "one or more NVLinks of the partition failed", _ITSELF, "working NVLinks",
        "Find the failed NVLinks with 'nvidia-smi nvlink -s' and in dmesg. " + _LOOK, "fabric_nvlink",
    ),
}
_MEANING[libnvfm.NOT_READY] = _MEANING[libnvfm.NOT_CONFIGURED]


def settings(root: str) -> dict[str, str] | None:
    """Returns the settings in Fabric Manager's configuration file, or None if the file does not exist."""
    text = files.read_text(root, CONFIG)
    return None if text is None else dict(re.findall(_SETTING % "([A-Z][A-Z_0-9]*)", text, re.MULTILINE))


def with_mode(text: str, mode: str) -> str:
    """Returns the configuration file's text with a new FABRIC_MODE and all other lines unchanged."""
    lines, found = [], False
    for line in text.splitlines(keepends=True):
        if re.match(_SETTING % _MODE, line.rstrip("\r\n")):
            end = line[len(line.rstrip("\r\n")):]
            line, found = "%s=%s%s" % (_MODE, mode, end), True
        lines.append(line)
    if found:
        return "".join(lines)
    return "%s%s%s=%s\n" % (text, "" if not text or text.endswith("\n") else "\n", _MODE, mode)


def mode(root: str) -> str | None:
    """Returns the FABRIC_MODE value, or None if the configuration file or the setting is missing."""
    return (settings(root) or {}).get(_MODE)


def address(found: dict[str, str]) -> str:
    """Returns the address of Fabric Manager's command interface: a socket path or IP:port."""
    path = found.get("FM_CMD_UNIX_SOCKET_PATH")
    return path or "%s:%s" % (found.get("FM_CMD_BIND_INTERFACE") or "127.0.0.1", found.get("FM_CMD_PORT_NUMBER") or "6666")


def library(root: str) -> str | None:
    """Returns the path to the Fabric Manager library, or None."""
    return next((path for path in _LIBRARIES if os.path.exists(root + path)), None)


def version(ctx: Context, timeout: float = 30) -> tuple[str | None, str | None]:
    """Returns Fabric Manager's (package, version), or (None, None) if Fabric Manager is not installed.

    Without a package, the version comes from nv-fabricmanager's output.
    """
    name, found = packages.fabric_manager(ctx, timeout)
    if name or not os.path.exists(ctx.root + BINARY):
        return name, found
    match = re.search(r"([0-9]+(?:\.[0-9]+){1,3})", ctx.command([BINARY, "--version"], timeout).out)
    return None, match.group(1) if match else None


def partitions(ctx: Context, timeout: float = 0) -> tuple[list[Partition], dict[int, str]]:
    """Returns (the partitions, known GPU PCI addresses keyed by module ID). Raises EngineError if the query fails.

    ``timeout`` is the time to wait for Fabric Manager to start, in seconds.
    """
    answer = _patient(ctx, [("partitions",)], timeout)
    found = [Partition(number, active, [module for module, dummy in gpus]) for number, active, gpus in answer.rows]
    return found, {module: address for dummy, dummy2, gpus in answer.rows for module, address in gpus if address}


def failed_devices(ctx: Context) -> list[FailedDevice]:
    """Returns the GPUs and NVSwitches that have failed NVLinks. On H100 and later, Fabric Manager never reports failed devices."""
    answer = _ask(ctx, [("failed",)])
    return [FailedDevice(kind, pci or uuid, ports) for kind, pci, uuid, ports in answer.rows]


def activate(ctx: Context, partition: int, vfs: Sequence[str], timeout: float) -> None:
    """Activates a partition for the VFs, which must be in the order of the partition's GPUs. Raises EngineError on failure."""
    numbers = [[int(word, 16) for word in re.split("[:.]", one)] for one in vfs]
    _patient(ctx, [("activate", partition, numbers)], timeout)


def deactivate(ctx: Context, partition: int, timeout: float) -> None:
    """Deactivates a partition. If the partition is already inactive, the call succeeds."""
    answer = _patient(ctx, [("deactivate", partition)], timeout, fine=(libnvfm.UNINITIALIZED,))
    if answer.status == libnvfm.UNINITIALIZED and answer.call != "fmDeactivateFabricPartition":
        raise EngineError(_refusal(answer))


def set_activated(ctx: Context, active: Sequence[int]) -> None:
    """Passes the list of active partitions to Fabric Manager in restart mode. Raises EngineError on failure."""
    _patient(ctx, [("set", list(active))], 0)


def _patient(ctx: Context, requests: Sequence[libnvfm.Request], timeout: float, fine: Sequence[int] = ()) -> libnvfm.Answer:
    """Returns a successful session's answer. While Fabric Manager is starting, the session is retried for up to ``timeout`` seconds."""
    last = libnvfm.Answer()

    def there() -> bool:
        nonlocal last
        last = _ask(ctx, requests)
        return last.status not in (libnvfm.NOT_CONFIGURED, libnvfm.NOT_READY, libnvfm.NO_CONNECTION)

    until(ctx.clock, there, timeout, 0.5)
    if last.status not in (libnvfm.SUCCESS, *fine) or last.unusable or not last.ended:
        raise EngineError(_refusal(last))
    return last


def _ask(ctx: Context, requests: Sequence[libnvfm.Request]) -> libnvfm.Answer:
    path, found = library(ctx.root), settings(ctx.root)
    if path is None:
        raise _no_library(ctx)
    return libnvfm.ask(ctx.root + path, address(found or {}), requests, _CALL)


def _no_library(ctx: Context) -> EngineError:
    there = ", and the installed fmpm program cannot activate a partition for VFs" if ctx.executable(*_FMPM) else ""
    found = "the Fabric Manager library is not installed" + there
    return error(found, "libnvfm.so.1", "the library that activates partitions", _VERSION, "fabric_library_missing")


def _refusal(answer: libnvfm.Answer) -> Refusal:
    if not answer.ended:
        remedy = "Restart Fabric Manager while no VM uses a GPU. " + _LOOK
        return Refusal("the library did not respond within %d s" % _CALL, _ITSELF, "a response", remedy, "fabric_silent")
    if answer.unusable:
        return Refusal("the library cannot be used: %s" % answer.unusable, _ITSELF, "a library that can be loaded", _VERSION, "fabric_library_missing")
    found = _MEANING.get(answer.status) or Refusal("the call to Fabric Manager failed", _ITSELF, "success", _LOOK, "fabric_failed")
    return replace(found, found="%s (%s: %s)" % (found.found, answer.call, libnvfm.NAMES.get(answer.status, "status %d" % answer.status)))
