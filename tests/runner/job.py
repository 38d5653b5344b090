# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a job as AWX does: with a private data directory, credentials that are injected by type, ansible-runner, and artifacts.

AWX writes this directory and calls ansible-runner in a container of the execution environment. The tests call ansible-runner without a container.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from ansible.parsing.dataloader import DataLoader
from jinja2 import Environment, StrictUndefined

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".build" / "collections"
# Only Ansible's loader supports the tag !unsafe. The conversion to and from JSON turns Ansible's text types into plain strings.
TYPES = json.loads(json.dumps(DataLoader().load_from_file(str(ROOT / "awx" / "vars" / "credential_types.yml"))))["awx_credential_types"]


class Job:
    """A job with its private data directory."""

    def __init__(self, folder: Path) -> None:
        """Create an empty private data directory with a copy of the playbooks."""
        self.folder = folder
        self.arguments: list[str] = []
        for name in ("project", "inventory", "env", "artifacts"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o700)
        shutil.copytree(ROOT / "playbooks", folder / "project" / "playbooks")

    def secret(self, name: str, text: str) -> Path:
        """Write a file to the directory env. Only its owner can read the file."""
        path = self.folder / "env" / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path

    def inventory(self, groups: dict[str, list[str]], hosts: dict[str, dict]) -> None:
        """Write a program that prints the inventory, as AWX does."""
        content = {**{name: {"hosts": members} for name, members in groups.items()}, "_meta": {"hostvars": hosts}}
        path = self.folder / "inventory" / "hosts"
        path.write_text(f"#! /usr/bin/env python3\nprint(r'''{json.dumps(content)}''')\n", encoding="utf-8")
        path.chmod(0o700)

    def machine(self, user: str, key: str) -> None:
        """Add the machine credential. An ssh-agent of the job supplies the key."""
        self.secret("ssh_key", key)
        self.arguments += ["-u", user]

    def credential(self, kind: str, inputs: dict[str, str]) -> None:
        """Add a credential with a type from awx/vars/credential_types.yml, injected as in AWX."""
        (found,) = [one for one in TYPES if one["name"].endswith(kind)]
        assert set(found["inputs"]["required"]) <= set(inputs) <= {field["id"] for field in found["inputs"]["fields"]}
        known: dict = dict(inputs)
        jinja = Environment(undefined=StrictUndefined)
        for template in found["injectors"].get("file", {}).values():
            path = self.secret("tmp" + secrets.token_hex(4), jinja.from_string(template).render(known))
            known["tower"] = {"filename": str(path)}
        values = {name: jinja.from_string(template).render(known) for name, template in found["injectors"].get("extra_vars", {}).items()}
        path = self.secret("tmp" + secrets.token_hex(4), yaml.safe_dump(values))
        self.arguments += ["-e", f"@{path}"]

    def run(self, playbook: str, variables: dict, *options: str, timeout: int = 1500) -> Result:
        """Run a playbook of the project. variables: extra variables of the template and answers to the survey."""
        self.secret("extravars", yaml.safe_dump({"awx_job_id": 7, "awx_job_launch_type": "manual", **variables}))
        self.secret("cmdline", shlex.join([*self.arguments, *options]))
        self.secret("settings", yaml.safe_dump({"idle_timeout": 0, "job_timeout": 0, "pexpect_timeout": 5}))
        bin_folder = Path(sys.executable).parent
        self.secret(
            "envvars",
            yaml.safe_dump(
                {
                    "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
                    "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                    "ANSIBLE_HOME": str(ROOT / ".build" / "ansible-home"),
                    "ANSIBLE_FORCE_COLOR": "True",
                    "ANSIBLE_HOST_KEY_CHECKING": "False",
                    "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
                    "ANSIBLE_RETRY_FILES_ENABLED": "False",
                    "ANSIBLE_TIMEOUT": "60",
                    "JOB_ID": "7",
                }
            ),
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "RUNNER_"))}
        done = subprocess.run(
            [str(bin_folder / "ansible-runner"), "run", str(self.folder), "-p", f"playbooks/{playbook}", "-i", "7", "--quiet"],
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(self.folder / "artifacts" / "7", done.stdout)


class Result:
    """The artifacts of a job. AWX keeps no other data of the job."""

    def __init__(self, folder: Path, said: str) -> None:
        self.folder = folder
        assert folder.is_dir(), said
        self.status = (folder / "status").read_text(encoding="utf-8")
        self.rc = int((folder / "rc").read_text(encoding="utf-8"))
        self.stdout = (folder / "stdout").read_text(encoding="utf-8")
        events = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "job_events").glob("*.json")]
        self.events = sorted(events, key=lambda event: event["counter"])

    @property
    def stats(self) -> dict:
        """Return the data of the last event: counts by host, and artifact_data, which AWX stores and passes to the next jobs of a workflow."""
        (found,) = [event["event_data"] for event in self.events if event["event"] == "playbook_on_stats"]
        return found

    @property
    def reasons(self) -> list[str]:
        """Return the messages of the failed tasks."""
        return [event["event_data"]["res"].get("msg", "") for event in self.events if event["event"] == "runner_on_failed"]

    def files_with(self, marks: list[str]) -> list[str]:
        """Return the artifacts that contain a mark."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert files
        return [str(path) for path in files if any(mark.encode() in path.read_bytes() for mark in marks)]
