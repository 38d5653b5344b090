# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the zip, the .run as an archive, and the .deb."""
from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
import zipfile

import build_bundle
import pytest
from bundle_support import KERNEL, run


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_layout_and_name(bundle):
    assert bundle.name == "NVIDIA-GRID-Linux-KVM-550.163.02-550.163.01-553.74.zip"
    assert zipfile.ZipFile(bundle).namelist() == [
        "Guest_Drivers/NVIDIA-Linux-x86_64-550.163.01-grid.run",
        "Guest_Drivers/README.txt",
        "Guest_Drivers/nvidia-linux-grid-550_550.163.01_amd64.deb",
        "Host_Drivers/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run",
        "Host_Drivers/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb",
        "LICENSE.txt",
        "README.txt",
    ]


def test_same_inputs_same_bytes_and_quick(tmp_path, bundle, inputs):
    modules, source = inputs
    started = time.monotonic()
    again = build_bundle.build(tmp_path, {KERNEL: modules}, source, ({KERNEL: modules[:1]}, source))
    assert time.monotonic() - started < 20
    assert digest(again) == digest(bundle)


def test_other_module_other_bytes(tmp_path, bundle, inputs):
    modules, source = inputs
    other = tmp_path / "nvidia.ko"
    other.write_bytes(b"another")
    again = build_bundle.build(tmp_path / "out", {KERNEL: [other, modules[1]]}, source)
    assert digest(again) != digest(bundle)


@pytest.mark.parametrize("modules, source, words", [
    ("absent.ko", ".", "is not a kernel module"),
    ("nvidia_vgpu_vfio.ko", ".", "do not include nvidia.ko"),
    ("nvidia.ko", "empty", "has no Makefile"),
])
def test_missing_inputs_are_named(tmp_path, capsys, modules, source, words):
    for name in ("nvidia.ko", "nvidia_vgpu_vfio.ko", "Makefile"):
        (tmp_path / name).write_text("")
    (tmp_path / "empty").mkdir()
    rc = build_bundle.main([
        str(tmp_path / "out"), "--module", str(tmp_path / modules), "--kernel-version", KERNEL, "--source", str(tmp_path / source),
    ])
    assert rc == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_run_checks_itself(dot_run, tmp_path):
    done = run("sh", dot_run, "--check")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "All good.")
    broken = tmp_path / "broken.run"
    content = bytearray(dot_run.read_bytes())
    content[-100] ^= 1
    broken.write_bytes(content)
    for option in ("--check", "--version", "--extract-only"):
        done = run("sh", broken, option, cwd=tmp_path)
        assert done.returncode == 2
        assert "damaged or incomplete" in done.stdout


def test_run_info_and_list(dot_run):
    done = run("sh", dot_run, "--info")
    assert done.returncode == 0
    assert "550.163.02" in done.stdout
    assert "Makeself" in done.stdout
    done = run("sh", dot_run, "--list")
    assert done.returncode == 0
    assert f"./prebuilt/{KERNEL}/nvidia.ko" in done.stdout.splitlines()


def test_run_extracts_to_its_name_and_not_twice(dot_run, tmp_path):
    done = run("sh", dot_run, "-x", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    top = tmp_path / "NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm"
    files = {str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()}
    assert {"nvidia-installer", "MANIFEST", "kernel/Makefile", "kernel/nvidia.c", "kernel/dkms.conf",
            f"prebuilt/{KERNEL}/nvidia.ko", f"prebuilt/{KERNEL}/nvidia_vgpu_vfio.ko", "tools/sriov-manage"} <= files
    assert not files & {"kernel/nvidia.o", "kernel/nvidia.mod.c"}
    assert "@VERSION@" not in (top / "nvidia-installer").read_text()
    done = run("sh", dot_run, "--extract-only", cwd=tmp_path)
    assert done.returncode == 1
    assert "already exists" in done.stdout
    done = run("sh", dot_run, "--extract-only", "--target", tmp_path / "elsewhere", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "elsewhere" / "MANIFEST").is_file()


def test_temporary_files_go_where_told_and_away(dot_run, tmp_path):
    place = tmp_path / "tmp"
    place.mkdir()
    assert run("sh", dot_run, f"--tmpdir={place}", "--version").returncode == 0
    assert list(place.iterdir()) == []
    done = run("sh", dot_run, "--tmpdir", tmp_path / "absent", "--version")
    assert done.returncode == 1
    assert "does not exist" in done.stdout


def test_dkms_conf_is_what_dkms_reads(unpacked, dot_run, tmp_path):
    run("sh", dot_run, "-x", "--target", tmp_path / "t")
    script = (
        'kernelver=K; kernel_source_dir=D; . "$1"; '
        'echo "$PACKAGE_NAME $PACKAGE_VERSION $AUTOINSTALL ${BUILT_MODULE_NAME[*]} ${DEST_MODULE_LOCATION[1]}"; echo "${MAKE[0]}"'
    )
    done = run("bash", "-c", script, "-", tmp_path / "t/kernel/dkms.conf")
    assert done.stdout.splitlines() == [
        "nvidia 550.163.02 yes nvidia nvidia_vgpu_vfio /kernel/drivers/video", "make KDIR=D KERNEL_UNAME=K"]


def test_deb(unpacked, tmp_path):
    deb = unpacked / "Host_Drivers/nvidia-vgpu-ubuntu-550_550.163.02_amd64.deb"
    fields = subprocess.run(["dpkg-deb", "-f", deb, "Package", "Version", "Conflicts", "Provides"],
                            check=True, text=True, capture_output=True).stdout
    assert "Package: nvidia-vgpu-ubuntu-550\nVersion: 550.163.02\n" in fields
    assert "nvidia-driver" in fields
    subprocess.run(["dpkg-deb", "-R", deb, tmp_path / "d"], check=True)
    top = tmp_path / "d"
    for path in ("usr/lib/nvidia/sriov-manage", "usr/bin/nvidia-smi", "usr/lib/nvidia/alternate-install-present",
                 "usr/src/nvidia-550.163.02/dkms.conf", f"lib/modules/{KERNEL}/kernel/drivers/video/nvidia_vgpu_vfio.ko"):
        assert (top / path).is_file(), path
    for script in ("preinst", "postinst", "prerm", "postrm"):
        text = (top / "DEBIAN" / script).read_text()
        assert "@" not in text.replace("$@", "")
        assert run("sh", "-n", top / "DEBIAN" / script).returncode == 0


def test_shell_scripts_are_clean():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    top = build_bundle.HERE
    scripts = [top / "installer/nvidia-installer", *(top / "host/tools" / n for n in ("sriov-manage", "nvidia-vgpud", "nvidia-vgpu-mgr")),
               *(top / "deb").glob("p*.in")]
    done = run("shellcheck", "--severity=style", "--exclude=SC2043", *scripts)
    assert done.returncode == 0, done.stdout
