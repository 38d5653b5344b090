# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs of the playbooks on simulated hosts: a file for each host contains the output of its modules.

Ansible runs with its defaults: without an ansible.cfg and without the user's settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = ROOT / "tests" / "bench" / "simulated"
sys.path.insert(0, str(SIMULATED))

import hosts as simulated  # noqa: E402  (simulated/hosts.py)

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_host_plan  # noqa: E402  (needs the changed sys.path)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call  # noqa: E402  (needs the changed sys.path)

STAGES = ["gpu_release", "iommu", "driver", "reboot", "services", "fabric", "mig", "sriov", "vgpus", "verify", "libvirt_attach"]
DRIVER = {"kind": "host", "supply": {"given": "", "path": "", "scheme": ""}, "version": "550.163.02"}


def planned(host, layout: list, **more) -> dict:
    """Return the result of nvidia_host_plan on a host for the stages of the role host."""
    return call(nvidia_host_plan, host, stages=STAGES, driver=DRIVER, layout=layout, unresponsive_gpus="warn", **more).ok.result


def converged(folder: Path, vgpus: int = 16) -> dict:
    """Return the result of nvidia_host_plan on a converged host with eight GPUs."""
    os.environ["PATH"] = f"{simulated.BIN}:{os.environ['PATH']}"
    return planned(simulated.healthy(folder, vgpus), simulated.layout(vgpus))


def inventory(answers: dict[str, Path], layout: list, group: str = "vgpu_hosts") -> dict:
    """Return an inventory of hosts whose modules print the given files."""
    hosts = {
        name: {
            "ansible_connection": "recorded", "recorded_answer": str(path), "ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3",
        }
        for name, path in answers.items()
    }
    return {group: {"hosts": hosts, "vars": {"vgpu_layout": layout, "vgpu_driver_version": "550.163.02"}}}


def play(folder: Path, *words: str, config: Path | None = None, program: str = "") -> subprocess.CompletedProcess:
    """Run ansible-playbook, or another program, with Ansible's defaults or a configuration file. The output has no colors."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"}
    (folder / "empty.cfg").touch()
    env.update(
        ANSIBLE_CONNECTION_PLUGINS=str(SIMULATED / "connection"), ANSIBLE_PIPELINING="true", ANSIBLE_HOME=str(folder / "home"),
        ANSIBLE_CONFIG=str(config or folder / "empty.cfg"), ANSIBLE_NOCOLOR="1", ANSIBLE_NOCOWS="1", COLUMNS="80", LC_ALL="C.UTF-8",
    )
    argv = [program, *words] if program else [sys.executable, "-m", "ansible", "playbook", *words]
    return subprocess.run(argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600)


def put(folder: Path, name: str, content: object) -> Path:
    """Write the content to a file, as JSON if the name ends in .json, otherwise as YAML. Return the path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content), encoding="utf-8")
    return path
