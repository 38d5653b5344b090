# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the table in docs/drivers.md, which shows how the driver role handles each installed driver, as check mode plans it on a fake host.

If VGPU_DRIVERS_PAGE names a file, the test writes the page to that file instead of comparing it.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path

import pytest

from ansible_collections.vgpu.kvm.plugins.lookup import driver_files
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.driver import removal_mark
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.state import install_mark
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_host_plan
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.guest import Guest
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host

PAGE = Path(__file__).resolve().parents[3] / "docs" / "drivers.md"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
OLD, PLAIN = "550.144.02", "550.163.01"
UNINSTALL = "/usr/bin/nvidia-uninstall"
UBUNTU = 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n'
DEBIAN = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
ROCKY = 'ID=rocky\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4"\n'
# Bundles by kind: the file name of the zip, and its packages by format.
BUNDLES = {
    "host": ("NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip", {
        "run": "Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "deb": "Host_Drivers/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb",
        "rpm": "Host_Drivers/NVIDIA-vGPU-rhel-9.4-550.163.02.x86_64.rpm",
    }),
    "535": ("NVIDIA-GRID-Linux-KVM-535.161.05-535.161.05-538.33.zip", {"run": "Host_Drivers/NVIDIA-Linux-x86_64-535.161.05-vgpu-kvm.run"}),
    "guest": ("NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip", {
        "run": "Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run", "deb": "Guest_Drivers/nvidia-linux-grid-550_550.163.01_amd64.deb",
    }),
}


# --- states of the installed driver


def nothing(host):
    """Leave the machine without a driver."""
    host.on_disk = None
    host.kernel.loaded.clear()
    for name in ("nvidia-vgpu-mgr", "nvidia-gridd"):
        if os.path.exists(host.root + "/usr/bin/" + name):
            os.unlink(host.root + "/usr/bin/" + name)
    for pf in host.kernel.pfs():
        pf.driver = None


def same(host):
    """Install the bundle's version and load it."""
    host.put(UNINSTALL, "", 0o755)


def other(host):
    """Install another version from a .run file, load it, and start its services."""
    host.on_disk = OLD
    host.kernel.load(OLD)
    host.put(UNINSTALL, "", 0o755)
    host.units = {"nvidia-vgpu-mgr": "active"}


def not_loaded(host):
    """Install another version, but do not load it."""
    other(host)
    host.kernel.loaded.clear()
    host.units = {}
    for pf in host.kernel.pfs():
        pf.driver = None


def with_vgpus(host):
    """Install another version, and create a vGPU that no VM uses."""
    other(host)
    host.vfs_on().add("0000:e8:00.4", "A40-8Q", UUID)


def in_vm(host):
    """Install another version, and create a vGPU that a VM uses."""
    with_vgpus(host)
    host.kernel.use(UUID)


def job(host):
    """Install another version, and start a program that uses the GPU directly."""
    other(host)
    host.kernel.add_process(4711, "python3", ["python3", "train.py"], ["/dev/nvidia0"])


def own_package(host):
    """Install another version from a package in NVIDIA's bundle."""
    other(host)
    os.unlink(host.root + UNINSTALL)
    host.packages = ["nvidia-vgpu-ubuntu-550"]


def plain(host):
    """Install the data center driver from NVIDIA's .run file."""
    nothing(host)
    host.on_disk = PLAIN
    host.kernel.load(PLAIN)
    host.put(UNINSTALL, "", 0o755)


def debians(host):
    """Install Debian's driver. Its module has another file name, and its marker file shows NVIDIA's installer that packages own the driver."""
    nothing(host)
    host.put("/etc/modprobe.d/nvidia.conf", "install nvidia modprobe -i nvidia-current $CMDLINE_OPTS\n")
    host.put("/usr/lib/nvidia/alternate-install-present", "")
    host.owners["/usr/lib/nvidia/alternate-install-present"] = "nvidia-installer-cleanup"
    host.on_disk, host.module = "535.261.03", "nvidia-current"
    host.packages = ["libnvidia-ml1:amd64", "nvidia-driver", "nvidia-installer-cleanup", "nvidia-kernel-dkms"]
    host.kernel.load(host.on_disk)


def half_gone(host):
    """Interrupt the removal of Debian's driver after the package with the module was removed. No module is loaded."""
    debians(host)
    nothing(host)
    host.put(removal_mark.PATH, "".join(word + "\n" for word in ["apt-get", "purge", *host.packages]))
    host.module, host.packages = "nvidia", ["libnvidia-ml1:amd64", "nvidia-installer-cleanup"]


def ubuntus(host):
    """Install Ubuntu's driver, and nvtop, which depends on one of the driver's libraries."""
    nothing(host)
    host.on_disk, host.packages, host.dependents = PLAIN, ["libnvidia-compute-550:amd64", "nvidia-dkms-550", "nvidia-driver-550"], ["nvtop"]
    host.kernel.load(host.on_disk)


def cuda(host):
    """Install the driver from NVIDIA's CUDA repository with apt."""
    nothing(host)
    host.on_disk, host.packages = PLAIN, ["cuda-drivers", "libnvidia-compute", "nvidia-driver", "nvidia-kernel-open-dkms"]
    host.kernel.load(host.on_disk)


def fusion(host):
    """Install RPM Fusion's driver with dnf."""
    nothing(host)
    host.on_disk, names = PLAIN, ["akmod-nvidia", "kmod-nvidia-5.14.0", "xorg-x11-drv-nvidia", "xorg-x11-drv-nvidia-cuda-libs"]
    host.programs["dpkg-query"] = lambda argv, timeout: Result(127, "dpkg-query: No such file or directory\n")
    host.programs["rpm"] = lambda argv, timeout: Result(0, "".join("%s %s\n" % (name, PLAIN) for name in names))
    host.programs["dnf"] = lambda argv, timeout: Result(1, "Removing:\n" + "".join(" %s  x86_64  3:%s-1  @fusion  1 M\n" % (name, PLAIN) for name in names))
    host.kernel.load(host.on_disk)


def half(host):
    """Interrupt an installation, so that the mark of the running installation stays."""
    nothing(host)
    host.on_disk = OLD
    host.put("/usr/bin/nvidia-vgpu-mgr", "")
    host.put(install_mark.DRIVER, "")


def nouveau(host):
    """Load nouveau and bind the GPUs to it."""
    nothing(host)
    for pf in host.kernel.pfs():
        pf.driver = "nouveau"
    host.kernel.loaded = {"nouveau": ""}


def old_guest(host):
    """Install another version of the guest driver."""
    host.on_disk = "550.144.01"
    host.kernel.load("550.144.01")
    host.put(UNINSTALL, "", 0o755)


# Text of the row, function that sets up the state, os-release, replace_datacenter, kind of bundle
ROWS = (
    ("Host: nothing", nothing, UBUNTU, False, "host"),
    ("Host: the bundle's version, loaded", same, UBUNTU, False, "host"),
    ("Host: another version (`.run`), not loaded", not_loaded, UBUNTU, False, "host"),
    ("Host: another version (`.run`), loaded, idle", other, UBUNTU, False, "host"),
    ("Host: the same, with idle vGPUs", with_vgpus, UBUNTU, False, "host"),
    ("Host: the same, and the bundle is of a release before 545", with_vgpus, UBUNTU, False, "535"),
    ("Host: another version, a VM has a vGPU", in_vm, UBUNTU, False, "host"),
    ("Host: another version, a program uses a GPU", job, UBUNTU, False, "host"),
    ("Host: another version as `.deb` of NVIDIA's bundle", own_package, UBUNTU, False, "host"),
    ("Host: an interrupted installation", half, UBUNTU, False, "host"),
    ("Host: nouveau drives the GPU", nouveau, UBUNTU, False, "host"),
    ("Host: data center driver by `.run`", plain, UBUNTU, False, "host"),
    ("Host: the same, replacement allowed", plain, UBUNTU, True, "host"),
    ("Host: Debian's packages", debians, DEBIAN, False, "host"),
    ("Host: the same, replacement allowed", debians, DEBIAN, True, "host"),
    ("Host: the same, whose removal was interrupted", half_gone, DEBIAN, True, "host"),
    ("Host: Ubuntu's packages, and a program that needs one of them", ubuntus, UBUNTU, False, "host"),
    ("Host: the same, replacement allowed", ubuntus, UBUNTU, True, "host"),
    ("Host: packages of NVIDIA's CUDA repository", cuda, UBUNTU, False, "host"),
    ("Host: the same, replacement allowed", cuda, UBUNTU, True, "host"),
    ("Host: RPM Fusion's packages", fusion, ROCKY, False, "host"),
    ("Host: the same, replacement allowed", fusion, ROCKY, True, "host"),
    ("VM: nothing", nothing, UBUNTU, False, "guest"),
    ("VM: another version (`.run`), loaded", old_guest, UBUNTU, False, "guest"),
    ("VM: nouveau has the vGPU", nouveau, UBUNTU, False, "guest"),
    ("VM: data center driver by `.run`", plain, UBUNTU, False, "guest"),
    ("VM: the same, replacement allowed", plain, UBUNTU, True, "guest"),
    ("VM: Debian's packages, replacement allowed", debians, DEBIAN, True, "guest"),
)


def cell(actions, errors):
    """Return the numbered steps of a plan, or its errors."""
    if errors:
        return "<br>".join("refused, [`%s`](troubleshooting.md#%s): %s" % (one["code"], one["code"], one["found"]) for one in errors)
    return "<br>".join("%d. %s" % one for one in enumerate(actions, 1)) or "nothing"


def stage(host, kind, form, word, directory):
    """Return the plan of the driver stage as a table cell."""
    name, members = BUNDLES[kind]
    os.makedirs(str(directory), exist_ok=True)
    with zipfile.ZipFile(str(directory / name), "w") as handle:
        handle.writestr(members[form], "")
    of = "host" if kind == "535" else kind
    options = {"folders": [str(directory)], "kind": of, "key": "", "certificate": "", "keys_on_host": False}
    supply = json.loads(json.dumps(driver_files.read(name, options)))
    driver = {"kind": of, "supply": supply, "format": form, "reboots": True, "replace_datacenter": word}
    outcome = call(nvidia_host_plan, host, stages=["driver"], driver=driver).ok
    assert outcome.writes == 0
    plan = outcome["plans"]["driver"]
    return cell(plan.get("actions"), plan.get("errors"))


def rows(tmp_path):
    """Yield the text and the cells of each row of the table."""
    for number, (text, make, release, word, kind) in enumerate(ROWS):
        cells = []
        forms = [form for form in ("run", "rpm" if release == ROCKY else "deb") if form in BUNDLES[kind][1]]
        for form in [*forms, None]:
            host = (Guest if kind == "guest" else Host)(tmp_path / ("%d-%s" % (number, form)))
            make(host)
            host.put("/etc/os-release", release)
            if form:
                cells.append(stage(host, kind, form, word, tmp_path / ("bundles-%d-%s" % (number, form))))
                continue
            outcome = call(nvidia_driver, host, check=True, state="absent", kind="guest" if kind == "guest" else "host", replace_datacenter=word)
            cells.append(cell(outcome.result.get("actions"), outcome.result.get("errors")))
        yield text, cells if len(forms) == 2 else [cells[0], "", cells[1]]


def test_the_page_has_what_is_planned(tmp_path):
    found = list(rows(tmp_path))
    lines = ["| %s |" % " | ".join([text, *(one.replace("|", "\\|") for one in cells)]) for text, cells in found]
    table = "\n".join(["| there is | `.run` | `.deb` or `.rpm` | no driver |", "|---|---|---|---|", *lines])
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    expected = re.sub(r"(?<=<!-- table -->\n\n).*?(?=\n\n<!-- end -->)", lambda match: table, page, flags=re.DOTALL)
    if os.environ.get("VGPU_DRIVERS_PAGE"):
        Path(os.environ["VGPU_DRIVERS_PAGE"]).write_text(expected, encoding="utf-8")
        pytest.skip("written")
    assert page == expected, "To update the page, run: VGPU_DRIVERS_PAGE=$PWD/docs/drivers.md make unit TESTS=tests/unit/docs/test_driver_table.py"
    assert table in page


def test_what_the_issue_asks_of_the_table(tmp_path):
    """The table has each kind of row, and each column that would change the driver has a refusal."""
    found = dict(reversed(list(rows(tmp_path))))
    assert found["Host: the bundle's version, loaded"][:2] == ["nothing", "nothing"]
    for text in ("Host: another version, a VM has a vGPU", "Host: another version, a program uses a GPU"):
        assert all("`in_use`" in one for one in found[text]), found[text]
    for text in ("Host: Debian's packages", "Host: RPM Fusion's packages", "Host: packages of NVIDIA's CUDA repository"):
        assert ["`driver_datacenter`" in one for one in found[text][:2]] == [True, True] and "`no_uninstaller`" in found[text][2], found[text]
