# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs modules on a host of the test bed. The collection's modules run on the fake kernel; stand-ins replace Ansible's modules."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import stat as modes

from machine import DRIVERS, FLAGS

from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

OURS = "vgpu.kvm."
# Options of the collection's modules that are paths on the host. On the fake host these paths are below its root directory.
PATHS = ("src", "dest", "tmpdir", "signing_key", "signing_certificate")


def run(machine, name: str, args: dict, check: bool) -> dict:
    """Run a module and return its result."""
    if name.startswith(OURS):
        return ours(machine, name[len(OURS) :], args, check)
    word = name.rsplit(".", 1)[-1]
    if word not in THEIRS:
        return {"failed": True, "msg": "the test bed has no module %s" % name}
    return {"changed": False, **THEIRS[word](machine, args, check)}


def ours(machine, name: str, args: dict, check: bool) -> dict:
    """Run a module of the collection on the fake kernel and return its result."""
    module = importlib.import_module("ansible_collections.vgpu.kvm.plugins.modules." + name)
    given = {key: machine.root + value if key in PATHS and str(value).startswith("/") else value for key, value in args.items()}
    outcome = call(module, machine, check=check, **given)
    result = {"changed": False, **outcome.result, "failed": outcome.failed, "warnings": outcome.warnings}
    return json.loads(json.dumps(result).replace(machine.root, ""))


def ready(machine, version: str, layout: list[dict]):
    """Configure the machine as the host role does for this driver and layout."""
    for name in ("nvidia-vgpu-mgr", "nvidia-uninstall"):
        machine.put("/usr/bin/" + name, "", 0o755)
    machine.on_disk = version
    machine.packages_there.add("pciutils")
    ours(machine, "nvidia_kernel_cmdline", {"flags": FLAGS}, False)
    machine.enabled.update(DRIVERS)
    machine.reboot()
    for name, args in (("nvidia_sriov", {}), ("nvidia_vgpu_restore", {}), ("nvidia_vgpu", {"layout": layout})):
        result = ours(machine, name, args, False)
        assert not result["failed"], result
    machine.enabled.add("vgpu-restore")
    machine.started.add("vgpu-restore")
    return machine


def stat(machine, args, check):
    """Replace ansible.builtin.stat on the fake host."""
    path = machine.root + (args.get("path") or args.get("dest"))
    if not os.path.lexists(path):
        return {"stat": {"exists": False}}
    found = os.stat(path) if args.get("follow") else os.lstat(path)
    told = {
        "exists": True, "path": path[len(machine.root) :], "isdir": modes.S_ISDIR(found.st_mode), "islnk": modes.S_ISLNK(found.st_mode),
        "isreg": modes.S_ISREG(found.st_mode), "mode": "%04o" % (found.st_mode & 0o7777), "size": found.st_size, "uid": 0, "gid": 0,
    }
    if told["isreg"]:
        with open(path, "rb") as handle:
            told["checksum"] = hashlib.sha1(handle.read()).hexdigest()
    return {"stat": told}


def file(machine, args, check):
    """Replace ansible.builtin.file on the fake host."""
    name = args.get("path") or args.get("dest")
    path, state = machine.root + name, args.get("state") or "file"
    there = os.path.lexists(path)
    if state == "absent":
        if there and not check:
            remove = shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.unlink
            remove(path)
        return {"changed": there, "path": name, "state": "absent"}
    if state == "directory" and not there and not check:
        os.makedirs(path)
    if state == "file" and not there:
        return {"failed": True, "msg": "file (%s) is absent, cannot continue" % name}
    if args.get("mode") and not check:
        os.chmod(path, int(args["mode"], 8))
    return {"changed": not there, "path": name, "state": state}


def copy(machine, args, check):
    """Replace ansible.builtin.copy on the fake host. The source is in Ansible's scratch directory, which is on the controller in these tests."""
    path = machine.root + args["dest"]
    before = stat(machine, {"path": args["dest"]}, check)["stat"].get("checksum")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copyfile(args["src"], path)
    os.chmod(path, int(args.get("mode") or "0644", 8))
    return {"changed": before != stat(machine, {"path": args["dest"]}, check)["stat"]["checksum"], "dest": args["dest"]}


def systemd_service(machine, args, check):
    """Replace ansible.builtin.systemd_service on the fake host."""
    name = (args.get("name") or "").replace(".service", "")
    if not name:
        return {"changed": False}
    if not machine.exists(name):
        return {"failed": True, "msg": "Could not find the requested service %s: host" % name}
    words = []
    if args.get("enabled") is not None and bool(args["enabled"]) != (name in machine.enabled):
        words.append("enable" if args["enabled"] else "disable")
    wanted = args.get("state")
    if wanted == "restarted" or wanted and (wanted == "started") != (name in machine.started):
        words.append({"restarted": "restart", "started": "start", "stopped": "stop"}[wanted])
    for word in [] if check else words:
        machine.set_service(name, word)
    return {"changed": bool(words), "status": {"ActiveState": "active"}}


def command(machine, args, check):
    """Simulate the few commands that roles start, and the drain and undrain commands of a cloud."""
    argv = args.get("argv") or (args.get("_raw_params") or "").split()
    if check:
        return {"changed": False, "skipped": True, "rc": 0, "stdout": "", "stderr": "", "msg": "skipped in check mode"}
    if argv[0] in ("drain", "undrain"):
        machine.drains.append(argv[0])
        machine.drained = argv[0] == "drain"
        if machine.drained:
            machine.kernel.processes.clear()
        return {"changed": True, "rc": 0, "stdout": "", "stderr": ""}
    status = {"apt-cache": 100, "sync": 0}.get(argv[0], 127)
    return {"changed": True, "rc": status, "stdout": "", "stderr": "", "failed": bool(status), "msg": "non-zero return code" if status else ""}


def apt(machine, args, check):
    """Replace ansible.builtin.apt and ansible.builtin.dnf on the fake host."""
    names = args.get("name") or args.get("pkg") or []
    names = {one.split("=")[0] for one in ([names] if isinstance(names, str) else names)}  # The stand-in ignores a requested version.
    new = machine.packages_there - names if args.get("state") == "absent" else machine.packages_there | names
    changed = new != machine.packages_there
    if not check:
        if any(name.startswith("nvidia-vgpu") for name in machine.packages_there - new):
            machine.uninstall()
        machine.packages_there = new
    return {"changed": changed}


def package_facts(machine, args, check):
    """Replace ansible.builtin.package_facts on the fake host."""
    return {"ansible_facts": {"packages": {name: [{"name": name, "version": "1"}] for name in machine.packages_there}}}


def setup(machine, args, check):
    """Return the facts that the action plugins reboot and dnf read."""
    family, tool = ("RedHat", "dnf") if machine.dracut else ("Debian", "apt")
    return {"ansible_facts": {"ansible_distribution": family, "ansible_distribution_version": "9", "ansible_os_family": family, "ansible_pkg_mgr": tool}}


def find(machine, args, check):
    """Return the path of the shutdown command, which the action plugin reboot searches for."""
    return {"files": [{"path": "/sbin/shutdown"}], "matched": 1, "examined": 1}


THEIRS = {
    one.__name__: one for one in (stat, file, copy, systemd_service, command, apt, package_facts, setup, find)
}
THEIRS["dnf"] = THEIRS["package"] = apt
THEIRS["systemd"] = systemd_service


def low_level(machine, text: str) -> dict | None:
    """Return the answer to a command line that Ansible itself starts, or None if it concerns Ansible's scratch directories."""
    if "boot_id" in text:
        return {"rc": 0, "out": machine.boot_id + "\n"}
    if "whoami" in text:
        return {"rc": 0, "out": "root\n"}
    if "/sbin/shutdown" in text:
        if machine.shutdown_fails:
            return {"rc": 1, "out": "", "err": "shutdown: Failed to talk to init daemon"}
        machine.reboot()
        return {"rc": 0, "out": ""}
    return None
