# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the choice between KVM and emulation, with a fake QEMU that is fast or slow, hangs, or fails."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from twinlib import accel, cli, paths
from twinlib.progress import TwinError

FAKE_QEMU = """\
#!/bin/sh
[ "$1" = --version ] && {{ echo "QEMU emulator version {version}"; exit 0; }}
echo "$2" >> {log}
case $2 in
    kvm) {kvm} ;;
    tcg) {tcg} ;;
esac
exit 33
"""
HANGS = "exec sleep 60"


class Host:
    """A machine with a fake QEMU and a fake /dev/kvm."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder = folder
        self.log = folder / "trials"
        self.device = folder / "kvm"
        self.device.touch()
        (folder / "bin").mkdir()
        (folder / "modules" / "kvm_intel").mkdir(parents=True)
        (folder / "boot_id").write_text("boot-1\n")
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.delenv("TWIN_ACCEL", raising=False)
        monkeypatch.setattr(accel, "DEVICE", self.device)
        monkeypatch.setattr(accel, "MODULES", folder / "modules")
        monkeypatch.setattr(accel, "BOOT_ID", folder / "boot_id")
        monkeypatch.setattr(accel, "DEADLINE", 4.0)

    def qemu(self, kvm: str = "true", tcg: str = "sleep 0.4", version: str = "7.2") -> None:
        """Define what each accelerator does with the guest program."""
        program = self.folder / "bin" / "qemu-system-x86_64"
        program.write_text(FAKE_QEMU.format(kvm=kvm, tcg=tcg, version=version, log=self.log))
        program.chmod(0o755)

    def trials(self) -> list[str]:
        """Return the accelerators that the launcher tried."""
        return self.log.read_text().split() if self.log.exists() else []


@pytest.fixture
def host(tmp_path, monkeypatch):
    one = Host(tmp_path, monkeypatch)
    one.qemu()
    return one


@pytest.mark.parametrize(
    "kvm,tcg,winner,said",
    [
        ("true", "sleep 2", "kvm", "million rounds: KVM "),
        ("sleep 1.5", "true", "tcg", "million rounds: KVM "),
        (HANGS, "sleep 0.2", "tcg", "KVM more than 4 s, emulation "),
        ("echo 'failed to set MSR 0x10a' >&2; exit 134", "true", "tcg", "KVM failed (failed to set MSR 0x10a)"),
        ("kill -ABRT $$", "true", "tcg", "KVM failed (exit status -6)"),
        ("exit 0", "true", "tcg", "KVM failed (exit status 0)"),
        (HANGS, HANGS, "tcg", "KVM more than 4 s, emulation more than 4 s"),
        ("true", "exit 1", "kvm", "emulation failed (exit status 1)"),
    ],
    ids=["fast KVM", "slow KVM", "KVM hangs", "KVM fails", "KVM dies", "KVM exits early", "both hang", "only KVM works"],
)
def test_the_faster_one_wins(host, kvm, tcg, winner, said):
    host.qemu(kvm, tcg)
    begin = time.monotonic()
    choice = accel.find()
    assert time.monotonic() - begin < 2 * accel.DEADLINE + 2, "each trial must stop at its deadline"
    assert choice.accelerator == winner
    assert said in str(choice) and str(choice).count("\n") == 0
    assert sorted(host.trials()) == ["kvm", "tcg"]


def test_without_kvm_nothing_is_measured(host):
    host.device.unlink()
    assert accel.find() == accel.Choice("tcg", f"{host.device} does not exist")
    assert host.trials() == []


def test_without_rights_nothing_is_measured(host, monkeypatch):
    monkeypatch.setattr(accel.os, "access", lambda path, _mode: path != host.device)  # simulates a denied access even for root
    choice = accel.find()
    assert choice.accelerator == "tcg" and "not accessible" in choice.why
    assert host.trials() == []


def test_measured_once_per_boot_version_and_module(host):
    first = accel.find()
    assert accel.find() == first
    assert len(host.trials()) == 2
    for change in (
        lambda: (host.folder / "boot_id").write_text("boot-2\n"),
        lambda: host.qemu(version="9.0"),
        (host.folder / "modules" / "kvm_pvm").mkdir,
    ):
        before = len(host.trials())
        change()
        accel.find()
        assert len(host.trials()) == before + 2


@pytest.mark.parametrize("content", ["", "boot-1 tcg\n", "[]", "null", '{"machine": 1}', "\0\1"])
def test_a_damaged_memory_is_measured_anew(host, content):
    (paths.cache()).mkdir(parents=True)
    (paths.cache() / "accel.json").write_text(content)
    assert accel.find().accelerator == "kvm"
    assert json.loads((paths.cache() / "accel.json").read_text())["accelerator"] == "kvm"


def test_the_variable_decides(host, monkeypatch):
    monkeypatch.setenv("TWIN_ACCEL", "tcg")
    assert accel.find() == accel.Choice("tcg", "TWIN_ACCEL=tcg")
    monkeypatch.setenv("TWIN_ACCEL", "kvm")
    assert accel.find() == accel.Choice("kvm", "TWIN_ACCEL=kvm")
    assert host.trials() == []
    monkeypatch.setenv("TWIN_ACCEL", "auto")
    assert accel.find().accelerator == "kvm" and host.trials()


def test_kvm_asked_for_where_there_is_none(host, monkeypatch):
    host.device.unlink()
    monkeypatch.setenv("TWIN_ACCEL", "kvm")
    with pytest.raises(TwinError, match="TWIN_ACCEL=kvm, but .* does not exist"):
        accel.find()


@pytest.mark.parametrize("word,said", [("kvm", "does not exist"), ("hvf", "unknown accelerator")])
@pytest.mark.parametrize("command", ["check", "build"])
def test_an_accelerator_that_is_not_there_is_refused_before_anything_is_built(host, monkeypatch, capsys, command, word, said):
    host.device.unlink()
    monkeypatch.setenv("TWIN_ACCEL", word)
    monkeypatch.setattr(cli.room, "check", lambda _memory=0: pytest.fail("the accelerator must be checked first"))
    assert cli.main([command]) == 1
    assert said in capsys.readouterr().err


def test_an_unknown_word_is_a_clear_error(host, monkeypatch, capsys):
    monkeypatch.setenv("TWIN_ACCEL", "hvf")
    assert cli.main(["list"]) == 1
    assert "twin: TWIN_ACCEL=hvf: unknown accelerator (expected: auto, kvm, tcg)" in capsys.readouterr().err


def test_list_shows_the_choice_and_measures_nothing(host, capsys):
    assert cli.main(["list"]) == 0
    assert "not measured yet" in capsys.readouterr().out and host.trials() == []
    choice = accel.find()
    assert cli.main(["list"]) == 0
    assert str(choice) in capsys.readouterr().out


@pytest.mark.skipif(not Path("/usr/bin/qemu-system-x86_64").exists(), reason="requires QEMU")
def test_the_guest_program_ends_under_emulation(tmp_path):
    assert len(accel.LOOP) <= 16 and len(accel.FIRMWARE) == 65536
    firmware = tmp_path / "firmware.bin"
    firmware.write_bytes(accel.FIRMWARE)
    done = subprocess.run(accel.probe("tcg", str(firmware)), timeout=60, check=False)
    assert done.returncode == accel.EXIT_STATUS
