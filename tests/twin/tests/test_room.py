# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of checks before a build: insufficient disk space or memory, packages that cannot be installed, and users who cannot become root."""

from __future__ import annotations

import shutil

import pytest
from twinlib import cache, cli, host_packages, image, paths, room, run
from twinlib.progress import TwinError

MEMINFO = "MemTotal: 4000000 kB\nMemAvailable: {} kB\nSwapFree: {} kB\n"


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPO", tmp_path / "clone")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "CGROUP", tmp_path / "cgroup")
    memory(tmp_path, 8000)
    disk(monkeypatch, 9000)
    monkeypatch.setattr(run, "_has_terminal", lambda: False)
    forget()
    yield tmp_path
    forget()


def forget():
    """Clear the cached results about sudo and namespaces."""
    run._succeeds.cache_clear()
    run.can_sudo.cache_clear()


def memory(folder, mib, swap=0):
    (folder / "meminfo").write_text(MEMINFO.format(mib << 10, swap << 10))


def disk(monkeypatch, mib):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(1 << 40, 0, mib << 20))


def test_enough_of_all_is_no_error(host):
    room.check(2048)


def test_disk_and_memory_are_refused_together(host, monkeypatch):
    disk(monkeypatch, 3000)
    memory(host, 2500)
    with pytest.raises(TwinError) as caught:
        room.check(2048)
    text = str(caught.value)
    assert "3000 MiB of disk are free (expected: 3900 MiB for the first build)" in text and "XDG_CACHE_HOME" in text
    assert "memory: 2500 MiB are free (expected: 2548 MiB for a machine of 2048 MiB)" in text


@pytest.mark.parametrize("inside,device,refused", [(True, 2, True), (True, 1, False), (False, 2, False)])
def test_a_small_tmp_is_refused_where_mmdebstrap_uses_it(host, monkeypatch, inside, device, refused):
    monkeypatch.setattr(room, "TEMPORARY", host / "tmp")
    monkeypatch.setattr(room, "in_namespace", lambda: inside)
    monkeypatch.setattr(room, "_device", lambda path: device if path == host / "tmp" else 1)
    sizes = {host / "tmp": 500}
    (host / "tmp").mkdir()
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, sizes.get(path, 9000) << 20))
    if refused:
        with pytest.raises(TwinError, match="tmp: 500 MiB of disk are free .expected: 1000 MiB"):
            room.check()
    else:
        room.check()


def test_each_disk_is_looked_at(host, monkeypatch):
    monkeypatch.setattr(room, "_device", lambda path: len(str(path)))
    monkeypatch.setattr(room, "_existing", lambda path: path)
    disk(monkeypatch, 500)
    with pytest.raises(TwinError) as caught:
        room.check()
    text = str(caught.value)
    assert "expected: 3300 MiB for the first build). Free disk space, or set XDG_CACHE_HOME" in text
    assert "expected: 600 MiB for the first build). Free disk space, or clone to a larger disk." in text


def test_swap_counts_as_memory(host):
    memory(host, 2000, swap=1000)
    room.check(2048)


@pytest.mark.parametrize(
    "limit,statistics,used,none",
    [("memory.max", "memory.stat", "anon", "max"), ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss", "9223372036854771712")],
    ids=["version 2", "version 1"],
)
def test_a_container_has_no_more_than_its_limit(host, limit, statistics, used, none):
    (host / "cgroup" / "memory").mkdir(parents=True)
    (host / "cgroup" / limit).write_text(f"{2500 << 20}\n")
    (host / "cgroup" / statistics).write_text(f"{used} {100 << 20}\nfile 5\n")
    with pytest.raises(TwinError, match="memory: 2400 MiB are free"):
        room.check(2048)
    (host / "cgroup" / limit).write_text(f"{none}\n")
    room.check(2048)


def test_what_is_built_needs_less(host, monkeypatch):
    disk(monkeypatch, 1500)
    with pytest.raises(TwinError):
        room.check()
    (paths.cache() / "image-0123").mkdir(parents=True)
    (paths.cache() / "base-0123").mkdir()
    room.check()


def test_up_and_build_check_before_they_install_or_build(host, monkeypatch, capsys):
    disk(monkeypatch, 100)
    monkeypatch.setattr(host_packages, "ensure", lambda: pytest.fail("no package must be installed"))
    for command in (["build"], ["up", "t1"], ["check"]):
        assert cli.main(command) == 1
        assert "100 MiB of disk are free" in capsys.readouterr().err


def test_a_home_that_is_not_writable_gives_a_cache_in_the_checkout(host, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/proc/1/nowhere")
    monkeypatch.setattr(paths.os, "access", lambda path, _mode: not str(path).startswith("/proc"))
    assert paths.cache() == paths.REPO / ".build" / "cache" / "vgpu-twin"


def programs(folder, monkeypatch, **scripts):
    """Set a PATH with only these programs."""
    bin_ = folder / "bin"
    shutil.rmtree(bin_, ignore_errors=True)
    bin_.mkdir()
    forget()
    for name, body in scripts.items():
        (bin_ / name.replace("_", "-")).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name.replace("_", "-")).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_))


def user(monkeypatch, number):
    monkeypatch.setattr(run.os, "geteuid", lambda: number)
    monkeypatch.setattr(run.os, "getuid", lambda: number)
    monkeypatch.setattr(run.os, "getgid", lambda: number)


PASSWORD = "test $* = -v"  # a sudo that asks for a password and receives it
GIVEN = "test $1 != -k"  # a sudo with a cached password


@pytest.mark.parametrize(
    "number,scripts,prefix,owner",
    [
        (0, {}, [], "0:0"),
        (1000, {"sudo": "exit 0"}, ["sudo"], "1000:1000"),
        (1000, {"sudo": "exit 1", "unshare": "exit 0"}, run.NAMESPACE, "0:0"),
        (1000, {"unshare": "exit 0"}, run.NAMESPACE, "0:0"),
        (1000, {"sudo": PASSWORD, "unshare": "exit 1"}, ["sudo"], "1000:1000"),
        (1000, {"sudo": GIVEN, "unshare": "exit 0"}, run.NAMESPACE, "0:0"),
        (1000, {"sudo": GIVEN, "unshare": "exit 1"}, ["sudo"], "1000:1000"),
    ],
    ids=[
        "root", "sudo without a password", "sudo with a password", "no sudo", "sudo with a password, no namespaces",
        "password given before", "password given before, no namespaces",
    ],
)
def test_who_is_root(host, monkeypatch, number, scripts, prefix, owner):
    monkeypatch.setattr(run, "_has_terminal", lambda: True)
    programs(host, monkeypatch, **scripts)
    user(monkeypatch, number)
    assert run.as_root(["cp", "a"]) == [*prefix, "cp", "a"]
    assert run.owner() == owner


def test_nobody_can_be_root(host, monkeypatch):
    for scripts in ({"unshare": "exit 1"}, {"unshare": "exit 1", "sudo": "exit 1"}, {"unshare": "exit 1", "sudo": PASSWORD}):
        programs(host, monkeypatch, **scripts)
        user(monkeypatch, 1000)
        with pytest.raises(TwinError, match="uidmap.*subuid"):
            run.as_root(["cp"])


@pytest.mark.parametrize("sudo", [{}, {"sudo": "exit 1"}, {"sudo": PASSWORD}], ids=["none", "no rule for this user", "a password, no terminal"])
def test_packages_that_nobody_can_install(host, monkeypatch, sudo):
    programs(host, monkeypatch, apt_get="exit 1", **sudo)
    user(monkeypatch, 1000)
    with pytest.raises(TwinError, match="not root and cannot use sudo: .*python3-venv.*qemu-system-x86.*uidmap.*As root, run: apt-get install"):
        host_packages.check(["python3-venv"])
    programs_gone = host / "bin" / "apt-get"
    programs_gone.unlink()
    with pytest.raises(TwinError, match="no apt-get"):
        host_packages.check()


def test_a_password_is_asked_for_once_and_before_anything_else(host, monkeypatch):
    programs(host, monkeypatch, apt_get="exit 1", sudo=f'echo x >> "{host}/asked"; {PASSWORD}')
    user(monkeypatch, 1000)
    monkeypatch.setattr(run, "_has_terminal", lambda: True)
    host_packages.check()
    host_packages.check()
    assert (host / "asked").read_text().count("x") == 3, "sudo must ask for a password in only one of three calls"


def test_a_tree_of_root_is_not_used_in_a_namespace(host, monkeypatch):
    monkeypatch.setenv("TWIN_APT_SOURCES", str(host / "sources.list"))
    (host / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")
    made = []
    monkeypatch.setattr(cache, "product", lambda _name, key, _make, _what: made.append(key) or host)
    for inside in (False, True):
        monkeypatch.setattr(image, "in_namespace", lambda inside=inside: inside)
        image.build_tree(image.SYSTEMS["debian12"])
    assert made[0] != made[1]
