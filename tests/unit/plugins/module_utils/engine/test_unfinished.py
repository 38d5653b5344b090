# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""After a run that was killed: what it left is found, cleaned and finished, and its lock is free."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base import refusals
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base.errors import EngineError
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.frameworks.mdev import Mdev
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host as host_reader
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark, leftovers, lock
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import command, files, mdevctl
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.clock import Clock

RUN = "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
PF = "0000:e8:00.0"
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]


# --- half-written files


def test_half_written_files_of_ours_go_and_others_stay(host):
    host.put("/etc/modprobe.d/.vgpu-abc", "half")
    host.put("/etc/nvidia-vgpu/.vgpu-def", "half")
    host.put("/etc/modprobe.d/.other", "kept")
    os.makedirs(host.root + "/etc/default/grub.d/.vgpu-folder")
    call(nvidia_sriov, host, check=True).ok
    assert host.get("/etc/modprobe.d/.vgpu-abc") == "half", "check mode writes nothing"
    call(nvidia_sriov, host).ok
    assert host.get("/etc/modprobe.d/.vgpu-abc") is None and host.get("/etc/nvidia-vgpu/.vgpu-def") is None
    assert host.get("/etc/modprobe.d/.other") == "kept" and os.path.isdir(host.root + "/etc/default/grub.d/.vgpu-folder")


def test_nothing_to_clean_on_a_bare_host(tmp_path):
    leftovers.clean(str(tmp_path))
    assert os.listdir(str(tmp_path)) == []


def test_new_folders_and_removals_are_synced(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.readlink("/proc/self/fd/%d" % number)), real(number)))
    files.write_atomic(str(tmp_path), "/a/b/c", "text")
    root = str(tmp_path)
    assert synced[:2] == [root, root + "/a"] and synced[-1] == root + "/a/b" and synced[2].startswith(root + "/a/b/" + files.TEMPORARY)
    del synced[:]
    files.remove(root, "/a/b/c")
    assert synced == [root + "/a/b"]


# --- the driver's installation


@pytest.fixture
def package(tmp_path):
    """A driver package on the host."""
    path = tmp_path / RUN
    path.write_text("")
    return str(path)


def test_an_installation_that_was_broken_off_is_done_again(host, package):
    """The module's version is right, but whatever else the installer had to write may be empty."""
    host.put(install_mark.DRIVER, "")
    driver = host_reader.read_driver(host.ctx)
    assert (driver.on_disk, driver.unfinished) == (None, True) and "unfinished" not in driver.as_dict()
    assert host_reader.read_driver(host.ctx, trusting=True).on_disk == "550.163.02"
    wrong = refusals.driver_trouble(driver)
    assert wrong.code == "driver_unfinished" and "host_driver" in wrong.remedy
    outcome = call(nvidia_driver, host, src=package).ok
    assert outcome["actions"] == ["install the vGPU host driver 550.163.02 (an earlier installation was broken off)"]
    assert host.get(install_mark.DRIVER) is None and outcome["driver"]["on_disk"] == "550.163.02"
    assert not call(nvidia_driver, host, src=package).ok["changed"]


def test_the_mark_is_there_while_the_installer_runs_and_after_it_failed(host, package):
    host.on_disk = None
    seen = []
    real = host._installer

    def installer(argv, timeout):
        seen.append(host.get(install_mark.DRIVER) is not None)
        answer = real(argv, timeout)
        if len(seen) == 1:
            answer.rc = 1
        return answer

    host._installer = installer
    assert call(nvidia_driver, host, src=package).codes == ["install_failed"]
    assert host.get(install_mark.DRIVER) is not None
    assert call(nvidia_driver, host, src=package).ok["changed"]
    assert seen == [True, True] and host.get(install_mark.DRIVER) is None


def test_an_installation_that_is_not_on_the_disk_is_not_done(host, package):
    host.on_disk, host.sync_rc = None, 1
    outcome = call(nvidia_driver, host, src=package)
    assert outcome.codes == ["not_synced"] and "Input/output error" in outcome.msg and host.get(install_mark.DRIVER) is not None
    host.sync_rc = 0
    assert call(nvidia_driver, host, src=package).ok["changed"]


def test_a_broken_installation_can_be_uninstalled(host):
    host.on_disk = None
    host.kernel.loaded.clear()
    host.put(install_mark.DRIVER, "")
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    outcome = call(nvidia_driver, host, state="absent").ok
    assert outcome["actions"] == ["uninstall the driver whose installation was broken off"]
    assert host.get(install_mark.DRIVER) is None and not call(nvidia_driver, host, state="absent").ok["changed"]


# --- VFs


@pytest.mark.parametrize("driver", ["pci-pf-stub", None])
def test_a_gpu_that_was_stranded_when_its_vfs_went_off(make_host, driver):
    host = make_host()
    host.pf().driver = driver
    outcome = call(nvidia_sriov, host, state="disabled").ok
    assert "bind the stranded PF to nvidia" in outcome["actions"][0] and host.pf().driver == "nvidia"
    assert not call(nvidia_sriov, host, state="disabled").ok["changed"]


def test_a_gpu_without_driver_by_intent_is_left_alone(make_host):
    host = make_host(driver=None)
    host.pf().override = "vfio-pci"
    assert not call(nvidia_sriov, host, state="disabled").ok["changed"]


# --- mdevctl's own files


@pytest.mark.parametrize("damaged", ["", "{", '{"mdev_type": "nvidia-565"}', "[]"])
def test_a_damaged_definition_is_written_anew(make_host, damaged):
    host = make_host(mdevctl=True).vfs_on()
    call(nvidia_vgpu, host, layout=LAYOUT).ok
    (uuid, parent, dummy), other = host.vgpus()
    path = "/etc/mdevctl.d/%s/%s" % (parent, uuid)
    whole = host.get(path)
    host.put(path, damaged)
    host.put("/etc/mdevctl.d/%s/notes.txt" % parent, damaged)
    outcome = call(nvidia_vgpu, host, layout=LAYOUT).ok
    assert [text for text in outcome["actions"] if other[0] in text] == [] and len(outcome["actions"]) == 2
    assert host.get(path) == whole and json.loads(whole)["start"] == "manual"
    assert host.get("/etc/mdevctl.d/%s/notes.txt" % parent) == damaged and "notes.txt" not in mdevctl.definitions(host.root)
    assert not call(nvidia_vgpu, host, layout=LAYOUT).ok["changed"]


# --- the lock


def real_lock(tmp_path, **arguments):
    """A lock on real files, with the real /proc."""
    ctx = Context("/", clock=Clock())
    return lock.HostLock(ctx, path=str(tmp_path / "lock"), **arguments)


def test_a_program_that_outlives_its_caller_keeps_the_lock_and_is_named(tmp_path):
    held = real_lock(tmp_path, name="module first")
    with held:
        with pytest.raises(EngineError) as caught:
            real_lock(tmp_path, timeout=1).__enter__()
        assert "pid %d (module first: " % os.getpid() in str(caught.value)
        child = subprocess.Popen(["sleep", "600"], pass_fds=sorted(command.INHERITED))
    assert not command.INHERITED
    with pytest.raises(EngineError) as caught:
        real_lock(tmp_path, timeout=1).__enter__()
    assert "pid %d (sleep 600)" % child.pid in str(caught.value) and "module first" not in str(caught.value)
    child.kill()
    child.wait()
    with real_lock(tmp_path, timeout=1):
        assert (tmp_path / "lock").read_text() == "%d\n" % os.getpid()


@pytest.mark.parametrize("keeps", [True, False])
def test_programs_that_change_the_host_get_the_lock_and_no_others(tmp_path, keeps):
    with real_lock(tmp_path):
        (number,) = command.INHERITED
        answer = command.run(["readlink", "/proc/self/fd/%d" % number], 10, keeps_lock=keeps)
    assert answer.out == ("%s\n" % (tmp_path / "lock") if keeps else "")


@pytest.mark.parametrize(
    ("make", "words"), [(lambda path: path.symlink_to("/etc/passwd"), "a link"), (os.mkfifo, "no ordinary file"), (os.mkdir, "can't be opened")]
)
def test_what_stands_in_the_place_of_the_lock_is_refused(tmp_path, make, words):
    make(tmp_path / "lock")
    with pytest.raises(EngineError) as caught:
        real_lock(tmp_path).__enter__()
    assert words in str(caught.value) and caught.value.troubles[0].code == "bad_lock"


def test_a_removal_that_waits_for_a_vm_does_not_keep_the_lock(tmp_path):
    told = tmp_path / "told"

    class Waiting:
        """The kernel's files; the removal says whether it still has the lock."""

        @staticmethod
        def exists(path):
            """Gone as soon as the child has told."""
            return not told.exists()

        @staticmethod
        def write(path, value):
            """In the child."""
            try:
                os.fstat(number)
                told.write_text("open")
            except OSError:
                told.write_text("closed")

    with real_lock(tmp_path) as held:
        number = held.handle.fileno()
        ctx = Context("/")
        ctx.sysfs = Waiting
        Mdev(ctx).remove_forced(UUID, 10)
    assert told.read_text() == "closed"
