# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the installer on file trees of machines (NVIDIA_INSTALLER_ROOT)."""
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


RELEASES = {535: "535.161.05", 550: "550.163.02", 570: "570.124.02", 580: "580.105.02", 595: "595.058.02"}
MODULE, FLAG = "An NVIDIA kernel module", "--allow-installation-with-running-driver"
UUID = "3f6e0c1e-7f0e-4f8e-9a43-1f0f6c6d7a01"


@pytest.fixture(scope="module")
def unpacked_run(dot_run, tmp_path_factory):
    """Return the directory with the extracted content of the .run."""
    top = tmp_path_factory.mktemp("run") / "unpacked"
    assert run("sh", dot_run, "-x", "--target", top).returncode == 0
    return top


@pytest.fixture
def release(unpacked_run, tmp_path, machine):
    """Run the installer of another release on the machine."""
    def go(number, *options, **env):
        folder = tmp_path / str(number)
        if not folder.exists():
            shutil.copytree(unpacked_run, folder)
            path = folder / "nvidia-installer"
            path.write_text(path.read_text().replace("550.163.02", RELEASES[number]))
        return run(folder / "nvidia-installer", "-s", f"--kernel-name={KERNEL}", *options, NVIDIA_INSTALLER_ROOT=machine, **env)
    return go


@pytest.fixture
def no_compiler(tmp_path):
    """Return a directory with programs for PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh", "tail", "gzip", "tar", "sha256sum", "stat", "mktemp", "mkdir", "rm", "cp", "mv", "chmod", "install", "ln", "dirname",
                 "uname", "rmdir", "readlink", "find", "nproc"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    return folder


@pytest.fixture
def install(dot_run, machine):
    """Run the .run on the machine's tree. Return the CompletedProcess."""
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
    assert re.match("creation time: ", lines[1]) and lines[2] == "installer version: 550.163.02"
    assert all(re.match("-> ", line) for line in lines[lines.index("Using built-in stream user interface") + 1:])
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
    assert "is complete" in (machine / "var/log/nvidia-uninstall.log").read_text()
    done = install("--uninstall", kernel=None)
    assert done.returncode == 0
    assert "no NVIDIA driver currently installed" in (machine / "var/log/nvidia-uninstall.log").read_text()


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
    assert "No package found for installation" in done.stdout


def test_no_systemd(install, machine):
    assert install("--no-systemd").returncode == 0
    assert set(tree(machine)) == FILES


def test_every_known_flag_is_taken(install, machine, tmp_path):
    done = install(
        "--silent", "--ui=none", "--no-questions", "--disable-nouveau", "--no-nouveau-check", "--skip-module-load", "--skip-module-unload",
        "--skip-depmod", "--no-check-for-alternate-installs", "--rebuild-initramfs", "--no-rebuild-initramfs", FLAG, "--no-dkms",
        "--kernel-name", KERNEL, "--tmpdir", tmp_path, "--log-file-name=/var/log/other.log", "--no-opengl-files", "--no-x-check", "--no-drm",
        "--no-backup", "--no-install-compat32-libs", "--accept-license", "-a", "-q", "--concurrency-level=2",
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "    --accept-license\n" in (machine / "var/log/other.log").read_text()


@pytest.mark.parametrize("options, words", [
    (["--frobnicate"], 'unrecognized option: "--frobnicate"'),
    (["--frobnicate=1"], 'unrecognized option: "--frobnicate=1"'),
    (["--dkms=yes"], 'unrecognized option: "--dkms=yes"'),
    (["-Y"], 'unrecognized option: "-Y"'),
    (["stray"], 'unrecognized option: "stray"'),
    (["--log-file-name"], 'requires an argument: "--log-file-name"'),
    (["--kernel-module-type=open"], 'unrecognized option: "--kernel-module-type=open"'),
    (["--no-silent"], 'unrecognized option: "--no-silent"'),
])
def test_wrong_options_are_named_and_change_nothing(install, machine, options, words):
    before = tree(machine)
    done = install(*options)
    assert done.returncode == 1
    assert words in done.stdout and "ERROR: Invalid commandline" in done.stdout
    assert tree(machine) == before
    assert not (machine / "var/log/nvidia-installer.log").exists()


@pytest.mark.parametrize("option, since", [
    (FLAG, 545), ("--rebuild-initramfs", 545), ("--no-rebuild-initramfs", 545), ("--skip-module-load", 550), ("--kernel-module-type=open", 560),
    ("--no-dkms", 0), ("--no-systemd", 0), ("--disable-nouveau", 0), ("-z", 0), ("--skip-module-unload", 0),
])
@pytest.mark.parametrize("number", RELEASES)
def test_a_release_knows_its_options(release, machine, number, option, since):
    done = release(number, option)
    if number >= since:
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 1 and f'unrecognized option: "{option}"' in done.stdout and not tree(machine)


def test_a_wrong_kernel_module_type(release):
    done = release(580, "--kernel-module-type=closed")
    assert done.returncode == 1 and "Invalid kernel-module-type" in done.stdout


@pytest.mark.parametrize("option, words", [
    ("-h", "--version"), ("--help", "--advanced-options"), ("-A", "--no-nouveau-check"), ("--advanced-options", "--module-signing-hash"),
    ("-v", "version 550.163.02"), ("--version", "version 550.163.02"),
])
def test_information(dot_run, option, words):
    done = run("sh", dot_run, option)
    assert done.returncode == 0
    assert words in done.stdout


@pytest.fixture
def nouveau(machine):
    """Make nouveau the driver of a GPU."""
    device = machine / "sys/bus/pci/devices/0000:e8:00.0"
    device.mkdir(parents=True)
    (device / "driver").symlink_to("../../../../bus/pci/drivers/nouveau")
    (machine / "etc/modprobe.d").mkdir()
    return {"etc/modprobe.d/nvidia-installer-disable-nouveau.conf"}


@pytest.mark.parametrize("number", RELEASES)
def test_nouveau_ends_it(release, machine, nouveau, number):
    before = tree(machine)
    for options in ([], [] if number < 545 else [FLAG]):
        done = release(number, *options)
        assert done.returncode == 1
        assert "Nouveau kernel driver is currently in use" in done.stdout and "/var/log/nvidia-installer.log" in done.stdout
        assert tree(machine) == before


@pytest.mark.parametrize("number", RELEASES)
def test_disable_nouveau_writes_and_goes_on_only_with_the_flag(release, machine, nouveau, number):
    before = set(tree(machine))
    done = release(number, "--disable-nouveau")
    assert done.returncode == 1 and set(tree(machine)) - before == nouveau
    conf = (machine / min(nouveau)).read_text().splitlines()
    assert conf[-2:] == ["blacklist nouveau", "options nouveau modeset=0"]
    if number < 545:
        return
    assert "(Answer: Abort installation)" in log(machine) and "Rebuild initramfs" in log(machine)
    assert release(number).returncode == 1, "nouveau still drives a GPU, so the modprobe files must not be sufficient"
    assert release(number, FLAG).returncode == 0


@pytest.mark.parametrize("number", [550, 595])
def test_both_in_one_go(release, machine, nouveau, number):
    done = release(number, "--disable-nouveau", FLAG)
    assert done.returncode == 0, done.stdout
    assert nouveau < set(tree(machine)) and "Rebuild initramfs" in log(machine)


@pytest.mark.parametrize("number", RELEASES)
def test_without_the_check_nothing_is_written(release, machine, nouveau, number):
    assert release(number, "--disable-nouveau", "--no-nouveau-check").returncode == 0
    assert not nouveau & set(tree(machine))


@pytest.mark.parametrize("number", RELEASES)
def test_a_nouveau_that_drives_nothing_is_not_seen(release, machine, number):
    (machine / "sys/module/nouveau").mkdir()
    (machine / "etc/modprobe.d").mkdir()
    assert release(number, "--disable-nouveau").returncode == 0
    written = "etc/modprobe.d/nvidia-installer-disable-nouveau.conf" in tree(machine)
    assert written == (number < 545), "releases from 545 on must write the file only if nouveau drives a GPU"


@pytest.mark.parametrize("number", RELEASES)
def test_an_alternate_installation_ends_it_late(release, machine, number):
    put(machine, "usr/lib/nvidia/alternate-install-present", "nvidia-driver\n")
    before = tree(machine)
    done = release(number)
    assert done.returncode == 1 and tree(machine) == before
    assert "canceled due to the availability or presence of an alternate driver installation" in done.stdout
    assert "Installation has failed" not in done.stdout
    assert release(number, "--no-check-for-alternate-installs").returncode == 0


def test_what_nvidia_does_not_look_at(install, machine):
    put(machine, "var/lib/dpkg/info/nvidia-driver-bin.list")
    put(machine, "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")
    assert install().returncode == 0


@pytest.mark.parametrize("number", RELEASES)
def test_a_loaded_module_in_use_ends_it(release, machine, number):
    put(machine, "sys/module/nvidia/refcnt", "3\n")
    put(machine, "sys/module/nvidia_vgpu_vfio/refcnt", "1\n")
    before = tree(machine)
    done = release(number, "--skip-module-unload", "--no-x-check")
    assert done.returncode == 1 and tree(machine) == before
    words = "to already be" if number < 545 else "to be already"
    assert f"'nvidia-vgpu-vfio' appears {words} loaded in your kernel" in done.stdout and "Installation has failed" in done.stdout
    if number >= 545:
        assert "(Answer: Abort installation)" in log(machine)
        assert release(number, FLAG).returncode == 0 and "(Answer: Continue installation)" in log(machine)
        assert (machine / "sys/module/nvidia").exists()


@pytest.mark.parametrize("number", RELEASES)
def test_an_idle_module_is_unloaded(release, machine, number):
    put(machine, "sys/module/nvidia/refcnt", "0\n")
    put(machine, "sys/module/nvidia_vgpu_vfio/refcnt", "0\n")
    (machine / "sys/bus/mdev/devices" / UUID).mkdir(parents=True)
    assert release(number).returncode == 0
    assert not (machine / "sys/module/nvidia").exists() and not (machine / "sys/module/nvidia_vgpu_vfio").exists()


def test_a_daemon_keeps_it_loaded(release, machine):
    put(machine, "sys/module/nvidia/refcnt", "0\n")
    put(machine, "proc/77/cmdline", "bash\0/usr/bin/nvidia-vgpu-mgr\0")
    assert release(550).returncode == 1
    assert release(550, FLAG).returncode == 0 and (machine / "sys/module/nvidia").exists()


@pytest.mark.parametrize("number", RELEASES)
def test_a_running_x_server_ends_it(release, machine, number):
    put(machine, "tmp/.X3-lock", "      4711\n")
    assert release(number).returncode == 0, "a lock file without a running process must not stop the installer"
    put(machine, "proc/4711/comm", "Xorg\n")
    before = tree(machine)
    done = release(number)
    assert done.returncode == 1 and "Installation has failed" in done.stdout and tree(machine) == before
    assert release(number, "--no-x-check").returncode == 0


def test_the_order_of_the_checks(release, machine, nouveau):
    put(machine, "tmp/.X0-lock", "4711\n")
    put(machine, "proc/4711/comm", "Xorg\n")
    put(machine, "sys/module/nvidia/refcnt", "3\n")
    put(machine, "usr/lib/nvidia/alternate-install-present")
    seen = []
    for options in ([], ["--no-x-check"], ["--no-x-check", FLAG], ["--no-x-check", FLAG, "--no-check-for-alternate-installs"]):
        done = release(580, *options)
        assert done.returncode == 1
        seen.append([word for word in ("X server", MODULE, "alternate", "Nouveau") if word in done.stdout + log(machine)][-1])
    assert seen == ["X server", MODULE, "alternate", "Nouveau"]


def test_uninstalling_leaves_a_module_in_use_loaded(install, machine):
    assert install().returncode == 0
    put(machine, "sys/module/nvidia/refcnt", "1\n")
    done = install("--uninstall", kernel=None)
    assert done.returncode == 0 and "stays loaded until the next boot" in done.stdout
    assert not (machine / "usr/bin/nvidia-smi").exists()


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


def test_a_failed_build_changes_nothing(install, machine, tmp_path):
    put(machine, "lib/modules/6.6.6/build/Makefile")
    before = tree(machine)
    bin_dir = tmp_path / "bin"
    make = put(bin_dir, "make", "#!/bin/sh\necho the compiler is unhappy\nexit 2\n")
    make.chmod(0o755)
    place = tmp_path / "build"
    place.mkdir()
    done = install(f"--tmpdir={place}", kernel="6.6.6", PATH=f"{bin_dir}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert 'An error occurred while performing the step: "Building kernel modules"' in done.stdout
    assert "the compiler is unhappy" in log(machine)
    assert tree(machine) == before
    assert list(place.iterdir()) == []


def test_the_old_driver_is_whole_until_the_new_module_is_built(install, machine, tmp_path):
    assert install().returncode == 0
    put(machine, "lib/modules/6.6.6/build/Makefile")
    before = tree(machine)
    make = put(tmp_path / "bin", "make", "#!/bin/sh\nexit 2\n")
    make.chmod(0o755)
    assert install(kernel="6.6.6", PATH=f"{tmp_path}/bin:{os.environ['PATH']}").returncode == 1
    assert tree(machine) == before


def test_missing_headers_end_it(install, machine):
    (machine / "lib/modules/6.6.6").mkdir()
    before = tree(machine)
    done = install(kernel="6.6.6")
    assert done.returncode == 1 and "Unable to find the kernel source tree for the currently running kernel" in done.stdout
    assert tree(machine) == before


def test_a_missing_compiler_ends_it_and_is_named_alone(install, machine, no_compiler):
    put(machine, "lib/modules/6.6.6/build/Makefile")
    before = tree(machine)
    done = install(kernel="6.6.6", PATH=no_compiler)
    assert done.returncode == 1 and tree(machine) == before
    assert "Unable to find the development tool `cc` in your path" in done.stdout and "'gcc'" in done.stdout and "`make`" not in done.stdout


@pytest.mark.parametrize("number", RELEASES)
def test_newer_releases_look_for_the_compiler_before_nouveau(release, machine, nouveau, no_compiler, number):
    """A missing tool stops the installer without a message about the log, as in NVIDIA's installer. A prebuilt module requires no compiler."""
    before = tree(machine)
    done = release(number, "--no-precompiled-interface", PATH=no_compiler)
    first = "development tool `cc`" if number >= 560 else "Nouveau kernel driver is currently in use"
    assert done.returncode == 1 and first in done.stdout and tree(machine) == before, done.stdout
    assert ("Installation has failed" in done.stdout) == (number < 560)
    assert "Nouveau" in release(number, PATH=no_compiler).stdout


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


@pytest.mark.skipif(os.geteuid() != 0, reason="requires root, because the test changes the user")
def test_wants_root(dot_run):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        copy = shutil.copy(dot_run, name)
        done = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", copy, "-s", cwd="/")
    assert done.returncode == 1
    assert "must be run as root" in done.stdout
