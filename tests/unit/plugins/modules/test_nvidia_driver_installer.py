# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how the module handles NVIDIA's .run installer: the options of each release, reasons for failures, and a loaded driver."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import apply as driver_apply, plan as driver_plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.plugins.modules.test_nvidia_driver import bare

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
ALTERNATE = "/usr/lib/nvidia/alternate-install-present"
RUNNING, SKIP_LOAD, REBUILD = "--allow-installation-with-running-driver", "--skip-module-load", "--rebuild-initramfs"
RELEASES = ("535.309.01", "550.200.01", "570.237", "580.159.01", "595.58.02")


@pytest.fixture
def package(tmp_path):
    """Returns a function that creates a package of a release and returns the path of the package."""

    def make(version="550.200.01"):
        path = tmp_path / ("NVIDIA-Linux-x86_64-%s-vgpu-kvm.run" % version)
        path.write_text("")
        return str(path)

    return make


@pytest.fixture
def running(make_host):
    """Returns a host with a loaded driver and the driver's services."""
    host = make_host()
    host.units = {"nvidia-vgpu-mgr": "active", "nvidia-persistenced": "inactive", "nvidia-dcgm": "active"}
    return host


def programs(host):
    """Returns the commands that changed the host."""
    changing = ("rmmod", "modprobe", "sh", "systemctl", "/usr/bin/nvidia-uninstall")
    return [" ".join(argv[:2] if argv[0] == "sh" else argv) for argv in host.calls if argv[0] in changing and "show" not in argv]


def words(version, **changes):
    """Returns the installer's command line arguments for a release."""
    return driver_apply.arguments(driver_plan.Request(**changes), version, None)


# --- the command line


def test_dkms_is_turned_off_where_it_is_not_wanted():
    assert words("580.65.05", dkms=False) == ["--silent", "--no-dkms"]


@pytest.mark.parametrize("version", RELEASES)
def test_nouveau_is_disabled_and_the_check_stays(version):
    found = words(version, load=False, disable_nouveau=True)
    assert "--disable-nouveau" in found and "--no-nouveau-check" not in found
    assert (REBUILD in found) == (not version.startswith("535"))


@pytest.mark.parametrize("version", RELEASES)
def test_a_release_is_given_what_it_knows(version):
    found = words(version, load=False)
    old = version.startswith("535")
    assert (RUNNING in found, SKIP_LOAD in found) == (not old, not old)
    assert "--no-x-check" in found and "--skip-module-unload" not in found


def test_arguments_of_the_user_are_asked_of_the_release_too(make_host, package):
    host = bare(make_host())
    outcome = call(nvidia_driver, host, src=package("535.309.01"), extra_arguments=[REBUILD])
    assert outcome.codes == ["unknown_argument"] and "535.309.01 installer does not support the argument %s" % REBUILD in outcome.msg and "545" in outcome.msg
    call(nvidia_driver, host, src=package(), extra_arguments=[REBUILD]).ok


# --- a loaded driver


@pytest.mark.parametrize("version", RELEASES[1:])
def test_beside_a_loaded_driver_where_a_reboot_follows(running, package, version):
    running.vfs_on().add("0000:e8:00.4", "A40-8Q", UUID)
    check = call(nvidia_driver, running, check=True, src=package(version), load=False).ok
    real = call(nvidia_driver, running, src=package(version), load=False).ok
    assert real["actions"] == check["actions"] == ["install the vGPU host driver %s in place of 550.163.02" % version]
    assert programs(running) == ["sh " + package(version)] and running.vgpus() and real["reboot_required"]


def test_without_a_reboot_the_driver_is_unloaded(running, package):
    running.kernel.add_process(77, "nvidia-vgpu-mgr", ["/usr/bin/nvidia-vgpu-mgr"], ["/dev/nvidiactl"])
    real_rmmod = running._rmmod
    running._rmmod = lambda argv, timeout: [running.kernel.processes.clear(), real_rmmod(argv, timeout)][1]
    check = call(nvidia_driver, running, check=True, src=package()).ok
    assert programs(running) == []
    real = call(nvidia_driver, running, src=package()).ok
    assert real["actions"] == check["actions"] == [
        "stop nvidia-vgpu-mgr, nvidia-dcgm",
        "unload the modules nvidia",
        "install the vGPU host driver 550.200.01 in place of 550.163.02",
        "start nvidia-vgpu-mgr, nvidia-dcgm again",
    ]
    assert programs(running) == [
        "systemctl stop nvidia-dcgm nvidia-vgpu-mgr", "rmmod nvidia", "sh " + package(), "systemctl start nvidia-vgpu-mgr nvidia-dcgm",
    ]


def test_fabric_manager_is_stopped_too_and_starts_in_the_new_version(running, package):
    """Fabric Manager keeps the modules loaded. If nvidia_driver started it after the installation, the old version would start and exit."""
    running.units = {"nvidia-fabricmanager": "active", "nvidia-vgpu-mgr": "active"}
    real = call(nvidia_driver, running, src=package()).ok
    assert real["actions"][0] == "stop nvidia-vgpu-mgr, nvidia-fabricmanager" and real["actions"][-1] == "start nvidia-vgpu-mgr again"
    assert programs(running)[0] == "systemctl stop nvidia-fabricmanager nvidia-vgpu-mgr"


def test_after_a_failure_the_old_driver_runs_again(running, package):
    running._installer = lambda argv, timeout: Result(1, "ERROR: no compiler\n")
    outcome = call(nvidia_driver, running, src=package())
    assert outcome.codes == ["install_failed"] and "The previous driver 550.163.02 is undamaged" in outcome.msg
    assert programs(running)[-2:] == ["modprobe --all nvidia", "systemctl start nvidia-vgpu-mgr nvidia-dcgm"]
    assert running.kernel.loaded == {"nvidia": "550.163.02"} and running.units["nvidia-vgpu-mgr"] == "active"
    assert outcome["not_done"] == ["install the vGPU host driver 550.200.01 in place of 550.163.02"]
    assert outcome["actions"][-1] == "start nvidia-vgpu-mgr, nvidia-dcgm again"


def test_modules_that_the_installer_unloaded_are_loaded_again(running, package):
    """The installer first unloads idle modules, even if its options let it continue with a loaded driver."""

    def unloads(argv, timeout):
        running.units.clear()
        running._rmmod([], timeout)
        return Result(1, "ERROR: no compiler\n")

    running._installer = unloads
    outcome = call(nvidia_driver, running, src=package(), load=False)
    assert outcome.codes == ["install_failed"] and "The previous driver 550.163.02 is undamaged." in outcome.msg
    assert running.kernel.loaded == {"nvidia": "550.163.02"}


def test_a_module_that_does_not_go_is_reported(running, package):
    def busy(argv, timeout):
        running.kernel.add_process(4711, "python3", ["python3", "train.py"], ["/dev/nvidiactl"])
        return Result(1, "rmmod: ERROR: Module nvidia is in use\n")

    running._rmmod = busy
    outcome = call(nvidia_driver, running, src=package())
    assert outcome.codes == ["module_in_use"] and "pid 4711 (python3 train.py)" in outcome.msg and "load: false" in outcome.msg
    assert "sh " + package() not in programs(running) and running.units["nvidia-vgpu-mgr"] == "active"


def test_idle_vgpus_are_not_removed_where_nothing_restores_them(running, package):
    running.vfs_on().add("0000:e8:00.4", "A40-8Q", UUID)
    outcome = call(nvidia_driver, running, src=package())
    assert outcome.codes == ["vgpus_exist"] and "550.163.02" in outcome.msg and "load: false" in outcome.msg and running.vgpus()


def test_an_old_release_has_no_way_around_a_loaded_driver(running, package):
    """The installer of release 535 requires an unloaded driver, even if a reboot follows. The reboot restores the idle vGPUs."""
    running.vfs_on().add("0000:e8:00.4", "A40-8Q", UUID)
    running.kernel.add_process(4711, "python3", ["python3", "train.py"], ["/dev/nvidiactl"])
    refused = call(nvidia_driver, running, check=True, src=package("535.309.01"), load=False)
    assert refused.codes == ["module_in_use"]
    for text in ("pid 4711 (python3 train.py)", "modprobe.blacklist=nvidia", "nvidia-uninstall"):
        assert text in refused.msg
    running.kernel.processes.clear()
    real = call(nvidia_driver, running, src=package("535.309.01"), load=False).ok
    assert real["actions"][:3] == [
        UUID + ": remove the idle vGPU until the reboot", "stop nvidia-vgpu-mgr, nvidia-dcgm", "unload the modules nvidia",
    ]
    assert running.vgpus() == [] and running.on_disk == "535.309.01"


def test_a_vgpu_that_is_taken_meanwhile_stays(running, package, monkeypatch):
    real = driver_plan.plan

    def plan(*args):
        steps = real(*args)
        running.kernel.use(UUID)
        return steps

    running.vfs_on().add("0000:e8:00.4", "A40-8Q", UUID)
    monkeypatch.setattr(driver_plan, "plan", plan)
    outcome = call(nvidia_driver, running, src=package("535.309.01"), load=False)
    assert outcome.codes == ["in_use"] and "VM web1" in outcome.msg and running.vgpus() and running.kernel.harm == []
    assert running.units["nvidia-vgpu-mgr"] == "active" and running.kernel.loaded == {"nvidia": "550.163.02"}


def test_the_flag_of_the_user_counts(running, package):
    real = call(nvidia_driver, running, src=package(), extra_arguments=[RUNNING]).ok
    assert real["actions"] == ["install the vGPU host driver 550.200.01 in place of 550.163.02"]


# --- what makes the installer fail


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("load", [True, False])
def test_nouveau_that_drives_a_gpu(make_host, package, version, load):
    host = bare(make_host())
    host.kernel.pfs()[0].driver = "nouveau"
    outcome = call(nvidia_driver, host, check=True, src=package(version), load=load)
    if not load and not version.startswith("535"):
        assert outcome.ok["changed"]
        return
    assert outcome.codes == ["gpu_on_nouveau"] and "0000:e8:00.0: the GPU is bound to nouveau" in outcome.msg
    assert "blacklist nouveau" in outcome.msg and "dracut --force" in outcome.msg
    assert ("load: false" in outcome.msg) == (not version.startswith("535"))


def test_an_x_server(make_host, package):
    host = bare(make_host())
    host.put("/tmp/.X0-lock", "       812\n")
    call(nvidia_driver, host, check=True, src=package()).ok
    host.kernel.add_process(812, "Xorg", ["/usr/lib/xorg/Xorg"], ["/dev/tty1"])
    outcome = call(nvidia_driver, host, check=True, src=package())
    assert outcome.codes == ["x_running"]
    for text in ("/tmp/.X0-lock", "pid 812", "isolate multi-user.target"):
        assert text in outcome.msg
    call(nvidia_driver, host, check=True, src=package(), load=False).ok
    call(nvidia_driver, host, check=True, src=package(), extra_arguments=["--no-x-check"]).ok


def test_a_driver_of_another_installer(make_host, package):
    host = bare(make_host())
    host.put(ALTERNATE, "")
    outcome = call(nvidia_driver, host, check=True, src=package())
    assert outcome.codes == ["alternate_install"] and ALTERNATE in outcome.msg and "dpkg -S" in outcome.msg
    host.owners[ALTERNATE] = "nvidia-kernel-common-550"
    outcome = call(nvidia_driver, host, check=True, src=package())
    assert "the package nvidia-kernel-common-550 manages the driver" in outcome.msg and "apt-get purge nvidia-kernel-common-550" in outcome.msg
    call(nvidia_driver, host, check=True, src=package(), extra_arguments=["--no-check-for-alternate-installs"]).ok


def test_a_driver_of_the_distribution_is_refused_before_anything_is_done(make_host, package):
    host = bare(make_host())
    host.on_disk = "550.163.01"
    for check in (True, False):
        outcome = call(nvidia_driver, host, check=check, src=package(), replace_datacenter=True)
        assert outcome.codes == ["no_uninstaller"] and "not_done" not in outcome.result and "apt or dnf" in outcome.msg
        assert call(nvidia_driver, host, check=check, state="absent").codes == ["no_uninstaller"]
    assert programs(host) == []


# --- the old driver after a failure


def test_what_is_left_of_the_old_driver_is_said(running, package):
    def half(argv, timeout):
        running.put("/usr/bin/nvidia-smi", "new")
        return Result(1, "ERROR: no space\n")

    running._installer = lambda argv, timeout: Result(1, "ERROR: a module is loaded\n")
    outcome = call(nvidia_driver, running, src=package(), load=False)
    assert "The previous driver 550.163.02 is undamaged. Fix the error" in outcome.msg
    running._installer = half
    outcome = call(nvidia_driver, running, src=package(), load=False)
    assert "The previous driver 550.163.02 is damaged" in outcome.msg and "Fix the error" in outcome.msg


def test_a_driver_that_was_uninstalled_before_is_not_called_damaged(make_host, package):
    host = bare(make_host())
    host.on_disk = "550.163.01"
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    host._installer = lambda argv, timeout: Result(1, "ERROR: no compiler\n")
    outcome = call(nvidia_driver, host, src=package(), replace_datacenter=True)
    assert outcome.codes == ["install_failed"] and "damaged" not in outcome.msg and "whole" not in outcome.msg
