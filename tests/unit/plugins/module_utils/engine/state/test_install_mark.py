# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests interrupted driver installations."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.base import refusals
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.read import host as host_reader
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

RUN = "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run"


@pytest.fixture
def package(tmp_path):
    """Returns the path of a driver package that is on the host."""
    path = tmp_path / RUN
    path.write_text("")
    return str(path)


def test_an_interrupted_installation_is_done_again(host, package):
    """After an interrupted installation, the module has the right version, but other files of the driver might be empty."""
    host.put(install_mark.DRIVER, "")
    driver = host_reader.read_driver(host.ctx)
    assert (driver.on_disk, driver.unfinished) == (None, True) and "unfinished" not in driver.as_dict()
    assert host_reader.read_driver(host.ctx, trusting=True).on_disk == "550.163.02"
    wrong = refusals.driver_error(driver)
    assert wrong.code == "driver_unfinished" and "the driver role" in wrong.remedy
    outcome = call(nvidia_driver, host, src=package, load=False).ok
    assert outcome["actions"] == ["install the vGPU host driver 550.163.02 (an earlier installation was interrupted)"]
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


@pytest.mark.parametrize("ended", [Result(1, "ERROR: a driver is loaded"), Result(-9, "Killed")])
def test_an_installer_that_touched_nothing_leaves_the_old_driver_whole(host, tmp_path, ended):
    """If NVIDIA's installer fails or is killed during its first check, the old driver is undamaged, and the next boot can restore its vGPUs."""
    newer = tmp_path / RUN.replace("163.02", "200.01")
    newer.write_text("")
    host.put("/lib/modules/6.1.0-50-amd64/updates/nvidia.ko", "")
    real, host._installer = host._installer, lambda argv, timeout: ended
    assert call(nvidia_driver, host, src=str(newer), load=False).codes == ["install_failed"]
    driver = host_reader.read_driver(host.ctx)
    assert (driver.on_disk, driver.unfinished) == ("550.163.02", False)
    host.put("/lib/modules/6.1.0-51-amd64/modules.dep", "")  # another kernel is installed before the next run
    assert not host_reader.read_driver(host.ctx).unfinished
    host._installer = real
    assert call(nvidia_driver, host, src=str(newer), load=False).ok["actions"] == ["install the vGPU host driver 550.200.01 in place of 550.163.02"]
    assert host.get(install_mark.DRIVER) is None


@pytest.mark.parametrize(
    "touched",
    [
        "/lib/modules/6.1.0-50-amd64/updates/nvidia.ko",
        "/usr/bin/nvidia-smi",
        "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.200.01",
        "/lib/firmware/nvidia/550.163.02/gsp_ga10x.bin",
    ],
)
def test_an_installer_that_touched_a_file_leaves_no_driver(host, package, touched):
    host.put("/lib/modules/6.1.0-50-amd64/updates/nvidia.ko", "")
    install_mark.begin(host.root, install_mark.DRIVER)
    assert not host_reader.read_driver(host.ctx).unfinished
    host.put(touched, "")
    assert host_reader.read_driver(host.ctx).unfinished


def test_an_earlier_interrupted_installation_stays_one(host, package):
    """If the next installation fails too, the files from the interrupted installation are still damaged."""
    install_mark.begin(host.root, install_mark.DRIVER)
    host.put("/usr/bin/nvidia-smi", "")
    host._installer = lambda argv, timeout: Result(1, "ERROR: no compiler")
    assert call(nvidia_driver, host, src=package).codes == ["install_failed"]
    assert host_reader.read_driver(host.ctx).unfinished


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
    assert outcome["actions"] == ["uninstall the driver whose installation was interrupted"]
    assert host.get(install_mark.DRIVER) is None and not call(nvidia_driver, host, state="absent").ok["changed"]


class Killed(BaseException):
    """Simulates SIGKILL. The code under test does not catch this exception."""


@pytest.mark.parametrize("after", ["present", "absent"])
def test_an_interrupted_uninstallation_leaves_no_driver(host, package, after):
    """An interrupted uninstallation can leave the module without other files. If the driver counted as installed, no run would install it again."""
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    host.put("/usr/bin/nvidia-smi", "", 0o755)
    good = host.programs.get("nvidia-uninstall")

    def killed(argv, timeout):
        os.unlink(host.root + "/usr/bin/nvidia-smi")
        raise Killed

    host.programs["nvidia-uninstall"] = killed
    with pytest.raises(Killed):
        call(nvidia_driver, host, state="absent")
    driver = host_reader.read_driver(host.ctx)
    assert (driver.on_disk, driver.unfinished) == (None, True)
    if good:
        host.programs["nvidia-uninstall"] = good
    else:
        del host.programs["nvidia-uninstall"]
    arguments = {"state": "absent"} if after == "absent" else {"src": package, "load": False}
    assert call(nvidia_driver, host, **arguments).ok["changed"]
    assert host.get(install_mark.DRIVER) is None and host_reader.read_driver(host.ctx).unfinished is False


def test_an_uninstaller_that_touched_nothing_leaves_the_driver_whole(host):
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    host.programs["nvidia-uninstall"] = lambda argv, timeout: Result(1, "ERROR: in use")
    assert call(nvidia_driver, host, state="absent").codes == ["uninstall_failed"]
    assert host_reader.read_driver(host.ctx).on_disk == "550.163.02" and host.get(install_mark.DRIVER) is None
