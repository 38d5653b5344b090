# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the cloudpods role with ansible-playbook on file trees of hosts, with a kubectl that records its calls.

The tests boot no machine, because the role requires only a host's files and kubectl.
"""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import COLLECTIONS, ROOT

CONF = "# Cloudpods\nrabbit_password: &secret hunter2  # é\nmore: *secret\nunknown_key: {a: 1}\n"
KUBECTL = r"""#!/bin/sh
printf '%s\n' "$*" >> "$(dirname "$0")/asked"
if [ -e "$(dirname "$0")/fail-$6" ] || [ -e "$(dirname "$0")/fail-$4" ]; then
    echo "error: the server could not be reached" >&2
    exit 1
fi
"""
RESTART = "-n onecloud rollout restart ds default-host"
STATUS = "-n onecloud rollout status ds default-host --timeout=600s"
PACKAGES = """#!/usr/bin/python
import os
import sysconfig

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
if not module.check_mode:
    os.symlink(SOURCE, os.path.join(sysconfig.get_path("purelib"), "yaml"))
module.exit_json(changed=True, msg="installed " + module.params["name"])
"""
FACTS = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule

AnsibleModule(argument_spec={}, supports_check_mode=True).exit_json(ansible_facts={"pkg_mgr": "ansible.legacy.packages_of_a_test"})
"""
PLAY = """
- hosts: all
  gather_facts: false
  serial: "{{ batch | default('100%') }}"
  module_defaults:
    group/vgpu.kvm.vgpu:
      sysfs_root: "{{ tree }}"
  roles:
    - role: vgpu.kvm.cloudpods
"""


class Tree:
    """The files of a host with one A40. Each of the first VFs has a vGPU."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "run").mkdir(parents=True)
        self.conf = root / "etc" / "yunion" / "host.conf"
        self.mark = root / "var" / "lib" / "vgpuctl" / "cloudpods-restart-due"
        self.put("etc/yunion/host.conf", CONF)
        # A process without open files. Without any readable process, the guard would count every GPU as in use.
        (root / "proc" / "1" / "fd").mkdir(parents=True)
        self.put("proc/1/comm", "systemd\n")
        self.put("proc/devices", "Character devices:\n195 nvidia\n")

    def put(self, path: str, text: str) -> None:
        """Write a file of the host."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def gpu(self, pf: str, vfs: int, vgpus: int) -> None:
        """Write the sysfs files of a GPU, its VFs and its vGPUs."""
        files = {"vendor": "0x10de", "device": "0x2235", "class": "0x030200", "subsystem_device": "0x145a", "sriov_totalvfs": "32"}
        files.update({"sriov_numvfs": str(vfs), "sriov_vf_device": "2235", "sriov_offset": "4", "sriov_stride": "1"})
        devices = "sys/bus/pci/devices/"
        for name, text in files.items():
            self.put(devices + pf + "/" + name, text + "\n")
        for number in range(vfs):
            vf = "%s:%02x.%x" % (pf[:7], (number + 4) >> 3, (number + 4) & 7)
            for name in ("vendor", "device", "class"):
                self.put(devices + vf + "/" + name, files[name] + "\n")
            os.symlink("../" + pf, self.root / devices / vf / "physfn")
            os.symlink("../" + vf, self.root / devices / pf / f"virtfn{number}")
            kind = devices + vf + "/mdev_supported_types/nvidia-565"
            self.put(kind + "/name", "NVIDIA A40-24Q\n")
            if number < vgpus:
                uuid = f"7e0bb6d4-52a6-5b21-8b2f-6c8f1f3ad0f{number}"
                (self.root / devices / vf / uuid).mkdir()
                os.symlink("../mdev_supported_types/nvidia-565", self.root / devices / vf / uuid / "mdev_type")
                (self.root / "sys/bus/mdev/devices").mkdir(parents=True, exist_ok=True)
                os.symlink(f"../../pci/devices/{vf}/{uuid}", self.root / "sys/bus/mdev/devices" / uuid)


class Pods:
    """Hosts with Cloudpods as file trees, and the controller's kubectl."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder = folder
        self.trees = {name: Tree(folder / name) for name in names}
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "kubectl").write_text(KUBECTL, encoding="utf-8")
        (self.bin / "kubectl").chmod(0o755)
        hosts = {name: {"tree": str(tree.root)} for name, tree in self.trees.items()}
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become_user": getpass.getuser()}
        (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": local}}), encoding="utf-8")
        (folder / "play.yml").write_text(PLAY, encoding="utf-8")

    @property
    def asked(self) -> list[str]:
        """Return the arguments of kubectl's calls since the last read."""
        path = self.bin / "asked"
        found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def run(self, *options: str, **variables: object) -> subprocess.CompletedProcess:
        """Run the role on all hosts. Ansible does not change the user, because the trees belong to the user who runs the tests."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        env = dict(
            kept,
            PATH=f"{self.bin}:{os.environ['PATH']}",
            ANSIBLE_CONFIG=str(ROOT / "tests" / "system" / "ansible.cfg"),
            ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
            ANSIBLE_HOME=str(self.folder / "ansible-home"),
            ANSIBLE_BECOME_ALLOW_SAME_USER="false",
        )
        program = Path(sys.executable).parent / "ansible-playbook"
        return subprocess.run(
            [str(program), "-i", "inventory.json", "play.yml", "--diff", "-e", json.dumps(variables), *options],
            cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
        )


@pytest.fixture
def pod(tmp_path: Path) -> Pods:
    """Return a host that has an A40 with four VFs and two vGPUs."""
    pods = Pods(tmp_path, ("pod1",))
    pods.trees["pod1"].gpu("0000:e8:00.0", 4, 2)
    return pods


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    """Return three hosts that each have an A40 with four VFs and two vGPUs."""
    made = Pods(tmp_path, ("pod1", "pod2", "pod3"))
    for tree in made.trees.values():
        tree.gpu("0000:e8:00.0", 4, 2)
    return made


def test_listed_restarted_once_and_then_left_alone(pod: Pods) -> None:
    tree = pod.trees["pod1"]
    check = pod.run("--check")
    assert check.returncode == 0 and '+- "e8:00.4"' in check.stdout and pod.asked == [] and tree.conf.read_text() == CONF, check.stdout
    first = pod.run()
    assert first.returncode == 0 and pod.asked == [RESTART, STATUS], first.stdout
    listed = "".join(f'- "e8:{one}"\n' for one in ("00.0", "00.4", "00.5", "00.6", "00.7"))
    assert tree.conf.read_text() == CONF + "nvidia_vgpu_pfs:\n" + listed and not tree.mark.exists()
    assert "hunter2" not in check.stdout + first.stdout
    second = pod.run()
    assert second.returncode == 0 and "changed=0" in second.stdout and pod.asked == [], second.stdout


def test_a_restart_that_failed_is_made_up_for(pod: Pods) -> None:
    for step in ("restart", "status"):
        (pod.bin / f"fail-{step}").touch()
    failed = pod.run()
    assert failed.returncode and "the server could not be reached" in failed.stdout and "vgpu_cloudpods_kubectl_host" in failed.stdout, failed.stdout
    assert pod.trees["pod1"].mark.exists() and pod.asked
    (pod.bin / "fail-restart").unlink()
    assert pod.run().returncode and pod.asked == [RESTART, STATUS] and pod.trees["pod1"].mark.exists()
    (pod.bin / "fail-status").unlink()
    again = pod.run()
    assert again.returncode == 0 and pod.asked == [RESTART, STATUS] and not pod.trees["pod1"].mark.exists(), again.stdout
    assert pod.run().returncode == 0 and pod.asked == []


def test_a_run_that_died_behind_the_file_is_finished(pod: Pods) -> None:
    """The next run repeats a missing restart. The state without the restart is that of a run that was killed after it had changed the file."""
    assert pod.run(cloudpods_restart=False).returncode == 0
    assert pod.asked == [] and pod.trees["pod1"].mark.exists() and "nvidia_vgpu_pfs" in pod.trees["pod1"].conf.read_text()
    assert pod.run().returncode == 0 and pod.asked == [RESTART, STATUS]


def test_no_kubectl_is_told_in_words(pod: Pods) -> None:
    failed = pod.run(cloudpods_kubectl="/nowhere/kubectl")
    assert failed.returncode and "/nowhere/kubectl -n onecloud rollout restart ds default-host" in failed.stdout and pod.trees["pod1"].mark.exists()


def test_the_key_is_taken_out_and_the_agent_told(pod: Pods) -> None:
    assert pod.run().returncode == 0 and len(pod.asked) == 2
    done = pod.run(cloudpods_state="absent", cloudpods_kubeconfig="/etc/kubernetes/admin.conf")
    assert done.returncode == 0 and pod.trees["pod1"].conf.read_text() == CONF, done.stdout
    assert pod.asked == ["--kubeconfig /etc/kubernetes/admin.conf " + RESTART, "--kubeconfig /etc/kubernetes/admin.conf " + STATUS]


def test_one_restart_for_all_hosts_of_a_cluster(pods: Pods) -> None:
    done = pods.run(cloudpods_kubectl_host="localhost")
    assert done.returncode == 0 and pods.asked == [RESTART, STATUS], done.stdout
    assert not any(tree.mark.exists() for tree in pods.trees.values())


def test_each_batch_is_restarted(pods: Pods) -> None:
    done = pods.run(cloudpods_kubectl_host="localhost", batch=2)
    assert done.returncode == 0 and pods.asked == [RESTART, STATUS] * 2, done.stdout


def test_only_hosts_that_changed_take_part(pods: Pods) -> None:
    assert pods.run("--limit", "pod1", cloudpods_kubectl_host="localhost").returncode == 0 and len(pods.asked) == 2
    (pods.bin / "fail-restart").touch()
    failed = pods.run(cloudpods_kubectl_host="localhost")
    assert failed.returncode and pods.asked == [RESTART], failed.stdout
    assert {name: tree.mark.exists() for name, tree in pods.trees.items()} == {"pod1": False, "pod2": True, "pod3": True}
    assert "Read the error of pod2" in failed.stdout
    (pods.bin / "fail-restart").unlink()
    assert pods.run(cloudpods_kubectl_host="localhost").returncode == 0 and pods.asked == [RESTART, STATUS]
    assert not any(tree.mark.exists() for tree in pods.trees.values())


def test_a_host_without_the_yaml_library_gets_it(pod: Pods) -> None:
    """The host's Python has no PyYAML. A fake package manager installs the library."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(pod.folder / "python")], check=True)
    (pod.folder / "library").mkdir()
    source = repr(str(Path(yaml.__file__).parent))
    (pod.folder / "library" / "packages_of_a_test.py").write_text(PACKAGES.replace("SOURCE", source), encoding="utf-8")
    (pod.folder / "library" / "facts_of_a_test.py").write_text(FACTS, encoding="utf-8")
    play = PLAY.replace("  roles:", "  pre_tasks:\n    - facts_of_a_test:\n  roles:")
    (pod.folder / "play.yml").write_text(play, encoding="utf-8")
    own = {"ansible_python_interpreter": str(pod.folder / "python" / "bin" / "python")}
    check = pod.run("--check", **own)
    assert check.returncode == 0 and "Library | Install PyYAML" in check.stdout and pod.trees["pod1"].conf.read_text() == CONF, check.stdout
    done = pod.run("-v", **own)
    assert done.returncode == 0 and "installed python3-pyyaml" in done.stdout and pod.asked == [RESTART, STATUS], done.stdout
    assert "nvidia_vgpu_pfs" in pod.trees["pod1"].conf.read_text()


def test_a_bare_host_is_refused_and_nothing_restarted(tmp_path: Path) -> None:
    pods = Pods(tmp_path, ("pod1",))
    pods.trees["pod1"].gpu("0000:e8:00.0", 0, 0)
    failed = pods.run()
    assert failed.returncode and "no GPU of this host has VFs" in failed.stdout and pods.asked == [] and pods.trees["pod1"].conf.read_text() == CONF
