# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests hosts with the file names of an earlier release. The next run renames the files. Even after a killed run, a boot restores the host."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import stat
from unittest import mock

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import backups, rebuilds
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import install
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cloud import cloudpods_plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark, layout_file, migration, restore_record
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state.lock import clean_leftovers
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state.paths import COMMAND, STATE, STORE, UNIT, UNIT_LINK
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_cloudpods_config, nvidia_gpu_info, nvidia_host_plan, nvidia_pci_driver, nvidia_vgpu, nvidia_vgpu_restore,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died

TWO = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
OTHER = [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 3}]}]
OLD_ETC, OLD_STATE = "/etc/nvidia-vgpu", "/var/lib/nvidia-vgpu"
OLD_ENGINE = "#!/usr/bin/python3 -I\nthe engine of the earlier release\n"
# The unit of the earlier release. Its Before setting lists fewer units.
OLD_UNIT_TEXT = """# Written by vgpu.kvm.
[Unit]
Description=Restore NVIDIA VFs and vGPUs
Documentation=file:/etc/nvidia-vgpu/layout.json
After=nvidia-vgpud.service nvidia-vgpu-mgr.service systemd-modules-load.service systemd-udev-settle.service
Wants=nvidia-vgpud.service nvidia-vgpu-mgr.service
Before=libvirtd.service
ConditionPathExists=/etc/nvidia-vgpu/layout.json

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/nvidia-vgpu restore
TimeoutStartSec=15min

[Install]
WantedBy=multi-user.target
"""
UNITS = ((migration.OLD_UNIT, migration.OLD_UNIT_LINK), (UNIT, UNIT_LINK))
ORIGINALS = '{"version": 1, "files": {"/etc/modprobe.d/vfio.conf": {"before": "options vfio-pci ids=10de:2235\\n", "after": null}}}'


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Disables fsync. The tests in this file simulate no power failure, so the data need not reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def enable(host, unit, link):
    """Enables a unit like 'systemctl enable' does."""
    os.makedirs(os.path.dirname(host.root + link), exist_ok=True)
    os.symlink(unit, host.root + link)


def make_old(host, metrics=False):
    """Creates two vGPUs on a host and the files that the earlier release stored for them under its own names. Returns the host."""
    call(nvidia_vgpu, host, layout=TWO).ok
    os.rename(host.root + os.path.dirname(STORE), host.root + OLD_ETC)
    host.put(migration.OLD_STORE, host.get(migration.OLD_STORE).replace("vgpu-restore.service", "nvidia-vgpu-restore.service"))
    host.put(OLD_STATE + "/originals.json", ORIGINALS, 0o600)
    host.put(OLD_STATE + "/last-restore.json", '{"when": 1, "seconds": 2.0, "steps": 3, "failures": 0}')
    host.put(migration.OLD_COMMAND, OLD_ENGINE, 0o755)
    host.put(migration.OLD_UNIT, OLD_UNIT_TEXT)
    enable(host, *UNITS[0])
    host.put(migration.OLD_UNIT + ".d/site.conf", "[Unit]\nAfter=site.service\n")
    host.put("/var/cache/nvidia-vgpu/vgpu-driver/driver.run", "driver")
    if metrics:
        host.put(migration.OLD_METRICS, "[Service]\nExecStart=/usr/local/sbin/nvidia-vgpu metrics\n")
    host.goal = host.vgpus()
    assert len(host.goal) == 2 and not os.path.exists(host.root + os.path.dirname(STORE))
    return host


@pytest.fixture
def old(make_host):
    """Returns a host as the earlier release left it."""
    return make_old(make_host().vfs_on())


def tree(host):
    """Returns the content, the mode, and the time of all files, links, and directories below the root, except for /run."""
    found = {}
    for where, directories, names in os.walk(host.root):
        for path in [os.path.join(where, name) for name in directories + names]:
            state = os.lstat(path)
            link, regular = stat.S_ISLNK(state.st_mode), stat.S_ISREG(state.st_mode)
            content = os.readlink(path) if link else files.read_bytes("", path) if regular else None
            found[path[len(host.root):]] = (content, state.st_mode, state.st_mtime_ns if regular else None)
    return {path: one for path, one in found.items() if not path.startswith("/run")}


def old_names(host):
    """Returns all paths with a name from the earlier release. NVIDIA's nvidia-vgpu-mgr is excluded."""
    return sorted(path for path in tree(host) if "nvidia-vgpu" in path and not path.endswith("/nvidia-vgpu-mgr"))


def started(host, unit, link):
    """Returns the command of a unit if this boot starts the unit. Otherwise, returns None."""
    text = host.get(unit)
    if not os.path.lexists(host.root + link) or text is None:
        return None
    conditions = re.findall(r"^ConditionPathExists=(\|?)(.*)$", text, re.MULTILINE)
    required = [os.path.exists(host.root + path) for mark, path in conditions if not mark]
    triggers = [os.path.exists(host.root + path) for mark, path in conditions if mark]
    (command,) = re.findall(r"^ExecStart=(\S+) restore(?: --timeout \d+)?$", text, re.MULTILINE)
    return command if all(required) and (any(triggers) or not triggers) else None


def boot(host, engine):
    """Reboots the host and runs the restore of each enabled unit in order.

    Returns the list of vGPUs that each restore created. *engine* is the content of the new command.
    """
    host.reboot()
    assert host.vgpus() == []
    done = []
    for unit, link in UNITS:
        command = started(host, unit, link)
        if command is None:
            continue
        content, lines = files.read_bytes(host.root, command), []
        assert content in (OLD_ENGINE.encode(), engine) and os.access(host.root + command, os.X_OK), command
        as_old = mock.patch.object(migration, "current", lambda root, path: path.replace("/vgpuctl", "/nvidia-vgpu"))
        with as_old if content != engine else contextlib.nullcontext():
            rc = restore.run(host.ctx, lines.append, argparse.Namespace(json=False, timeout=60, settle=1))
        assert rc == 0, lines
        done.append([line for line in lines if "create " in line])
    return done


class Kill:
    """Allows a number of writes. Each later write raises Died, as if SIGKILL had stopped the process."""

    CALLS = ("fchmod", "fchown", "fsync", "mkdir", "open", "rename", "rmdir", "symlink", "unlink", "write")

    def __init__(self, after):
        self.left = after

    @contextlib.contextmanager
    def armed(self):
        """Counts the writes inside this context."""

        def counted(real):
            def write(*args, **options):
                if real is opened and not args[1] & (os.O_CREAT | os.O_TRUNC):
                    return opened(*args, **options)
                self.left -= 1
                if self.left < 0:
                    raise Died()
                return None if real is synced else real(*args, **options)

            return write

        opened, synced = os.open, os.fsync
        with contextlib.ExitStack() as stack:
            for name in self.CALLS:
                stack.enter_context(mock.patch.object(os, name, counted(getattr(os, name))))
            yield self


def expected_files():
    """Returns small files to install, because small files are written fast."""
    return install.expected_files({"cli/main.py": "def main():\n    return 0\n"}, [], "/usr/bin/python3")


@pytest.mark.parametrize("metrics", [False, True])
def test_a_boot_restores_wherever_the_migration_is_killed(make_host, metrics):
    expected, points, boots = expected_files(), 0, set()
    while True:
        host = make_old(make_host().vfs_on(), metrics)
        kill = Kill(points)
        with kill.armed(), contextlib.suppress(Died):
            install.apply(host.root, install.plan(host.root, expected))
        done = boot(host, expected[COMMAND][0])
        assert host.vgpus() == host.goal, (points, done)
        assert len(done[0]) == 2 and done[1:] in ([], [[]]), "the second unit must find all vGPUs restored"
        boots.add((len(done), started(host, *UNITS[0]) is not None))

        clean_leftovers(host.root)
        install.apply(host.root, install.plan(host.root, expected))
        assert install.plan(host.root, expected) == []
        assert old_names(host) == ([migration.OLD_METRICS, migration.OLD_COMMAND] if metrics else []), points
        assert host.get(STATE + "/originals.json") == ORIGINALS and host.get(UNIT + ".d/site.conf")
        assert host.get(STORE) == layout_file.dumps(layout_file.read(host.root).values())
        assert boot(host, expected[COMMAND][0]) == [done[0]] and host.vgpus() == host.goal
        if kill.left >= 0:
            break
        points += 1
    assert points > 25 and boots == {(1, True), (2, True), (1, False)}, "the kills must cover boots with the old unit, with both units, and with the new unit"


def test_the_module_renames_all_and_check_mode_lists_it(old):
    before = tree(old)
    check = call(nvidia_vgpu_restore, old, check=True).ok
    assert tree(old) == before and check.writes == 0
    real = call(nvidia_vgpu_restore, old).ok
    assert real["actions"] == check["actions"] == [
        "/usr/local/sbin/vgpuctl: write the file",
        "/etc/systemd/system/vgpu-restore.service: write the file",
        "/usr/local/share/man/man8/vgpuctl.8: write the file",
        "/etc/systemd/system/vgpu-restore.service: enable the unit, because nvidia-vgpu-restore.service was enabled",
        "/etc/systemd/system/nvidia-vgpu-restore.service: disable and remove the old unit",
        "/usr/local/sbin/nvidia-vgpu: remove the old command",
        "/etc/systemd/system/nvidia-vgpu-restore.service.d: rename the directory to /etc/systemd/system/vgpu-restore.service.d",
        "/etc/nvidia-vgpu: rename the directory to /etc/vgpuctl",
        "/var/lib/nvidia-vgpu: rename the directory to /var/lib/vgpuctl",
        "/etc/vgpuctl/layout.json: update the unit name in the comment to vgpu-restore.service",
        "/var/cache/nvidia-vgpu: remove the old cache",
    ]
    assert real["diff"] == check["diff"] and OLD_ETC in real["diff"]["before"] and "/etc/vgpuctl\n" in real["diff"]["after"]
    assert old_names(old) == [] and os.readlink(old.root + UNIT_LINK) == UNIT
    assert ["systemctl", "stop", "nvidia-vgpu-restore.service"] in old.calls
    for path, (content, mode, time) in before.items():
        if path.startswith(OLD_STATE):
            assert tree(old)[path.replace("nvidia-vgpu", "vgpuctl")] == (content, mode, time), "the timestamps of marks must stay, because they are compared"
    again = call(nvidia_vgpu_restore, old).ok
    assert not again["changed"] and again.writes == 0


def test_every_reading_sees_the_old_host_before_it_is_renamed(old):
    before = tree(old)
    check = call(nvidia_vgpu, old, check=True, layout=OTHER).ok
    assert not call(nvidia_vgpu, old, check=True, layout=TWO).ok["changed"]
    plans = call(nvidia_host_plan, old, layout=TWO).ok["plans"]
    assert plans["vgpus"]["actions"] == [] and plans["release"]["actions"] == []
    assert [one for one in plans["restore"]["actions"] if "rename" in one]
    original = call(nvidia_pci_driver, old, check=True, driver="original").ok
    assert any("vfio.conf" in one for one in original["actions"]), original["actions"]
    for pf in old.kernel.pfs():
        pf.set_vfs(0)
    assert [one["code"] for one in call(nvidia_gpu_info, old, health=True).ok["problems"] if "missing" in one["code"]] == ["vfs_missing", "vgpus_missing"]
    assert restore_record.read(old.root).steps == 3 and tree(old) == before

    call(nvidia_vgpu_restore, old).ok
    old.vfs_on()
    for uuid, parent, dummy in old.goal:
        old.add(parent, "A40-24Q", uuid)
    assert call(nvidia_vgpu, old, check=True, layout=OTHER).ok["actions"] == check["actions"]
    assert call(nvidia_pci_driver, old, check=True, driver="original").ok["actions"] == original["actions"]
    assert not call(nvidia_vgpu, old, layout=TWO).ok["changed"] and restore_record.read(old.root).steps == 3


def test_what_is_written_before_the_renaming_is_there_for_the_old_unit(old):
    """A module that runs alone, or a run that is killed before it renames the unit, stores the layout under the old name.

    The next boot must restore that layout.
    """
    call(nvidia_vgpu, old, layout=OTHER).ok
    old.goal = old.vgpus()
    assert len(old.goal) == 3 and not os.path.exists(old.root + os.path.dirname(STORE))
    assert len(boot(old, b"")) == 1 and old.vgpus() == old.goal and not os.path.exists(old.root + STATE)
    call(nvidia_vgpu_restore, old).ok
    boot(old, files.read_bytes(old.root, COMMAND))
    assert old.vgpus() == old.goal and not call(nvidia_vgpu, old, layout=OTHER).ok["changed"]


def test_each_mark_and_record_follows_its_directory(old):
    root = old.root
    install_mark.begin(root, install_mark.DRIVER)
    old.put("/usr/bin/nvidia-smi", "changed by an installer", 0o755)
    rebuilds.mark(root, rebuilds.INITRAMFS)
    backups.keep(root, "/etc/default/grub", "text")
    names = ["driver-installation", "initramfs-due", "last-restore.json", "originals.json"]
    assert sorted(os.listdir(root + OLD_STATE)) == names and not os.path.exists(root + STATE)
    assert install_mark.is_open(root, install_mark.DRIVER)
    call(nvidia_vgpu_restore, old).ok
    assert sorted(os.listdir(root + STATE)) == names and install_mark.is_open(root, install_mark.DRIVER)
    assert sorted(backups.read(root)) == ["/etc/default/grub", "/etc/modprobe.d/vfio.conf"]
    install_mark.end(old.ctx, install_mark.DRIVER)
    assert not install_mark.is_open(root, install_mark.DRIVER)


def test_a_pending_restart_of_an_agent_is_not_forgotten(old):
    old.put(cloudpods_plan.PATH, "networks: []\n", 0o640)
    call(nvidia_cloudpods_config, old).ok
    assert os.path.exists(old.root + OLD_STATE + "/cloudpods-restart-due") and not os.path.exists(old.root + STATE)
    call(nvidia_vgpu_restore, old).ok
    assert call(nvidia_cloudpods_config, old).ok["restart_pending"]
    assert not call(nvidia_cloudpods_config, old, restarted=True).ok["restart_pending"] and not os.path.exists(old.root + cloudpods_plan.MARK)


def test_what_a_killed_run_left_half_written_is_cleaned_there(old):
    old.put(OLD_ETC + "/.vgpu-abc", "half")
    old.put(OLD_STATE + "/.vgpu-def", "half")
    clean_leftovers(old.root)
    assert os.listdir(old.root + OLD_ETC) == ["layout.json"] and ".vgpu-def" not in os.listdir(old.root + OLD_STATE)


def test_a_message_names_the_file_that_is_there(old):
    old.put(migration.OLD_STORE, "{}")
    assert call(nvidia_vgpu, old, layout=TWO).msg.startswith(migration.OLD_STORE)


# --- removal of the restore at boot


@pytest.mark.parametrize("metrics", [False, True])
def test_without_a_restore_at_boot_the_old_names_go_too(make_host, metrics):
    old = make_old(make_host().vfs_on(), metrics)
    before = tree(old)
    check = call(nvidia_vgpu_restore, old, check=True, state="absent").ok
    assert tree(old) == before
    real = call(nvidia_vgpu_restore, old, state="absent").ok
    assert real["actions"] == check["actions"] and "/usr/local/sbin/nvidia-vgpu: remove the old command" in real["actions"]
    assert old_names(old) == ([migration.OLD_METRICS] if metrics else []) and install.present(old.root) == []
    assert not os.path.lexists(old.root + UNIT_LINK) and not call(nvidia_vgpu_restore, old, state="absent").ok["changed"]
    assert old.get(STATE + "/originals.json") == ORIGINALS, "teardown needs this file to restore other files"


def test_a_killed_removal_is_ended_by_the_next(make_host):
    points = 0
    while True:
        host = make_old(make_host().vfs_on())
        kill = Kill(points)
        with kill.armed(), contextlib.suppress(Died):
            install.apply(host.root, install.plan(host.root, {}))
        boot(host, b"")  # boot() asserts that the command of each unit is complete
        install.apply(host.root, install.plan(host.root, {}))
        assert install.plan(host.root, {}) == [] and old_names(host) == [], points
        if kill.left >= 0:
            break
        points += 1
    assert points > 10


# --- files of operators and of other roles


def test_the_old_timer_of_metrics_works_until_its_role_replaces_it(make_host):
    host = make_old(make_host().vfs_on(), metrics=True)
    call(nvidia_vgpu_restore, host).ok
    assert files.read_bytes(host.root, migration.OLD_COMMAND) == files.read_bytes(host.root, COMMAND)
    assert os.access(host.root + migration.OLD_COMMAND, os.X_OK) and not call(nvidia_vgpu_restore, host).ok["changed"]
    os.unlink(host.root + migration.OLD_METRICS)
    assert call(nvidia_vgpu_restore, host).ok["actions"] == [migration.OLD_COMMAND + ": remove the old command"] and old_names(host) == []


def test_files_of_others_in_the_cache_stay(old):
    old.put("/var/cache/nvidia-vgpu/mok.key", "theirs")
    call(nvidia_vgpu_restore, old).ok
    assert old_names(old) == ["/var/cache/nvidia-vgpu", "/var/cache/nvidia-vgpu/mok.key"]
    assert not call(nvidia_vgpu_restore, old).ok["changed"]


def test_a_unit_that_was_not_enabled_is_not_enabled(old):
    os.unlink(old.root + migration.OLD_UNIT_LINK)
    actions = call(nvidia_vgpu_restore, old).ok["actions"]
    assert not [one for one in actions if "enable it" in one] and not os.path.lexists(old.root + UNIT_LINK) and old_names(old) == []


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize(("there", "new"), [(OLD_ETC, os.path.dirname(STORE)), (OLD_STATE, STATE)])
def test_an_earlier_release_after_a_newer_one_is_refused(old, there, new, state):
    """If both directories exist, only the operator can decide which one is current."""
    old.put(new + "/file", "")
    before = tree(old)
    outcome = call(nvidia_vgpu_restore, old, state=state)
    assert outcome.codes == ["two_directories"] and outcome.msg.startswith("%s: both this directory and %s exist, because an earlier release" % (there, new))
    assert tree(old) == before
    plan = call(nvidia_host_plan, old, layout=TWO, restore=state == "present").ok["plans"]["restore"]
    assert plan["failed"] and plan["msg"] == outcome.msg


def test_an_empty_new_directory_and_a_link_of_the_operator_are_no_second_one(old):
    os.makedirs(old.root + STATE)
    assert restore_record.read(old.root).steps == 3, "the old directory must be used as long as it exists"
    call(nvidia_vgpu_restore, old).ok
    assert old.get(STATE + "/originals.json") == ORIGINALS and old_names(old) == []
    os.symlink("vgpuctl", old.root + OLD_ETC)
    assert not call(nvidia_vgpu_restore, old).ok["changed"] and migration.current(old.root, STORE) == STORE


def test_a_directory_that_can_not_be_renamed_is_reported_and_still_counts(old):
    real = os.rename

    def busy(source, target):
        if source.endswith(OLD_ETC):
            raise OSError(16, "Device or resource busy")
        real(source, target)

    with mock.patch.object(os, "rename", busy):
        outcome = call(nvidia_vgpu_restore, old)
    assert outcome.msg.startswith("%s: the directory cannot be renamed to /etc/vgpuctl: Device or resource busy" % OLD_ETC) and "mount point" in outcome.msg
    assert boot(old, files.read_bytes(old.root, COMMAND))[0] and old.vgpus() == old.goal
    assert call(nvidia_vgpu_restore, old).ok["changed"] and old_names(old) == []


def test_a_layout_that_is_no_file_does_not_stop_a_removal(host):
    os.makedirs(host.root + STORE)
    assert not call(nvidia_vgpu_restore, host, state="absent").ok["changed"]


# --- the state of the unit in systemd

SHOWN = "Id=%s.service\nLoadState=%s\nActiveState=active\nResult=success\nUnitFileState=%s\nInactiveExitTimestampMonotonic=1\n\n"


@pytest.mark.parametrize(
    ("new", "former", "expected"),
    [
        (("not-found", ""), ("loaded", "enabled"), "enabled"),  # the unit is not renamed yet
        (("loaded", "disabled"), ("loaded", "enabled"), "enabled"),  # the run was killed while it renamed the unit
        (("loaded", "enabled"), ("loaded", "disabled"), "enabled"),
        (("loaded", "disabled"), ("not-found", ""), "disabled"),
        (("not-found", ""), ("loaded", "disabled"), ""),
    ],
)
def test_the_old_unit_stands_for_the_new_one_until_that_is_enabled(host, new, former, expected):
    answer = SHOWN % ("vgpu-restore", *new) + SHOWN % ("nvidia-vgpu-restore", *former)
    with mock.patch.object(host.ctx, "command", lambda argv, timeout: Result(0, answer)):
        units = migration.services(host.ctx)
    assert list(units) == ["vgpu-restore"] and units["vgpu-restore"]["enabled"] == expected


def test_without_systemd_there_are_no_services(host):
    with mock.patch.object(host.ctx, "command", lambda argv, timeout: Result(127, "")):
        assert migration.services(host.ctx) == {}


def test_the_new_unit_starts_after_the_old_one(old):
    call(nvidia_vgpu_restore, old).ok
    (after,) = re.findall(r"^After=(.*)$", old.get(UNIT), re.MULTILINE)
    assert os.path.basename(migration.OLD_UNIT) in after.split() and layout_file.PATH in old.get(UNIT)
