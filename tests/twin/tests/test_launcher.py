# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of the launcher without a machine."""

from __future__ import annotations

import json
import shlex
import struct
import subprocess
from pathlib import Path

import pytest
from twinlib import acpi, cache, cli, cpio, disk, faults, image, inventory, paths, qemu, quick, snapshots, ssh, state
from twinlib.progress import TwinError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPO", tmp_path)
    return state.Machine(
        name="t1", tier="full", gpus=3, iommu="intel", start="bare", boot_iommu=False, port=0, accel="tcg",
        memory_mib=1024, cpus=1, hardware=["sriov=0"], key="/keys/id",
    )


@pytest.mark.parametrize("table", [acpi.dmar(), acpi.ivrs()])
def test_acpi_tables_have_right_length_and_checksum(table):
    assert struct.unpack_from("<I", table, 4)[0] == len(table)
    assert sum(table) & 255 == 0
    assert struct.unpack_from("<I", table, 24)[0] > 1, "the OEM revision must be higher than QEMU's"


def test_dmar_covers_all_pci_devices():
    kind, length, flags, _reserved, segment, base = struct.unpack_from("<HHBBHQ", acpi.dmar(), 48)
    assert (kind, flags & 1, segment, base) == (0, 1, 0, 0xFED90000)
    assert 48 + length == len(acpi.dmar())


def test_ivrs_covers_all_devices():
    table = acpi.ivrs()
    assert struct.unpack_from("<H", table, 50)[0] == len(table) - 48
    assert table[72] == 1, "DEV_ALL"


def test_cpio_is_read_by_cpio(tmp_path):
    archive = cpio.Archive()
    archive.file("a/b/file", b"content", 0o755)
    archive.file("a/other", b"")
    (tmp_path / "x.cpio").write_bytes(archive.data())
    listed = subprocess.run(
        ["python3", "-c", LIST_NEWC, str(tmp_path / "x.cpio")], check=True, capture_output=True, text=True
    ).stdout.split()
    assert listed == ["a", "a/b", "a/b/file", "a/other", "TRAILER!!!"]
    assert len(archive.data()) % 512 == 0


# An independent reader, based only on the description of the format.
LIST_NEWC = """
import sys
raw = open(sys.argv[1], 'rb').read(); at = 0
while raw[at:at + 6] == b'070701':
    size, name = int(raw[at + 54:at + 62], 16), int(raw[at + 94:at + 102], 16)
    print(raw[at + 110:at + 109 + name].decode())
    at += 110 + name; at += -at % 4; at += size; at += -at % 4
"""


def test_modules_load_after_what_they_need():
    dep = "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\nkernel/x-y.ko:\n"
    assert quick.load_order(dep, ("a", "x_y", "builtin")) == ["kernel/c.ko", "kernel/b.ko", "kernel/a.ko", "kernel/x-y.ko"]


def test_grub_sectors():
    core = disk.core_with_blocklist(b"\1" * 1500, 2048)
    assert len(core) == 1536 and struct.unpack_from("<QHH", core, 500) == (2049, 2, 0x820)
    sector = disk.boot_sector(b"\2" * 512, b"\3" * 512, 2048)
    assert struct.unpack_from("<Q", sector, 0x5C)[0] == 2048 and sector[0x1B8:] == b"\3" * 72


def test_digest_changes_with_content_name_and_mode(tmp_path):
    one = tmp_path / "one"
    one.write_text("x")
    seen = {cache.digest([tmp_path])}
    one.write_text("y")
    seen.add(cache.digest([tmp_path]))
    one.chmod(0o755)
    seen.add(cache.digest([tmp_path]))
    one.rename(tmp_path / "two")
    seen.add(cache.digest([tmp_path]))
    seen.add(cache.digest([tmp_path], "text"))
    assert len(seen) == 5


def test_product_is_made_once_and_never_half(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def fail(_folder: Path) -> None:
        raise TwinError("no")

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").write_text("made")

    with pytest.raises(TwinError):
        cache.product("p", "k", fail, "p")
    assert not (paths.cache() / "p-k").exists()
    assert (cache.product("p", "k", make, "p") / "file").read_text() == "made"
    cache.product("p", "k", make, "p")
    assert len(calls) == 1


@pytest.mark.parametrize("text,wanted", [("fault_create=5", ("fault_create", "5")), ("fault_dead=", ("fault_dead", "0")), ("a=-1", ("a", "-1"))])
def test_fault_assignment(text, wanted):
    assert faults.parse(text) == wanted


@pytest.mark.parametrize("text", ["fault", "a=b;c", "a=1 2", "A=1", "=1", "a=$(x)"])
def test_bad_fault_assignment(text):
    with pytest.raises(TwinError):
        faults.parse(text)


@pytest.mark.parametrize("name", ["", "UP", "a/b", "-a", "a-", "..", "a" * 40])
def test_bad_names(name):
    with pytest.raises(TwinError):
        state.check_name(name)


def test_bad_tags():
    assert snapshots.check_tag("ready-1") == "ready-1"
    with pytest.raises(TwinError):
        snapshots.check_tag("1; quit")


def test_two_machines_get_two_ports_and_remember_them(machine):
    state.claim(machine)
    other = state.Machine(**{**vars(machine), "name": "t2", "port": 0})
    state.claim(other)
    assert machine.port and other.port and machine.port != other.port
    assert [(m.name, m.port) for m in state.every()] == [("t1", machine.port), ("t2", other.port)]
    assert not machine.pid()


def test_machine_without_a_disk_yet_has_no_snapshots(machine, capsys):
    state.claim(machine)
    assert cli.main(["list"]) == 0
    assert "snapshots -" in capsys.readouterr().out


def test_extras_add_packages_and_are_shown(machine, capsys):
    plain, full = image.packages(), image.packages(["libvirt"])
    assert full[:len(plain)] == plain and {"qemu-system-x86", "libvirt-daemon-system"} <= set(full) - set(plain)
    machine.extras = ["libvirt"]
    state.claim(machine)
    assert cli.main(["list"]) == 0 and "with libvirt" in capsys.readouterr().out
    assert state.load("t1").extras == ["libvirt"]


def test_unknown_extras_are_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["up", "t1", "--with", "xen"])
    assert "libvirt" in capsys.readouterr().err


def test_modules_and_bundle_are_of_the_tree_without_extras(tmp_path, monkeypatch):
    trees = {(): tmp_path / "plain", ("libvirt",): tmp_path / "full"}
    for tree in trees.values():
        (tree / "lib" / "modules" / "6.1.0-1" / "kernel").mkdir(parents=True)
    monkeypatch.setattr(image, "build_tree", lambda system, extras=(), boot="bios": trees[tuple(extras)])
    monkeypatch.setattr(image, "build_modules", lambda tree: tree / "modules")
    monkeypatch.setattr(image, "build_image", lambda tree, modules, boot: tree / "image")
    built = image.build(image.SYSTEMS["debian12"], ["libvirt", "libvirt"])
    assert (built.tree, built.modules, built.image) == (trees[()], trees[()] / "modules", trees[("libvirt",)] / "image")
    (trees[("libvirt",)] / "lib/modules/6.1.0-1").rename(trees[("libvirt",)] / "lib/modules/6.1.0-2")
    with pytest.raises(TwinError, match="6.1.0-2.*6.1.0-1"):
        image.build(image.SYSTEMS["debian12"], ["libvirt"])


def test_a_machine_with_uefi_has_another_boot_loader():
    assert "grub-pc" in image.packages() and "systemd-boot" not in image.packages()
    uefi = image.packages(boot="systemd-boot")
    assert "systemd-boot" in uefi and "grub-pc" not in uefi and "nls_cp437" in " ".join(image.tree_options("systemd-boot"))
    with pytest.raises(TwinError, match="--quick requires --boot bios, because"):
        cli._build(cli.parser().parse_args(["build", "--boot", "grub-efi", "--quick"]))


def test_firmware_of_a_machine_with_uefi(machine):
    assert "pflash" not in " ".join(qemu.command_line(machine))
    machine.boot = "grub-efi"
    line = " ".join(qemu.command_line(machine))
    assert "if=pflash,unit=0,format=raw,readonly=on" in line and f"if=pflash,unit=1,format=qcow2,file={machine.efi_variables.name}" in line


def test_unknown_machine_is_named_with_the_known_ones(machine):
    state.claim(machine)
    with pytest.raises(TwinError, match="The twin 'nope' does not exist.*t1"):
        state.load("nope")


def test_command_line_has_hardware_iommu_and_port(machine):
    machine.port = 4242
    line = " ".join(qemu.command_line(machine))
    assert "twin_hw.gpus=3" in line and "twin_hw.sriov=0" in line and "tcp:127.0.0.1:4242-:22" in line
    assert "intel-iommu" in line and "-kernel" not in line and "-loadvm" not in line
    machine.tier, machine.iommu = "quick", "amd"
    line = " ".join(qemu.command_line(machine, "ready"))
    assert "amd-iommu" in line and "iommu=pt" in line and "intel_iommu" not in line and line.endswith("-loadvm ready")


@pytest.mark.skipif(not disk.available(), reason="requires e2fsprogs and fdisk")
def test_files_are_written_into_a_disk_wherever_it_lies(tmp_path):
    folder = tmp_path / 'a "clone" here'
    folder.mkdir()
    image_file, source = folder / "disk.raw", folder / "a file"
    source.write_text("content")
    with open(image_file, "wb") as handle:
        handle.truncate(disk.ROOT_START * disk.SECTOR + (4 << 20))
    subprocess.run(["mke2fs", "-q", "-F", "-E", f"offset={disk.ROOT_START * disk.SECTOR}", image_file, "4096k"], check=True)
    disk.write_files(image_file, {"/some/file": source})
    assert sorted(p.name for p in folder.iterdir()) == ["a file", "disk.raw"]


@pytest.mark.skipif(not disk.available(), reason="requires e2fsprogs and fdisk")
def test_a_tree_without_device_nodes_gets_those_that_a_boot_needs(tmp_path):
    tree, image_file, boot = tmp_path / "root", tmp_path / "base.raw", tmp_path / "boot.img"
    (tree / "dev").mkdir(parents=True)
    boot.write_bytes(b"\2" * 512)
    disk.create(tree, image_file, "00000000-0000-4000-8000-000000000000", (boot, boot))
    where = f"{image_file}?offset={disk.ROOT_START * disk.SECTOR}"
    node = subprocess.run(["debugfs", "-R", "stat /dev/console", where], check=True, capture_output=True, text=True).stdout
    assert "Type: character special    Mode:  0600" in node and "Device major/minor number: 05:01" in node


@pytest.mark.parametrize(
    "folder,own", [("/srv/clone", True), ("/srv/a clone", False), ("/srv/100%", False), ("/srv/a-very-long-path/to/a/clone", False)]
)
def test_ssh_shares_connections_at_a_path_that_it_can_read(machine, monkeypatch, tmp_path, folder, own):
    monkeypatch.setattr(paths, "REPO", Path(folder))
    monkeypatch.setattr(state.tempfile, "gettempdir", lambda: str(tmp_path))
    assert str(machine.control_path).startswith(folder if own else str(tmp_path))


def test_inventory(machine):
    yaml = pytest.importorskip("yaml")
    machine.port = 4242
    host = yaml.safe_load(inventory.text(machine))["all"]["hosts"]["t1"]
    assert (host["ansible_host"], host["ansible_port"], host["ansible_user"]) == ("127.0.0.1", 4242, "ansible")
    assert "UserKnownHostsFile=/dev/null" in host["ansible_ssh_common_args"]
    assert json.dumps(host)  # all values have plain types that JSON can represent


def test_launcher_and_ansible_log_in_once(machine):
    """The launcher and Ansible must share one connection, because a key exchange takes seconds on an emulated machine."""
    yaml = pytest.importorskip("yaml")
    machine.port = 4242
    host = yaml.safe_load(inventory.text(machine))["all"]["hosts"]["t1"]
    shared = shlex.split(host["ansible_ssh_args"])
    assert f"ControlPath={machine.control_path}" in shared and "ControlMaster=auto" in shared
    assert set(shared) <= set(ssh.argv(machine))


@pytest.mark.parametrize(("guest", "group"), [("", "vgpu_hosts"), ("A40-24Q", "vgpu_guests"), ("none", "vgpu_guests")])
def test_inventory_has_the_group_that_playbooks_work_on(machine, guest, group):
    yaml = pytest.importorskip("yaml")
    machine.guest = guest
    assert yaml.safe_load(inventory.text(machine))["all"]["children"] == {group: {"hosts": {"t1": None}}}


def test_errors_are_one_line_and_status_1(machine, capsys):
    assert cli.main(["ssh", "nope", "true"]) == 1
    assert capsys.readouterr().err.startswith("twin: The twin 'nope' does not exist")


@pytest.mark.parametrize(("options", "made"), [([], ["full"]), (["--quick"], ["quick"])])
def test_a_build_makes_the_disk_of_one_tier(machine, monkeypatch, options, made):
    """A build for quick twins creates no disk of the full tier. For example, the test session for Debian 13 uses only quick twins."""
    found = []
    for module, name in ((cli.accel, "check"), (cli.room, "check"), (cli.host_packages, "ensure"), (image, "build"), (cli.bundle, "path")):
        monkeypatch.setattr(module, name, lambda *_arguments: None)
    monkeypatch.setattr(cli.bundle, "quick_disk", lambda _built: found.append("quick"))
    monkeypatch.setattr(image, "variant_disk", lambda *_arguments: found.append("full"))
    assert cli.main(["build", *options]) == 0 and found == made


def test_the_first_full_disk_is_a_copy_of_the_base_disk(machine, monkeypatch, tmp_path):
    """The base disk is created once from the image's tree, when the first full twin requires it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = image.Build(image.SYSTEMS["debian12"], tmp_path, tmp_path, tmp_path / "image", "6.1.0-1")
    (built.image / "start" / "bare").mkdir(parents=True)
    (built.image / "fs-uuid").write_text("uuid")
    made = []
    monkeypatch.setattr(disk, "create", lambda tree, target, *_others: (made.append(tree), target.write_text("base")))
    monkeypatch.setattr(disk, "write_files", lambda _disk, _files: None)
    for iommu in ("intel", "none"):
        assert image.variant_disk(built, "bare", iommu, False).read_text() == "base"
    assert made == [built.image / "root"]
