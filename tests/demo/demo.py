# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The demo: configure a bare host with eight A40 GPUs and show each step.

``up`` builds what is not in the cache, boots the machine ``demo``, runs the playbook ``vgpu.kvm.site`` over ssh, and prints the host's vGPUs.
A second ``up`` runs the playbook again, which changes nothing. ``down`` removes the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "demo"
WORK = ROOT / ".build" / "demo"
TWIN = ROOT / "tests" / "twin" / "twin"
COLLECTIONS = ROOT / ".build" / "collections"
NAME = "demo"
START = time.monotonic()

# Runs on the machine and reads only the kernel's files. All files are read in one process, because starting processes is slow under emulation.
READER = r"""
import json, os
PCI = "/sys/bus/pci/devices/"
def read(path):
    with open(path) as file:
        return file.read().strip()
def name(link):
    return os.path.basename(os.path.realpath(link)) if os.path.exists(link) else None
found = []
for gpu in sorted(os.listdir(PCI)):
    if read(PCI + gpu + "/vendor") != "0x10de" or os.path.exists(PCI + gpu + "/physfn"):
        continue
    links = [one[6:] for one in os.listdir(PCI + gpu) if one.startswith("virtfn")]
    vfs = [name(PCI + gpu + "/virtfn" + number) for number in sorted(links, key=int)]
    vgpus = []
    for vf in vfs:
        for uuid in os.listdir(PCI + vf):
            kind = PCI + vf + "/" + uuid + "/mdev_type/name"
            if os.path.exists(kind):
                vgpus.append({"vf": vf, "type": read(kind).split()[-1], "uuid": uuid})
    found.append({"address": gpu, "driver": name(PCI + gpu + "/driver") or "none", "vfs": len(vfs), "vgpus": vgpus})
print(json.dumps(found))
"""


class DemoError(Exception):
    """An error that is shown to the user as one message."""


@dataclass
class Vgpu:
    """A vGPU of the machine."""

    vf: str
    type: str
    uuid: str


@dataclass
class Gpu:
    """A GPU of the machine with its vGPUs."""

    address: str
    driver: str
    vfs: int
    vgpus: list[Vgpu]


def elapsed() -> str:
    """Return the time since the start of the demo in minutes and seconds."""
    seconds = int(time.monotonic() - START)
    return f"{seconds // 60}:{seconds % 60:02d}"


def say(text: str) -> None:
    """Print the current step."""
    print(f"\n== [{elapsed()}] {text}", flush=True)


def environment() -> dict[str, str]:
    """Return the environment for Ansible: the current environment without the user's Ansible settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONPATH"))}
    kept.update(
        ANSIBLE_CONFIG=str(ROOT / "examples" / "ansible.cfg"),
        ANSIBLE_HOST_KEY_CHECKING="false",
        ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3",
        # On an emulated, busy machine, sudo's first response takes longer than the default of 10 s.
        ANSIBLE_TIMEOUT="60",
        ANSIBLE_HOME=str(WORK / "ansible"),
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        PYTHONUNBUFFERED="1",
    )
    if sys.stdout.isatty():
        kept["ANSIBLE_FORCE_COLOR"] = "1"
    if not os.access(Path.home(), os.W_OK):
        kept["ANSIBLE_REMOTE_TMP"] = str(temporary() / "ansible")
    # Ansible fails if the locale does not use UTF-8.
    if "UTF-8" not in kept.get("LC_ALL", kept.get("LANG", "")).upper().replace("UTF8", "UTF-8"):
        kept["LC_ALL"] = "C.UTF-8"
    return kept


def temporary() -> Path:
    """Return a private directory of this user, whose path is also valid on the demo's machine. Ansible stores files at this path on both machines."""
    folder = Path(tempfile.gettempdir()) / f"twin-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise DemoError(f"{folder} belongs to another user. Set TMPDIR to a directory that belongs to you.")
    return folder


def run(what: str, *command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command and show its output. Raises DemoError if the command fails."""
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, env=env, stdin=subprocess.DEVNULL) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            end(process)
            raise
    if code:
        raise DemoError(f"{what} failed (exit status {code}). The reason is printed above.")


def end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a program that received the terminal's Ctrl-C. If only this process received a signal, stop the program."""
    for send, seconds in ((None, 2), (process.terminate, 20), (process.kill, 5)):
        if send:
            send()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def ask(what: str, *command: str | Path) -> str:
    """Run a command and return its output. Raises DemoError if the command fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"{what} failed (exit status {done.returncode}). The reason is printed above.")
    return done.stdout


def checksum(path: Path) -> str:
    """Return the file's SHA-256 checksum in the collection's format."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def ansible_playbook() -> Path:
    """Return the path of ansible-playbook in the directory of this Python."""
    path = Path(sys.executable).parent / "ansible-playbook"
    if not path.exists():
        raise DemoError(f"{path} does not exist. Start the demo with 'make demo', which installs Ansible.")
    return path


def inventory() -> tuple[Path, Path]:
    """Write the running machine's inventory and the bundle's variables. Return the paths of both files."""
    WORK.mkdir(parents=True, exist_ok=True)
    hosts = WORK / "hosts.yml"
    hosts.write_text(ask("Reading the connection settings of the machine", TWIN, "inventory", NAME), encoding="utf-8")
    answer = ask("Finding the driver bundle", TWIN, "bundle").split("\n")
    bundle = Path([line for line in answer if line.strip()][-1])
    variables = WORK / "bundle.json"
    variables.write_text(
        json.dumps({"vgpu_driver_bundle": str(bundle), "vgpu_driver_checksum": checksum(bundle)}, indent=2) + "\n",
        encoding="utf-8",
    )
    # Ansible reads group_vars in the directory of an inventory.
    link = WORK / "group_vars"
    if not link.is_symlink():
        link.symlink_to(HERE / "group_vars")
    return hosts, variables


def parse(text: str) -> list[Gpu]:
    """Return the GPUs in the output of READER."""
    return [
        Gpu(one["address"], one["driver"], one["vfs"], [Vgpu(**vgpu) for vgpu in one["vgpus"]]) for one in json.loads(text)
    ]


def table(gpus: list[Gpu]) -> str:
    """Return a table with one block per GPU: address, driver, VFs, and vGPUs with VF, type, and UUID."""
    lines = [f"{'GPU':14}{'driver':9}{'VFs':>4}  {'vGPUs':>5}   {'VF':14}{'type':10}UUID"]
    for gpu in gpus:
        head = f"{gpu.address:14}{gpu.driver:9}{gpu.vfs:4}  {len(gpu.vgpus):5}   "
        if not gpu.vgpus:
            lines.append(head + "-")
        for number, one in enumerate(gpu.vgpus):
            lines.append((head if number == 0 else " " * len(head)) + f"{one.vf:14}{one.type:10}{one.uuid}")
    lines.append(
        f"{len(gpus)} GPUs, {sum(gpu.vfs for gpu in gpus)} VFs, {sum(len(gpu.vgpus) for gpu in gpus)} vGPUs"
    )
    return "\n".join(lines)


def is_up() -> bool:
    """Return whether the machine is running."""
    return any(line.split("\t")[:1] == [NAME] and "\tup " in line for line in ask("Listing the machines", TWIN, "list").splitlines())


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the demo's lock. Raises DemoError if another demo of this clone holds the lock."""
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DemoError(
                f"another demo of this clone is running (process {lock.read().strip() or 'unknown'}). "
                "Wait until the other demo has finished, or stop the process."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def stopped_if_interrupted() -> Iterator[None]:
    """Stop the machine if the demo is interrupted. The disk is kept, and the next demo restarts the machine."""
    try:
        yield
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave the machine running
        if is_up():
            subprocess.run([str(TWIN), "down", NAME, "--keep"], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
        raise


def up() -> None:
    """Run the demo. Stop the machine after an interruption, unless the machine was already running."""
    with contextlib.nullcontext() if is_up() else stopped_if_interrupted():
        bring_up()


def bring_up() -> None:
    """Build and boot the machine, run the playbook, and show the result."""
    playbook = ansible_playbook()
    say("Building what is not in the cache: image, kernel modules, driver bundle")
    run("Building", TWIN, "build")
    if is_up():
        say(f"The machine '{NAME}' is already running")
    else:
        say(f"Booting the machine '{NAME}', a bare host: eight A40 GPUs without a driver, IOMMU off, GPUs configured for vfio-pci")
        run("Booting", TWIN, "up", NAME)
    hosts, variables = inventory()
    run("Copying the collection", sys.executable, ROOT / "tests" / "tools" / "mirror.py")
    say("Running the playbook vgpu.kvm.site over ssh, as the user 'ansible' with sudo; the host reboots once")
    run("The playbook", playbook, "vgpu.kvm.site", "-i", hosts, "-e", f"@{variables}", env=environment())
    say("GPUs and vGPUs, read from sysfs")
    gpus = parse(ask("Reading the machine", TWIN, "ssh", NAME, f"python3 -c {shlex.quote(READER)}"))
    if not gpus:
        raise DemoError("No GPU was found on the machine.")
    print(table(gpus))
    say("Writing the report")
    page = WORK / "report.html"
    run("The report", playbook, "vgpu.kvm.report", "-i", hosts, "-e", json.dumps({"report_path": str(page)}), env=environment())
    twin = TWIN.relative_to(ROOT)
    say("Done. What to do next:")
    print(f"""\
  {page}
                                                   the report of the fleet, for a browser
  {twin} ssh {NAME}                             log in; sudo needs no password
  {twin} ssh {NAME} sudo vgpuctl status         show GPUs and vGPUs
  {twin} ssh {NAME} nvidia-smi vgpu             show vGPUs with NVIDIA's tool
  {twin} power-cut {NAME}                       cut the power and boot again
  {twin} ssh {NAME} sudo systemctl start vgpu-restore
                                                   wait until the vGPUs are restored after the boot
  make demo                                        run the playbook again, which changes nothing
  make demo-down                                   remove the machine
""", end="")


def down() -> None:
    """Remove the demo's machine."""
    if not any(line.split("\t")[0] == NAME for line in ask("Listing the machines", TWIN, "list").splitlines()):
        say(f"The machine '{NAME}' does not exist, so nothing was removed")
        return
    say(f"Removing the machine '{NAME}'")
    run("Removing the machine", TWIN, "down", NAME)


def main(arguments: list[str]) -> int:
    """Run the demo's command and return the exit status."""
    parser = argparse.ArgumentParser(description="Configure a bare host with eight A40 GPUs and show each step.")
    parser.add_argument("command", choices=["up", "down"])
    command = {"up": up, "down": down}[parser.parse_args(arguments).command]
    for number in (signal.SIGTERM, signal.SIGHUP):  # handle these signals like Ctrl-C
        signal.signal(number, signal.default_int_handler)
    try:
        with alone():
            command()
    except DemoError as error:
        print(f"\nThe demo stopped after {elapsed()}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nThe demo was interrupted after {elapsed()}. 'make demo' continues the demo, and 'make demo-down' removes the machine.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
