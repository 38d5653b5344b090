# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs the collection's modules on a twin. A server process on the twin runs the modules in sequence and kills them when a test requests it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import ansible

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))

from support import COLLECTIONS, LAUNCHER, Twin  # noqa: E402  (the line above extends sys.path)

__all__ = ["GPU", "OTHER", "VFS", "Remote", "State", "Twin", "read_state"]

FOLDER = "/opt/crash-test"
GPU, OTHER = "0000:e8:00.0", "0000:e7:00.0"
# Number of VFs per GPU. A quarter of the A40's VFs is sufficient, and reading a host takes longer with more VFs.
VFS = 8


class State:
    """The state of a host at a point in time."""

    def __init__(self, told: dict) -> None:
        self.vgpus: dict[str, tuple[str, str]] = {key: (value[0], value[1]) for key, value in told["vgpus"].items()}
        self.gpus: dict[str, tuple[str, int]] = {key: (value[0], value[1]) for key, value in told["gpus"].items()}
        self.files: dict[str, str] = told["files"]
        self.left: list[str] = told["left"]

    def stored(self) -> dict[str, tuple[str, str]]:
        """Return the vGPUs that the next boot would restore, in the format of `vgpus`."""
        text = self.files.get("/etc/vgpuctl/layout.json")
        gpus = json.loads(text)["gpus"] if text is not None else []
        return {one["uuid"] or one["parent"]: (one["parent"], one["type"]) for gpu in gpus for one in gpu["vgpus"]}

    def definitions(self) -> dict[str, tuple[str, str]]:
        """Return mdevctl's definitions as {UUID: (parent, type number)}."""
        found = {}
        for path, text in self.files.items():
            if path.startswith("/etc/mdevctl.d/"):
                parent, uuid = path.split("/")[-2:]
                found[uuid] = (parent, json.loads(text)["mdev_type"])
        return found


def _archive() -> bytes:
    """Return an archive with the code for the server process: Ansible's module code, the collection's plugins, and the server."""
    top = Path(ansible.__file__).parent
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("__init__.py", "_vendor", "release.py", "module_utils"):
            archive.add(top / name, f"ansible/{name}", filter=_source)
        # The collections directory contains links, but the archive must contain the files of the working tree.
        archive.dereference = True
        archive.add(COLLECTIONS / "ansible_collections" / "vgpu" / "kvm" / "plugins", "ansible_collections/vgpu/kvm/plugins", filter=_source)
        for path in sorted((Path(__file__).parent / "on_host").glob("*.py")):
            archive.add(path, path.name)
    return buffer.getvalue()


def _source(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


class Remote:
    """The server process on a twin. It runs until close(), or until the power of the machine is cut."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        argv = [str(LAUNCHER), "ssh", twin.name]
        subprocess.run(
            [*argv, f"sudo sh -c 'mkdir -p {FOLDER} && tar -xzf - -C {FOLDER} && sync'"], input=_archive(), check=True, timeout=300, stdout=subprocess.DEVNULL
        )
        self.argv = [*argv, f"sudo python3 {FOLDER}/server.py {FOLDER}"]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def again(self) -> None:
        """Start the server again, after a boot."""
        self.close()
        self.process = self._start()

    def close(self) -> None:
        """Stop the server by killing its connection."""
        self.process.kill()
        self.process.wait()

    def send(self, request: dict) -> None:
        """Send a request without waiting for the response."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        """Return the response to the last request."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the host no longer responds"
        return json.loads(line)

    def ask(self, request: dict) -> dict:
        """Send a request and return the response."""
        self.send(request)
        return self.answer()

    def module(self, name: str, **arguments: object) -> dict:
        """Run a module, assert that it succeeds, and return its result."""
        answer = self.ask({"module": name, "arguments": arguments})
        result = answer.get("result") or {}
        assert answer["status"] == 0 and not result.get("failed"), f"{name} {arguments}: {answer['output'][-3000:]}"
        return result

    def shell(self, command: str) -> str:
        """Run a shell line, assert that it succeeds, and return its output."""
        answer = self.ask({"shell": command})
        assert answer["status"] == 0, f"{command}: {answer['output']}"
        return answer["output"]


def read_state(remote: Remote) -> State:
    """Read the state of the host."""
    return State(remote.ask({"state": True}))
