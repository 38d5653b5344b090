# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the installation of the driver and its extraction from the vGPU software package."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from collections import namedtuple

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import apply as driver_apply, plan as driver_plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_driver_bundle, nvidia_gpu_info, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S

RUN = "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"


def bare(host):
    """Removes all NVIDIA drivers from the host and returns the host."""
    host.on_disk = None
    host.kernel.loaded.clear()
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    for pf in host.kernel.pfs():
        pf.driver = None
    return host


@pytest.fixture
def package(tmp_path):
    """Returns the path of a driver package that is on the host."""
    path = tmp_path / RUN
    path.write_text("")
    return str(path)


# --- nvidia_driver


def test_installed_once(make_host, package):
    host = bare(make_host())
    check = call(nvidia_driver, host, check=True, src=package).ok
    assert not [argv for argv in host.calls if argv[0] == "sh"]
    real = call(nvidia_driver, host, src=package, load=False).ok
    assert real["actions"] == check["actions"] == ["install the vGPU host driver 550.163.02"] and real["diff"] == check["diff"]
    (argv,) = [argv for argv in host.calls if argv[0] == "sh"]
    assert argv == ["sh", package, "--silent", "--dkms", "--no-nouveau-check", "--no-x-check", "--allow-installation-with-running-driver", "--skip-module-load"]
    assert real["driver"] == {"loaded": None, "on_disk": "550.163.02", "flavour": "vgpu", "nouveau_loaded": False, "scheduler": None}
    again = call(nvidia_driver, host, src=package).ok
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]


def test_arguments_of_the_installer():
    assert driver_apply.arguments(driver_plan.Request(), "550.163.02", None) == ["--silent", "--dkms"]
    old = driver_apply.arguments(driver_plan.Request(load=False, dkms=False), "535.161.05", "proprietary")
    assert old == ["--silent", "--no-dkms", "--no-nouveau-check", "--no-x-check"], "release 535 does not have --skip-module-load"
    new = driver_apply.arguments(driver_plan.Request(disable_nouveau=True, tmpdir="/var/tmp", extra=["--no-systemd"]), "580.65.05", "open")
    assert new == ["--silent", "--dkms", "--disable-nouveau", "--kernel-module-type=open", "--tmpdir=/var/tmp", "--no-systemd"]


def test_version_in_a_name():
    assert driver_plan.version_in(RUN) == "550.163.02"
    assert driver_plan.version_in("/x/550.1/nvidia-vgpu-ubuntu-580_580.95.02_amd64.deb") == "580.95.02"
    assert driver_plan.version_in("NVIDIA-vGPU-rhel-9.4-550.163.02.x86_64.rpm") == "550.163.02"
    assert driver_plan.version_in("NVIDIA.run") is None and driver_plan.version_in(None) is None


def test_all_refusals_are_reported_at_once(make_host, tmp_path):
    host = make_host().vfs_on()
    host.add("0000:e8:00.4", "A40-8Q", UUID)
    host.kernel.use(UUID)
    outcome = call(nvidia_driver, host, src=str(tmp_path / "NVIDIA-Linux-x86_64-570.86.01-vgpu-kvm.run"), version="580.65.05")
    assert sorted(outcome.codes) == ["in_use", "package_missing", "wrong_version"] and "VM web1" in outcome.msg
    assert host.on_disk == "550.163.02"
    assert call(nvidia_driver, host, state="absent").codes == ["in_use"]
    assert call(nvidia_driver, host, src="/x/NVIDIA.run").codes == ["no_version"]


def test_a_data_center_driver_is_replaced_only_on_request(make_host, package):
    host = bare(make_host())
    host.on_disk = "550.163.01"
    outcome = call(nvidia_driver, host, src=package)
    assert outcome.codes == ["driver_datacenter"] and "550.163.01" in outcome.msg and "replace_datacenter" in outcome.msg
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    outcome = call(nvidia_driver, host, src=package, replace_datacenter=True).ok
    assert outcome["actions"] == ["uninstall the data center driver 550.163.01", "install the vGPU host driver 550.163.02 in place of 550.163.01"]
    assert host.on_disk == "550.163.02"


def test_a_package_beside_nvidias_own_installation_is_no_hindrance(make_host, package):
    host = bare(make_host())
    host.on_disk, host.packages = "550.163.01", ["nvidia-kernel-common-535"]
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    assert call(nvidia_driver, host, src=package, replace_datacenter=True).ok["actions"][0] == "uninstall the data center driver 550.163.01"


@pytest.mark.parametrize("kind", ["host", "guest"])
def test_the_data_center_drivers_package_is_refused_by_name(make_host, tmp_path, kind):
    src = tmp_path / "NVIDIA-Linux-x86_64-550.163.01.run"
    src.write_text("")
    outcome = call(nvidia_driver, bare(make_host(driver=None)), check=True, src=str(src), kind=kind)
    assert "wrong_kind" in outcome.codes and "the package contains NVIDIA's data center driver" in outcome.msg


def test_a_driver_of_the_distribution_is_recognized(make_host, package):
    """Debian's module has another file name, and a modprobe rule loads it instead of NVIDIA's."""
    host = bare(make_host())
    lines = "install nvidia-uvm modprobe -i nvidia-current-uvm\n install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\n"
    host.put("/etc/modprobe.d/nvidia.conf", lines)
    host.on_disk, host.module, host.packages = "535.247.01", "nvidia-current", ["nvidia-driver", "nvidia-kernel-dkms"]
    driver = call(nvidia_gpu_info, host).ok["host"]["driver"]
    assert (driver["on_disk"], driver["flavour"]) == ("535.247.01", "datacenter")
    outcome = call(nvidia_driver, host, check=True, src=package)
    assert outcome.codes == ["driver_datacenter"] and "vgpu_driver_replace_datacenter: true" in outcome.msg
    assert "535.247.01" in outcome.msg and "'apt-get purge nvidia-driver nvidia-kernel-dkms'" in outcome.msg
    outcome = call(nvidia_driver, host, state="absent")
    assert outcome.codes == ["no_uninstaller"] and "'apt-get purge nvidia-driver nvidia-kernel-dkms'" in outcome.msg
    assert not [argv for argv in host.calls if argv[0] == "apt-get"], "without replace_datacenter, no package must be removed"
    host.put("/usr/bin/nvidia-vgpu-mgr", "")
    assert call(nvidia_gpu_info, host).ok["host"]["driver"]["flavour"] == "datacenter", "modprobe loads the module of the distribution"


@pytest.fixture
def debians(make_host):
    """Returns a host with Debian's driver, which is loaded."""
    host = bare(make_host())
    host.put("/etc/modprobe.d/nvidia.conf", "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\n")
    host.put("/usr/lib/nvidia/alternate-install-present", "")
    host.on_disk, host.module, host.packages = "535.247.01", "nvidia-current", ["libnvidia-ml1:amd64", "nvidia-driver", "nvidia-installer-cleanup"]
    host.dependents, host.owners["/usr/lib/nvidia/alternate-install-present"] = ["nvtop"], "nvidia-installer-cleanup"
    host.kernel.load("535.247.01")
    return host


def test_a_driver_of_the_distribution_is_replaced_on_request(debians, package):
    """Check mode lists all packages that the run removes. One package contains the file that makes the .run installer fail."""
    check = call(nvidia_driver, debians, check=True, src=package, replace_datacenter=True, load=False).ok
    assert debians.packages and not [argv for argv in debians.calls if argv[:2] == ["apt-get", "--yes"]]
    real = call(nvidia_driver, debians, src=package, replace_datacenter=True, load=False).ok
    assert real["actions"] == check["actions"] == [
        "remove the data center driver 535.247.01 (apt-get purge): libnvidia-ml1:amd64, nvidia-driver, nvidia-installer-cleanup, nvtop",
        "install the vGPU host driver 550.163.02 in place of 535.247.01",
    ]
    (purge,) = [argv for argv in debians.calls if argv[:2] == ["apt-get", "--yes"]]
    assert purge[4:] == ["purge", "libnvidia-ml1:amd64", "nvidia-driver", "nvidia-installer-cleanup"]
    assert (debians.on_disk, debians.packages) == ("550.163.02", [])
    assert not call(nvidia_driver, debians, src=package, replace_datacenter=True, load=False).ok["changed"]


@pytest.mark.parametrize("options", [{}, {"state": "absent"}])
def test_a_removal_of_packages_that_was_killed_is_continued(debians, package, options):
    """The killed removal has already deleted the module. Normally, the version of the module identifies the packages."""
    options = {"replace_datacenter": True, **(options or {"src": package, "load": False})}

    def killed(argv, timeout):
        if argv[0] == "--simulate":
            return debians._apt_get(argv, timeout)
        debians.packages, debians.dependents = ["libnvidia-ml1:amd64", "nvidia-installer-cleanup"], []
        debians.on_disk, debians.module = None, "nvidia"
        raise Died

    debians.programs["apt-get"] = killed
    with pytest.raises(Died):
        call(nvidia_driver, debians, **options)
    del debians.programs["apt-get"]
    first = "remove the remaining packages of a driver whose removal was interrupted (apt-get purge): libnvidia-ml1:amd64, nvidia-installer-cleanup"
    check = call(nvidia_driver, debians, check=True, **options).ok
    assert check["actions"] == [first, "install the vGPU host driver 550.163.02"][:1 if "state" in options else 2]
    assert call(nvidia_driver, debians, **options).ok["actions"] == check["actions"] and debians.packages == []
    assert not call(nvidia_driver, debians, **options).ok["changed"] and debians.get("/var/lib/vgpuctl/driver-removal") is None


def test_a_driver_of_the_distribution_is_removed_on_request(debians):
    outcome = call(nvidia_driver, debians, state="absent", replace_datacenter=True).ok
    assert outcome["actions"][0].startswith("remove the driver 535.247.01 (apt-get purge): ") and debians.on_disk is None
    assert not call(nvidia_driver, debians, state="absent", replace_datacenter=True).ok["changed"]


@pytest.mark.parametrize("kind", ["run", "deb"])
def test_one_way_of_installation_makes_room_for_the_other(make_host, tmp_path, kind):
    """NVIDIA's .run installer and NVIDIA's packages write the same files. Neither knows which files the other one wrote."""
    host = make_host()
    if kind == "run":
        host.packages = ["nvidia-vgpu-ubuntu-550"]
        name, first = "NVIDIA-Linux-x86_64-550.200.01-vgpu-kvm.run", "remove the vGPU host driver 550.163.02 (apt-get purge): nvidia-vgpu-ubuntu-550"
    else:
        host.put("/usr/bin/nvidia-uninstall", "", 0o755)
        name, first = "nvidia-vgpu-ubuntu-550_550.200.01_amd64.deb", "uninstall the vGPU host driver 550.163.02"
    src = tmp_path / name
    src.write_text("")
    options = {"src": str(src), "format": kind, "load": False}
    check = call(nvidia_driver, host, check=True, **options).ok
    assert check["actions"] == [first, "install the vGPU host driver 550.200.01 in place of 550.163.02"]
    real = call(nvidia_driver, host, **options).ok
    if kind == "run":
        assert real["actions"] == check["actions"] and (host.on_disk, host.packages) == ("550.200.01", [])
    else:
        assert real["actions"] == [first] and host.on_disk is None, "the apt module installs the package after this module"
        assert not [argv for argv in host.calls if argv[0] == "sh"]


def test_a_package_of_ours_is_updated_by_its_manager(make_host, tmp_path):
    host = make_host()
    host.packages = ["nvidia-vgpu-ubuntu-550"]
    src = tmp_path / "nvidia-vgpu-ubuntu-550_550.200.01_amd64.deb"
    src.write_text("")
    options = {"src": str(src), "format": "deb", "load": False}
    assert call(nvidia_driver, host, check=True, **options).ok["actions"] == ["install the vGPU host driver 550.200.01 in place of 550.163.02"]
    assert call(nvidia_driver, host, **options).ok["actions"] == [] and host.on_disk == "550.163.02"
    host.kernel.add_process(4711, "python3", ["python3", "train.py"], ["/dev/nvidia0"])
    assert call(nvidia_driver, host, **options).codes == ["in_use"], "apt does not check for users of the GPU"
    host.kernel.processes.clear()
    assert call(nvidia_driver, host, state="absent").ok["actions"] == ["remove the driver 550.163.02 (apt-get purge): nvidia-vgpu-ubuntu-550"]


def test_packages_that_would_stay_are_reported_before_anything_is_done(debians, package):
    debians.programs["apt-get"] = lambda argv, timeout: Result(100, "E: Unable to correct problems, you have held broken packages.\n")
    for check in (True, False):
        outcome = call(nvidia_driver, debians, check=check, src=package, replace_datacenter=True, load=False)
        assert outcome.codes == ["packages_stay"] and "held broken packages" in outcome.msg and "not_done" not in outcome.result


def test_a_module_that_its_package_leaves_is_reported(debians, package):
    """If dkms fails, Debian's package leaves its module on disk. The kernel could load that module at the next boot."""
    real = debians._apt_get

    def leaves(argv, timeout):
        answer = real(argv, timeout)
        debians.on_disk, debians.module = "535.247.01", "nvidia-current"
        return answer

    debians.programs["apt-get"] = leaves
    outcome = call(nvidia_driver, debians, src=package, replace_datacenter=True, load=False)
    assert outcome.codes == ["uninstall_failed"] and "the nvidia-current module is still on disk" in outcome.msg and "dkms status" in outcome.msg


def test_packages_that_stay_are_named(debians, package):
    real = debians._apt_get
    debians.programs["apt-get"] = lambda argv, timeout: real(argv, timeout) if argv[0] == "--simulate" else Result(100, "E: Could not get lock\n")
    outcome = call(nvidia_driver, debians, src=package, replace_datacenter=True, load=False)
    assert outcome.codes == ["uninstall_failed"] and "these packages are still installed: libnvidia-ml1:amd64, nvidia-driver" in outcome.msg
    assert "Could not get lock" in outcome.msg and "sh" not in [argv[0] for argv in debians.calls]


def test_a_half_done_replacement_is_completed(make_host, package):
    """The data center driver is uninstalled but still loaded. The installation of the vGPU driver failed or was interrupted."""
    host = bare(make_host())
    host.kernel.load("550.163.01")
    outcome = call(nvidia_driver, host, check=True, src=package, replace_datacenter=True, load=False).ok
    assert outcome["actions"] == ["install the vGPU host driver 550.163.02"]
    assert not call(nvidia_driver, host, check=True, state="absent").ok["changed"]
    host.put(install_mark.DRIVER, "")
    outcome = call(nvidia_driver, host, check=True, src=package, replace_datacenter=True, load=False).ok
    assert outcome["actions"] == ["install the vGPU host driver 550.163.02 (an earlier installation was interrupted)"]
    outcome = call(nvidia_driver, host, state="absent")
    assert outcome.codes == ["no_uninstaller"] and "state: present" in outcome.msg and "apt" not in outcome.msg
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    outcome = call(nvidia_driver, host, src=package, replace_datacenter=True, load=False).ok
    assert outcome["actions"][0] == "uninstall the data center driver 550.163.01" and host.on_disk == "550.163.02"


@pytest.mark.parametrize("uninstaller", [False, True])
def test_an_interrupted_installation_needs_no_word_to_go_on(make_host, package, uninstaller):
    """The interrupted installer has removed the programs of the old driver, but the old module is still loaded.

    This module must not count as a data center driver.
    """
    host = bare(make_host())
    host.kernel.load("535.161.05")
    if uninstaller:
        host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    host.put(install_mark.DRIVER, "")
    assert [one["code"] for one in call(nvidia_gpu_info, host, health=True).ok["problems"] if one["code"].startswith("driver")] == ["driver_unfinished"]
    assert call(nvidia_driver, host, src=package, load=False).ok["actions"][-1].startswith("install the vGPU host driver 550.163.02")
    assert host.on_disk == "550.163.02"


@pytest.mark.parametrize("check", [True, False])
def test_idle_vgpus_do_not_end_an_interrupted_installation(make_host, package, check):
    """The interrupted installer has removed nvidia-smi. The old driver is still loaded and has vGPUs, whose users only /proc shows."""
    host = make_host(gpus=[("0000:e8:00.0", A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]).ok
    host.kernel.load("550.144.02")
    host.on_disk = None
    for name in ("nvidia-smi", "nvidia-vgpu-mgr"):
        os.unlink(host.root + "/usr/bin/" + name)
    host.programs["nvidia-smi"] = lambda argv, timeout: Result(127, "nvidia-smi: No such file or directory")
    outcome = call(nvidia_driver, host, check=check, src=package, load=False)
    assert outcome.codes == ["in_use", "in_use"] and "nvidia-smi is not installed" in outcome.msg, "without the mark, it is unknown who uses the vGPUs"
    host.put(install_mark.DRIVER, "")
    group = next(iter(host.kernel.mdevs.values())).group
    host.kernel.add_process(4711, "qemu-system-x86", ["qemu-system-x86_64", "-name", "guest=web1"], ["/dev/vfio/%s" % group])
    outcome = call(nvidia_driver, host, check=check, src=package, load=False)
    assert outcome.codes == ["in_use"] and "web1" in outcome.msg
    del host.kernel.processes[4711]
    assert call(nvidia_driver, host, check=check, src=package, load=False).ok["actions"][-1].startswith("install the vGPU host driver 550.163.02")


def test_uninstalled(make_host):
    host = make_host()
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    assert call(nvidia_driver, host, state="absent").ok["actions"] == ["uninstall the driver 550.163.02"]
    assert host.on_disk is None
    bare_host = bare(make_host())
    assert not call(nvidia_driver, bare_host, state="absent").ok["changed"]


@pytest.mark.parametrize(
    "answer, words",
    [
        (Result(1, "ERROR: Unable to build the kernel module\n"), ["exited with status 1", "Unable to build"]),
        (Result(124, "building\n", True), ["did not finish within 1800 seconds", "building"]),
        (Result(0, "done\n"), ["reported success", "driver version on disk is none"]),
    ],
)
def test_a_failed_installation_shows_the_log(make_host, package, answer, words):
    host = bare(make_host())
    host.put("/var/log/nvidia-installer.log", "begin\n\ncc: not found\n")
    real = host.command
    host.ctx.command = lambda argv, timeout, env=None, keeps_lock=False: answer if argv[0] == "sh" else real(argv, timeout, env)
    outcome = call(nvidia_driver, host, src=package)
    assert outcome.codes == ["install_failed"]
    for word in words + ["cc: not found", "/var/log/nvidia-installer.log"]:
        assert word in outcome.msg


def test_the_flavour_follows_the_gpus(make_host, tmp_path):
    new = tmp_path / "NVIDIA-Linux-x86_64-580.65.05-vgpu-kvm.run"
    new.write_text("")
    host = bare(make_host(gpus=[("0000:e8:00.0", L40S)]))
    call(nvidia_driver, host, src=str(new)).ok
    assert "--kernel-module-type=open" in [argv for argv in host.calls if argv[0] == "sh"][0]
    host = bare(make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", L40S)]))
    outcome = call(nvidia_driver, host, src=str(new))
    assert outcome.codes == ["mixed_flavours"] and "0000:e7:00.0 (A40)" in outcome.msg and "0000:e8:00.0 (L40S)" in outcome.msg
    call(nvidia_driver, host, src=str(new), module_type="open").ok


def test_installers_that_take_no_module_type_suit_mixed_gpus(make_host, package):
    host = bare(make_host(gpus=[("0000:e7:00.0", A40), ("0000:e8:00.0", L40S)]))
    assert call(nvidia_driver, host, check=True, src=package).ok["changed"]
    call(nvidia_driver, host, src=package).ok
    assert not [word for argv in host.calls for word in argv if "module-type" in word]


# --- nvidia_driver_bundle

HOST_MEMBER = "Host_Drivers/" + RUN


@pytest.fixture
def bundle(tmp_path):
    """Returns a function that creates a zip file from {name of a member: content}."""

    def build(members, name="NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"):
        path = str(tmp_path / name)
        with zipfile.ZipFile(path, "w") as handle:
            for member, content in members.items():
                handle.writestr(member, content)
        return path

    return build


GOOD = {
    HOST_MEMBER: "host driver",
    "Host_Drivers/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb": "deb",
    "Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run": "guest driver",
    "Guest_Drivers/nvidia-linux-grid-550_550.163.01_amd64.deb": "guest deb",
    "Guest_Drivers/nvidia-linux-grid-550-550.163.01-1.x86_64.rpm": "guest rpm",
    "Signing_Keys/readme.txt": "",
}


def test_a_package_is_extracted_once(make_host, bundle, tmp_path):
    host, src, dest = make_host(), bundle(GOOD), str(tmp_path / "out")
    digest = hashlib.sha256(open(src, "rb").read()).hexdigest()
    check = call(nvidia_driver_bundle, host, check=True, src=src, dest=dest, checksum="sha256:" + digest.upper()).ok
    assert not os.path.exists(dest)
    real = call(nvidia_driver_bundle, host, src=src, dest=dest, checksum="sha256:" + digest).ok
    assert (real["path"], real["version"], real["actions"], real["diff"]) == (dest + "/" + RUN, "550.163.02", check["actions"], check["diff"])
    assert open(real["path"]).read() == "host driver" and os.listdir(dest) == [RUN]
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o700 and stat.S_IMODE(os.stat(real["path"]).st_mode) == 0o600
    assert not call(nvidia_driver_bundle, host, src=src, dest=dest).ok["changed"]


@pytest.mark.parametrize(
    "kind, form, name",
    [
        ("guest", "run", "NVIDIA-Linux-x86_64-550.163.01-grid.run"),
        ("guest", "deb", "nvidia-linux-grid-550_550.163.01_amd64.deb"),
        ("guest", "rpm", "nvidia-linux-grid-550-550.163.01-1.x86_64.rpm"),
        ("host", "deb", "nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb"),
    ],
)
def test_each_package(make_host, bundle, tmp_path, kind, form, name):
    outcome = call(nvidia_driver_bundle, make_host(), src=bundle(GOOD), dest=str(tmp_path / "out"), kind=kind, format=form).ok
    assert outcome["path"].endswith("/" + name)


def test_ai_enterprise_names_its_package_otherwise(make_host, bundle, tmp_path):
    src = bundle({"Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm-aie.run": "x"}, "NVIDIA-AI-Enterprise-Linux-KVM-1.zip")
    assert call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out")).ok["version"] == "550.163.02"


def test_a_bundle_is_known_by_its_content(make_host, bundle, tmp_path):
    src = bundle(GOOD, "download")
    assert call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out"), kind="guest").ok["version"] == "550.163.01"


def test_a_bundle_of_one_distribution_names_the_format_that_it_has(make_host, bundle, tmp_path):
    members = {"Host_Drivers/nvidia-vgpu-ubuntu-525_525.85.07_amd64.deb": "", "Guest_Drivers/NVIDIA-Linux-x86_64-525.85.05-grid.run": ""}
    src = bundle(members, "NVIDIA-GRID-Ubuntu-KVM-525.85.07-525.85.05-528.24.zip")
    outcome = call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out"), format="run")
    assert outcome.codes == ["package_not_found"] and "Set 'format: deb' (in roles, the vgpu_driver_format variable)." in outcome.msg
    assert call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out"), format="deb").ok["version"] == "525.85.07"


UBUNTU = 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n'
ROCKY = 'ID=rocky\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4"\n'


@pytest.mark.parametrize(
    "release, kind, members, form",
    [
        (UBUNTU, "host", ("run", "deb"), "run"),
        (ROCKY, "host", ("run", "deb"), "run"),
        (UBUNTU, "host", ("deb", "rpm"), "deb"),
        (ROCKY, "host", ("deb", "rpm"), "rpm"),
        (UBUNTU, "guest", ("run", "deb", "rpm"), "run"),
        (ROCKY, "host", ("deb",), None),
    ],
)
def test_the_format_follows_the_bundle_and_the_distribution(make_host, bundle, tmp_path, release, kind, members, form):
    host, names = make_host(), {
        "host": {"run": HOST_MEMBER, "deb": "nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb", "rpm": "NVIDIA-vGPU-rhel-9.4-550.163.02.x86_64.rpm"},
        "guest": {"run": "G/x-550.163.01-grid.run", "deb": "nvidia-linux-grid-550_550.163.01_amd64.deb", "rpm": "nvidia-linux-grid-1.x86_64.rpm"},
    }
    host.put("/etc/os-release", release)
    src = bundle({names[kind][one]: "" for one in members})
    outcome = call(nvidia_driver_bundle, host, src=src, dest=str(tmp_path / "out"), kind=kind)
    if form:
        assert outcome.ok["format"] == form and outcome["path"].endswith("." + form)
    else:
        assert (
            outcome.codes == ["wrong_format"]
            and "the bundle contains the host driver only as deb packages, but the distribution is Rocky Linux 9.4" in outcome.msg
        )
    explicit = call(nvidia_driver_bundle, host, src=src, dest=str(tmp_path / "out"), kind=kind, format=members[-1])
    assert explicit.ok["format"] == members[-1], "an explicit format takes precedence"


def test_a_path_in_the_zip_decides_nothing(make_host, bundle, tmp_path):
    src = bundle({"../../../../tmp/evil/../" + RUN: "x"})
    outcome = call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "a" / "out")).ok
    assert outcome["path"] == str(tmp_path / "a" / "out" / RUN)
    found = [os.path.join(directory, name) for directory, dummy, names in os.walk(str(tmp_path)) for name in names if name.endswith(".run")]
    assert found == [outcome["path"]]


def test_a_package_by_itself_needs_no_bundle(make_host, package, tmp_path):
    outcome = call(nvidia_driver_bundle, make_host(), src=package, dest=str(tmp_path / "out")).ok
    assert outcome["path"] == package and not outcome["changed"]


@pytest.mark.parametrize(
    "members, code, words",
    [
        ({"Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run": ""}, "package_not_found", ["no run package", "grid.run", "*-vgpu-kvm*.run"]),
        ({HOST_MEMBER: "", "Old/NVIDIA-Linux-x86_64-535.1.02-vgpu-kvm.run": ""}, "package_not_found", ["2 run packages", "535.1.02"]),
    ],
)
def test_a_bundle_without_the_one_package(make_host, bundle, tmp_path, members, code, words):
    outcome = call(nvidia_driver_bundle, make_host(), src=bundle(members), dest=str(tmp_path / "out"))
    assert outcome.codes == [code]
    for word in words:
        assert word in outcome.msg


def test_damaged_and_missing_bundles(make_host, bundle, tmp_path):
    host, src, dest = make_host(), bundle(GOOD), str(tmp_path / "out")
    outcome = call(nvidia_driver_bundle, host, src=src, dest=dest, checksum="sha256:" + "0" * 64)
    assert outcome.codes == ["wrong_checksum"] and "0" * 64 in outcome.msg and src in outcome.msg
    assert call(nvidia_driver_bundle, host, src=src, dest=dest, checksum="md5:12").codes == ["bad_checksum"]
    assert call(nvidia_driver_bundle, host, src=src + "x", dest=dest).codes == ["bundle_missing"]
    broken = str(tmp_path / "broken.zip")
    with open(broken, "wb") as handle:
        handle.write(open(src, "rb").read()[:40])
    assert call(nvidia_driver_bundle, host, src=broken, dest=dest).codes == ["bad_zip"]
    other = tmp_path / "other.run"
    other.write_text("")
    assert call(nvidia_driver_bundle, host, src=str(other), dest=dest).codes == ["wrong_package"]


def test_no_space_is_reported_before_the_write(make_host, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(1 << 30, 1 << 30, 1 << 20))
    outcome = call(nvidia_driver_bundle, make_host(), src=bundle(GOOD), dest=str(tmp_path / "out"))
    assert outcome.codes == ["no_space"] and "1 MiB are free" in outcome.msg and os.listdir(str(tmp_path / "out")) == []


def test_a_write_that_fails_leaves_nothing(make_host, bundle, tmp_path, monkeypatch):
    def full(*dummy):
        raise OSError(28, "No space left on device")

    src = bundle(GOOD)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    outcome = call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out"))
    assert outcome.codes == ["extract_failed"] and "No space left" in outcome.msg and os.listdir(str(tmp_path / "out")) == []


def test_a_half_written_package_is_extracted_again(make_host, bundle, tmp_path):
    host, src, dest = make_host(), bundle(GOOD), tmp_path / "out"
    dest.mkdir()
    (dest / RUN).write_text("half")
    assert call(nvidia_driver_bundle, host, src=src, dest=str(dest)).ok["changed"]
    assert (dest / RUN).read_text() == "host driver"


def test_a_package_of_the_same_size_but_another_content_is_extracted_again(make_host, bundle, tmp_path):
    host, src, dest = make_host(), bundle(GOOD), tmp_path / "out"
    dest.mkdir()
    (dest / RUN).write_text("HOST DRIVER")
    assert call(nvidia_driver_bundle, host, src=src, dest=str(dest)).ok["changed"]
    assert (dest / RUN).read_text() == "host driver"


def test_what_a_killed_extraction_left_is_removed(make_host, bundle, tmp_path):
    """Without this cleanup, each killed extraction would leave a file as large as the driver on disk."""
    src, dest = bundle(GOOD), str(tmp_path / "out")
    os.makedirs(dest)
    for name in (RUN + ".ab12cd.part", "other.part"):
        with open(os.path.join(dest, name), "w", encoding="utf-8") as handle:
            handle.write("half")
    assert call(nvidia_driver_bundle, make_host(), src=src, dest=dest).ok["changed"]
    assert sorted(os.listdir(dest)) == [RUN, "other.part"]


def strange(name=HOST_MEMBER, content=b"x", mode=0o100644):
    """Returns (ZipInfo, content) of a zip member that NVIDIA's bundles do not contain."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info, content


@pytest.mark.parametrize(
    "member, words",
    [
        (strange(mode=0o120777, content=b"/etc/shadow"), "a symbolic link or a device"),
        (strange(mode=0o020644), "a symbolic link or a device"),
        (strange(content=bytes(200 << 20)), "expand from 0 MiB to 200 MiB"),
        (strange(name="Host_Drivers/$(reboot)-vgpu-kvm.run"), "characters"),
        (strange(name="Host_Drivers/x\n-vgpu-kvm.run"), "characters"),
        (strange(name="Host_Drivers/-vgpu-kvm.run"), "characters"),
    ],
)
def test_a_zip_that_is_a_trap_is_not_unpacked(make_host, tmp_path, member, words):
    src = str(tmp_path / "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip")
    with zipfile.ZipFile(src, "w") as handle:
        handle.writestr(*member)
    outcome = call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out"))
    assert outcome.codes == ["unsafe_zip"] and words in outcome.msg and "\n" not in outcome.msg
    assert not os.path.exists(str(tmp_path / "out"))


def test_an_encrypted_zip_is_reported(make_host, bundle, tmp_path):
    src = bundle(GOOD)
    data = bytearray(open(src, "rb").read())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(sign)
        data[at + offset] |= 1
    with open(src, "wb") as handle:
        handle.write(data)
    outcome = call(nvidia_driver_bundle, make_host(), src=src, dest=str(tmp_path / "out"))
    assert outcome.codes == ["unsafe_zip"] and "encrypted" in outcome.msg


def test_a_link_in_the_way_of_the_package_is_replaced_and_not_followed(make_host, bundle, tmp_path):
    dest, victim = tmp_path / "out", tmp_path / "victim"
    dest.mkdir()
    victim.write_text("host driver")
    (dest / RUN).symlink_to(victim)
    path = call(nvidia_driver_bundle, make_host(), src=bundle(GOOD), dest=str(dest)).ok["path"]
    assert not os.path.islink(path) and victim.read_text() == "host driver"
