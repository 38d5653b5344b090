# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests with a host that the previous release has configured under its former names. The tests read, restore, rename, and remove this setup."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, Run, Twin, launcher
from test_teardown import FILES, LEFT, STATE

pytestmark = pytest.mark.operations

# The last commit in which the collection used its former names.
RELEASE_BEFORE = "e1843a0965aef83c1077b10f10db093c11abaa84"
ETC, VAR, COMMAND = "/etc/nvidia-vgpu", "/var/lib/nvidia-vgpu", "/usr/local/sbin/nvidia-vgpu"
UNIT, LINK = (f"/etc/systemd/system/{place}nvidia-vgpu-restore.service" for place in ("", "multi-user.target.wants/"))
PLACES = "/etc /usr/local /var/lib/nvidia-vgpu /var/lib/vgpuctl /var/cache/nvidia-vgpu /var/cache/vgpuctl"
TREE = (
    f"find {PLACES} -xdev -printf '%p %M %u %l\\n' 2>/dev/null | sort; "
    f"find {PLACES} -xdev -type f -exec md5sum {{}} + 2>/dev/null | sort -k2"
)
# NVIDIA's own services, modules and modprobe.d files also begin with nvidia-vgpu. vgpuctl and its unit refer to the former names.
OLD_FILES = (
    "find /etc /usr/local /var/lib /var/cache -xdev -name '*nvidia-vgpu*' "
    "-not -name 'nvidia-vgpu-mgr*' -not -name 'nvidia-vgpud*' -not -path '/etc/modprobe.d/*' -not -path '/var/lib/dkms/*' -not -path '/var/lib/dpkg/*'"
)
OLD_WORDS = (
    "grep -rIlE 'nvidia-vgpu-(restore|metrics)|/(etc|sbin|lib|cache)/nvidia-vgpu' /etc /usr/local /var/lib/vgpuctl "
    "| grep -vx -e /etc/systemd/system/vgpu-restore.service -e /etc/systemd/system/multi-user.target.wants/vgpu-restore.service "
    "-e /usr/local/sbin/vgpuctl; true"
)
OLD_UNITS = "for what in list-units list-unit-files; do systemctl $what --no-legend 'nvidia-vgpu-restore*' 'nvidia-vgpu-metrics*'; done; true"
METRICS = "- hosts: all\n  gather_facts: false\n  roles:\n    - vgpu.kvm.metrics\n"
PROM = "/var/lib/prometheus/node-exporter/nvidia_vgpu.prom"
RENAMING = "vgpu.kvm.vgpus : Install the restore unit"


@pytest.fixture(scope="module")
def release_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory with the previous release of the collection, in Ansible's layout."""
    known = subprocess.run(["git", "-C", str(ROOT), "cat-file", "-e", RELEASE_BEFORE + "^{commit}"], capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"this clone has no commit {RELEASE_BEFORE[:7]}, which is the previous release. Run 'git fetch --unshallow' to fetch the commit.")
    path = tmp_path_factory.mktemp("before")
    collection = path / "ansible_collections" / "vgpu" / "kvm"
    collection.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", RELEASE_BEFORE], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(collection)], input=archive, check=True)
    return path


class Old(Twin):
    """A twin that the current or the previous release manages.

    before: path of the previous release. bare, running: the host's files and its runtime state before the first run.
    """

    before: Path
    bare: str
    running: str

    @contextlib.contextmanager
    def by_release_before(self) -> Iterator[None]:
        """Make Ansible run the previous release inside this context."""
        self.settings = {"ANSIBLE_COLLECTIONS_PATH": str(self.before)}
        try:
            yield
        finally:
            self.settings = {}

    def metrics(self, *options: str) -> Run:
        """Run the role metrics and return the run."""
        play = self.folder / "metrics.yml"
        play.write_text(METRICS, encoding="utf-8")
        return self.playbook(str(play), {"metrics_interval": "5s"}, *options)

    def power_cut(self, *units: str) -> None:
        """Cut the power, boot the machine, and wait until the units that restore vGPUs have finished."""
        launcher("power-cut", self.name)
        for unit in units:
            assert self.sh(f"systemctl start {unit}; systemctl show --value -p Result {unit}") == "success", self.sh(f"journalctl -b -u {unit}")

    def written(self) -> str:
        """Wait until a timer, old or new, writes metrics. Return these metrics."""
        newer = f"[ -n \"$(find {PROM} -newer /run/asked)\" ]"
        return self.sh(f"touch /run/asked; for i in $(seq 60); do {newer} && break; sleep 1; done; {newer} && cat {PROM}")


@pytest.fixture(scope="module")
def host(release_before: Path) -> Iterator[Old]:
    """Yield a bare twin with two GPUs that are configured for vfio-pci."""
    twin = Old("system-migration")
    twin.before = release_before
    try:
        twin.up("--gpus", "2")
        twin.bare, twin.running = twin.sh(FILES), twin.sh(STATE)
        yield twin
    finally:
        twin.down()


@pytest.fixture(scope="module")
def variables() -> dict:
    """Return the variables of a user's inventory."""
    return {
        "vgpu_driver_bundle": launcher("bundle").strip().splitlines()[-1],
        "vgpu_driver_dkms": False,
        "vgpu_layout": [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}],
    }


def set_up_by_release_before(host: Old, variables: dict) -> dict:
    """Configure the host with the previous release under the former names. Return the host's vGPUs."""
    with host.by_release_before():
        run = host.playbook("vgpu.kvm.site", variables)
    vgpus = host.mdevs()
    assert run.rc == 0 and len(vgpus) == 4, run.out[-4000:]
    host.sh(f"sync; ls {ETC}/layout.json {VAR}/originals.json {COMMAND} {UNIT}; systemctl is-enabled nvidia-vgpu-restore")
    host.sh("for path in /etc/vgpuctl /var/lib/vgpuctl /usr/local/sbin/vgpuctl; do [ ! -e $path ] || exit 1; done")
    return vgpus


# Files that earlier tasks of a real run have already removed: the symbolic link of the enabled unit, and the stored layout.
REMOVED_BEFORE = ("/etc/systemd/system/multi-user.target.wants/vgpu-restore.service:", "/etc/vgpuctl/layout.json:")


def torn_down(host: Old, variables: dict) -> None:
    """Tear the host down after a run in check mode, which changes nothing. Afterward, only the files in LEFT can differ from the bare host."""
    confirmed = dict(variables, vgpu_teardown_confirm=True)
    before, vgpus = host.sh(TREE), host.mdevs()
    check = host.playbook("vgpu.kvm.teardown", confirmed, "--check", "--diff")
    assert check.rc == 0 and host.sh(TREE) == before and host.mdevs() == vgpus, check.out[-4000:]
    run = host.playbook("vgpu.kvm.teardown", confirmed)
    assert run.rc == 0 and host.mdevs() == {}, run.out[-4000:]
    told, done = ([one for one in ran.actions("nvidia_vgpu_restore") if not one.startswith(REMOVED_BEFORE)] for ran in (check, run))
    assert told == done != []
    assert host.sh(OLD_FILES) == host.sh(OLD_UNITS) == "" and host.sh("find / -xdev -name '*vgpuctl*' -not -path '/var/log/*'") == ""
    after = host.sh(FILES)
    differing = sorted({line.split()[-1] if line[0] != "/" else line.split()[0] for line in set(host.bare.splitlines()) ^ set(after.splitlines())})
    assert [path for path in differing if not path.startswith(LEFT)] == [], differing
    assert host.sh(STATE) == host.running
    again = host.playbook("vgpu.kvm.teardown", confirmed)
    assert again.rc == 0 and again.changed == [], again.changed


def test_a_run_renames_what_the_release_before_set_up(host, variables):
    host.sh("mkdir -p /var/lib/prometheus/node-exporter")
    vgpus = set_up_by_release_before(host, variables)
    with host.by_release_before():
        assert host.metrics().rc == 0
    layout, originals = host.sh(f"cat {ETC}/layout.json"), host.sh(f"cat {VAR}/originals.json")

    # Playbooks that only read accept the former names and change nothing.
    before = host.sh(TREE)
    seen = host.playbook("vgpu.kvm.validate", dict(variables, vgpu_validate_fail_on="warning"))
    assert seen.rc == 0, seen.out[-3000:]
    check = host.playbook("vgpu.kvm.site", variables, "--check", "--diff")
    assert check.rc == 0 and check.changed == [RENAMING], (check.changed, check.out[-4000:])
    steps = check.actions("nvidia_vgpu_restore")
    assert f"{ETC}: rename the directory to /etc/vgpuctl" in steps and f"{VAR}: rename the directory to /var/lib/vgpuctl" in steps, steps
    assert host.sh(TREE) == before and host.mdevs() == vgpus
    host.sh("sync")
    host.power_cut("nvidia-vgpu-restore")
    assert host.mdevs() == vgpus

    # Simulate a kill after the new unit was enabled and before the old unit was removed: both units run at the next boot.
    host.sh(f"mkdir /root/saved && cp -a {COMMAND} /root/saved/command && cp -a {UNIT} /root/saved/unit")
    renamed = host.module("nvidia_vgpu_restore")
    assert not renamed["failed"] and renamed["actions"] == steps, renamed
    assert "nvidia_vgpu_present{" in host.written(), "the old timer must continue to write metrics"
    host.sh(f"mv /etc/vgpuctl {ETC}; mv /var/lib/vgpuctl {VAR}; rm {COMMAND}; mv /root/saved/command {COMMAND}; mv /root/saved/unit {UNIT}")
    host.sh(f"ln -s {UNIT} {LINK}; rmdir /root/saved; sync")
    host.power_cut("nvidia-vgpu-restore", "vgpu-restore")
    assert host.mdevs() == vgpus
    done = host.sh("journalctl -b -o cat -u nvidia-vgpu-restore")
    assert " steps done, 0 failed" in done and "nvidia-vgpu: 0 steps done" not in done, done
    assert "vgpuctl: 0 steps done, 0 failed" in host.sh("journalctl -b -o cat -u vgpu-restore"), "the second unit must have no steps to run"

    # The power fails directly after the run.
    run = host.playbook("vgpu.kvm.site", variables)
    assert run.rc == 0 and run.changed == [RENAMING] and host.mdevs() == vgpus, (run.changed, run.out[-4000:])
    host.power_cut("vgpu-restore")
    assert host.mdevs() == vgpus and host.sh("systemctl is-enabled vgpu-restore") == "enabled"
    assert host.sh("cat /etc/vgpuctl/layout.json") == layout.replace("nvidia-vgpu-restore", "vgpu-restore")
    assert host.sh("cat /var/lib/vgpuctl/originals.json") == originals
    assert "nvidia_vgpu_present{" in host.written(), "the old timer must continue to write metrics until the metrics role replaces it"

    check, run = host.metrics("--check"), host.metrics()
    assert check.rc == run.rc == 0 and "nvidia_vgpu_present{" in host.written(), run.out[-3000:]
    assert "Earlier" in str(check.changed) and host.metrics().changed == []
    assert host.sh(OLD_FILES) == host.sh(OLD_WORDS) == host.sh(OLD_UNITS) == ""
    seen = host.playbook("vgpu.kvm.validate", dict(variables, vgpu_validate_fail_on="warning"))
    assert seen.rc == 0, seen.out[-3000:]
    again = host.playbook("vgpu.kvm.site", variables)
    assert again.rc == 0 and again.changed == [] and host.mdevs() == vgpus, again.changed
    torn_down(host, variables)


def test_a_teardown_of_a_host_that_was_never_renamed(host, variables):
    set_up_by_release_before(host, variables)
    with host.by_release_before():
        assert host.metrics().rc == 0
    torn_down(host, variables)
    assert host.sh("ls /var/lib/prometheus/node-exporter") == "", "the teardown must also remove the metrics"
