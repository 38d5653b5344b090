# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The installer, on trees that look like machines (NVIDIA_INSTALLER_ROOT)."""
from __future__ import annotations

import os
import re
import shutil
import tempfile

import pytest
from bundle_support import KERNEL, put, run, tree

FILES = {
    "usr/bin/nvidia-installer", "usr/bin/nvidia-uninstall", "usr/bin/nvidia-smi", "usr/bin/nvidia-vgpud", "usr/bin/nvidia-vgpu-mgr",
    "usr/lib/nvidia/sriov-manage", "usr/share/nvidia/vgpu/vgpuConfig.xml", "var/lib/nvidia/log",
    f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia.ko", f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia_vgpu_vfio.ko",
}
UNITS = {
    f"{folder}/{unit}.service"
    for folder in ("usr/lib/systemd/system", "etc/systemd/system/multi-user.target.wants") for unit in ("nvidia-vgpud", "nvidia-vgpu-mgr")
}


@pytest.fixture
def install(dot_run, machine):
    """Run the .run on the machine; returns the CompletedProcess."""
    def go(*options, kernel=KERNEL, silent=True, **env):
        words = (["-s"] if silent else []) + ([f"--kernel-name={kernel}"] if kernel else []) + list(options)
        return run("sh", dot_run, *words, NVIDIA_INSTALLER_ROOT=machine, **env)
    return go


def log(machine):
    return (machine / "var/log/nvidia-installer.log").read_text()


def test_installs_prebuilt_module_tools_and_units(install, machine):
    done = install("--skip-module-load")
    assert (done.returncode, done.stdout) == (0, "")
    assert set(tree(machine)) == FILES | UNITS
    assert (machine / f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia.ko").read_bytes() == b"nvidia" * 5000
    assert os.readlink(machine / "usr/bin/nvidia-uninstall") == "nvidia-installer"
    assert (machine / "usr/lib/nvidia/sriov-manage").stat().st_mode & 0o777 == 0o755
    assert (machine / "usr/lib/systemd/system/nvidia-vgpud.service").stat().st_mode & 0o777 == 0o644
    lines = log(machine).splitlines()
    assert lines[0] == "nvidia-installer log file '/var/log/nvidia-installer.log'"
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines[1:])
    assert lines[-1].endswith("is now complete.")


def test_speaks_when_not_silent(install):
    done = install("--ui=none", "--no-questions", silent=False)
    assert done.returncode == 0
    assert "Using the prebuilt kernel modules" in done.stdout
    assert "is now complete" in done.stdout


def test_uninstall_leaves_nothing(install, machine):
    before = tree(machine)
    assert install().returncode == 0
    done = run("bash", machine / "usr/bin/nvidia-uninstall", "-s", NVIDIA_INSTALLER_ROOT=machine)
    assert (done.returncode, done.stdout) == (0, "")
    assert tree(machine) == before
    assert not (machine / "usr/lib/nvidia").exists()
    done = install("--uninstall", kernel=None)
    assert done.returncode == 1
    assert "no NVIDIA driver installed by this installer" in done.stdout


def test_second_installation_replaces_the_first(install, machine):
    assert install().returncode == 0
    put(machine, "usr/bin/old-tool", "x")
    with (machine / "var/lib/nvidia/log").open("a") as record:
        record.write("file /usr/bin/old-tool\n")
    assert install().returncode == 0
    assert set(tree(machine)) == FILES | UNITS


def test_installed_copy_cannot_install(install, machine):
    assert install().returncode == 0
    done = run("bash", machine / "usr/bin/nvidia-installer", "-s", NVIDIA_INSTALLER_ROOT=machine)
    assert done.returncode == 1
    assert "can only uninstall" in done.stdout


def test_no_systemd(install, machine):
    assert install("--no-systemd").returncode == 0
    assert set(tree(machine)) == FILES


def test_every_known_flag_is_taken(install, machine, tmp_path):
    done = install(
        "--silent", "--ui=none", "--no-questions", "--disable-nouveau", "--no-nouveau-check", "--skip-module-load", "--skip-module-unload",
        "--skip-depmod", "--no-check-for-alternate-installs", "--rebuild-initramfs", "--no-rebuild-initramfs", "--kernel-module-type=open",
        "--kernel-name", KERNEL, "--tmpdir", tmp_path, "--log-file-name=/var/log/other.log", "--no-opengl-files", "--no-x-check", "--no-drm",
        "--no-backup", "--no-install-compat32-libs", "--accept-license", "-a", "-q", "--concurrency-level=2",
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "--accept-license is obsolete and ignored" in (machine / "var/log/other.log").read_text()


@pytest.mark.parametrize("options, words", [
    (["--frobnicate"], 'unrecognized option: "--frobnicate"'),
    (["--frobnicate=1"], 'unrecognized option: "--frobnicate=1"'),
    (["--dkms=yes"], 'unrecognized option: "--dkms=yes"'),
    (["-Z"], 'unrecognized option: "-Z"'),
    (["stray"], 'unrecognized option: "stray"'),
    (["--log-file-name"], 'requires an argument: "--log-file-name"'),
    (["--kernel-module-type=closed"], "invalid kernel module type"),
])
def test_wrong_options_are_named_and_change_nothing(install, machine, options, words):
    before = tree(machine)
    done = install(*options)
    assert done.returncode == 1
    assert words in done.stdout
    assert tree(machine) == before
    assert not (machine / "var/log/nvidia-installer.log").exists()


@pytest.mark.parametrize("option, words", [
    ("-h", "--dkms"), ("--help", "--silent"), ("-A", "--no-nouveau-check"), ("--advanced-options", "--module-signing-hash"),
    ("-v", "version 550.163.02"), ("--version", "version 550.163.02"),
])
def test_information(dot_run, option, words):
    done = run("sh", dot_run, option)
    assert done.returncode == 0
    assert words in done.stdout


def test_nouveau_refuses(install, machine):
    (machine / "sys/module/nouveau").mkdir()
    before = tree(machine)
    done = install()
    assert done.returncode == 1
    assert "Nouveau kernel driver is currently in use" in done.stdout
    assert "/var/log/nvidia-installer.log" in done.stdout
    assert tree(machine) == before


def test_disable_nouveau_writes_and_still_refuses(install, machine):
    (machine / "sys/module/nouveau").mkdir()
    done = install("--disable-nouveau")
    assert done.returncode == 1
    assert "reboot" in done.stdout
    assert set(tree(machine)) == {"etc/modprobe.d/nvidia-installer-disable-nouveau.conf"}
    conf = (machine / "etc/modprobe.d/nvidia-installer-disable-nouveau.conf").read_text().splitlines()
    assert conf[-2:] == ["blacklist nouveau", "options nouveau modeset=0"]
    assert install("--no-nouveau-check").returncode == 0


@pytest.mark.parametrize("path", [
    "var/lib/dpkg/info/nvidia-vgpu-ubuntu-550.list", "var/lib/dpkg/info/nvidia-driver-bin.list",
    "usr/lib/nvidia/alternate-install-present", "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
])
def test_other_installations_refuse(install, machine, path):
    put(machine, path)
    before = tree(machine)
    done = install()
    assert done.returncode == 1
    assert "alternate method of installation was detected" in done.stdout.lower()
    assert tree(machine) == before


def test_loaded_module_refuses(install, machine):
    put(machine, "sys/module/nvidia/version", "535.104.06\n")
    before = tree(machine)
    done = install()
    assert done.returncode == 1
    assert "version 535.104.06" in done.stdout
    assert "in use" in done.stdout
    assert tree(machine) == before
    assert install("--skip-module-unload").returncode == 0


def test_vgpus_refuse_and_are_named(install, machine):
    put(machine, "sys/module/nvidia/version", "550.163.02\n")
    uuid = "3f6e0c1e-7f0e-4f8e-9a43-1f0f6c6d7a01"
    (machine / "sys/bus/mdev/devices" / uuid).mkdir(parents=True)
    done = install()
    assert done.returncode == 1
    assert uuid in done.stdout
    assert install("--skip-module-unload").returncode == 0
    done = install("--uninstall", kernel=None)
    assert done.returncode == 1
    assert uuid in done.stdout
    assert (machine / "usr/bin/nvidia-smi").exists()


def test_builds_for_a_kernel_without_prebuilt_module(install, machine):
    put(machine, "lib/modules/6.6.6/build/Makefile")
    done = install(kernel="6.6.6")
    assert done.returncode == 0, done.stdout + log(machine)
    built = (machine / "lib/modules/6.6.6/kernel/drivers/video/nvidia.ko").read_text()
    assert built.split() == ["built", "for", "6.6.6", "with", f"{machine}/lib/modules/6.6.6/build"]
    assert "nvidia-build" not in " ".join(tree(machine))


def test_prebuilt_module_can_be_declined(install, machine):
    put(machine, f"lib/modules/{KERNEL}/build/Makefile")
    assert install("--no-precompiled-interface").returncode == 0
    assert "built for" in (machine / f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia.ko").read_text()


def test_failed_build_takes_all_away(install, machine, tmp_path):
    put(machine, "lib/modules/6.6.6/build/Makefile")
    before = tree(machine)
    bin_dir = tmp_path / "bin"
    make = put(bin_dir, "make", "#!/bin/sh\necho the compiler is unhappy\nexit 2\n")
    make.chmod(0o755)
    place = tmp_path / "build"
    place.mkdir()
    done = install(f"--tmpdir={place}", kernel="6.6.6", PATH=f"{bin_dir}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "cannot be built for 6.6.6" in done.stdout
    assert "the compiler is unhappy" in log(machine)
    assert tree(machine) == before
    assert list(place.iterdir()) == []


def test_missing_build_tools_are_all_named(install, machine, tmp_path):
    (machine / "lib/modules/6.6.6").mkdir()
    before = tree(machine)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name in ("bash", "sh", "tail", "gzip", "tar", "sha256sum", "stat", "mktemp", "mkdir", "rm", "cp", "mv", "chmod", "install", "ln", "dirname",
                 "uname", "rmdir", "readlink", "find", "nproc"):
        (bin_dir / name).symlink_to(f"/usr/bin/{name}")
    done = install("--dkms", kernel="6.6.6", PATH=bin_dir)
    assert done.returncode == 1
    assert "missing:" in done.stdout
    assert "kernel headers of 6.6.6" in done.stdout
    # The installer adds the sbin folders to PATH; what is there by chance cannot be missing.
    for name in ("dkms", "make"):
        if not any(os.path.exists(f"{d}/{name}") for d in ("/usr/sbin", "/sbin")):
            assert name in done.stdout.split("missing:")[1]
    assert tree(machine) == before


def test_unknown_kernel(install, machine):
    before = tree(machine)
    done = install(kernel="1.2.3")
    assert done.returncode == 1
    assert "no kernel 1.2.3" in done.stdout
    assert tree(machine) == before


def test_signing_needs_both_keys(install, machine, tmp_path):
    key = put(tmp_path, "key")
    done = install(f"--module-signing-secret-key={key}")
    assert done.returncode == 1
    assert "--module-signing-public-key" in done.stdout
    done = install(f"--module-signing-secret-key={key}", f"--module-signing-public-key={key}")
    assert done.returncode == 1
    assert "sign-file is missing" in done.stdout
    assert not tree(machine)
    sign = put(machine, f"lib/modules/{KERNEL}/build/scripts/sign-file", '#!/bin/sh\necho "signed $1" >> "$4"\n')
    sign.chmod(0o755)
    done = install(f"--module-signing-secret-key={key}", f"--module-signing-public-key={key}", "--module-signing-hash=sha512")
    assert done.returncode == 0, done.stdout
    assert (machine / f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia.ko").read_bytes().endswith(b"signed sha512\n")


def test_too_little_space(install, machine, tmp_path):
    bin_dir = tmp_path / "bin"
    stat = put(bin_dir, "stat", f'#!/bin/sh\ncase "$*" in *{machine}*) echo 10 4096 ;; *) exec /usr/bin/stat "$@" ;; esac\n')
    stat.chmod(0o755)
    done = install(PATH=f"{bin_dir}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "40 KiB free" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_wants_root(dot_run):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        copy = shutil.copy(dot_run, name)
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", copy, "-s", cwd="/")
    assert done.returncode == 1
    assert "must be run as root" in done.stdout
