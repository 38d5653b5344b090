# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Creates and edits disk images without loop devices or mounts: GPT, GRUB's boot sectors, ext4 from a tree, and file changes."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from .run import as_root, run

SECTOR = 512
SIZE_GIB = 4
BIOS_START, BIOS_SECTORS = 2048, 2048
ROOT_START = BIOS_START + BIOS_SECTORS
EFI_SECTORS = 192 << 11
EFI_START = (SIZE_GIB << 21) - 2048 - EFI_SECTORS  # after the root file system, whose partition number stays 2
NODES = {"console": (5, 1), "null": (1, 3)}  # nodes in /dev; the initramfs opens the console before /dev is mounted


def boot_sector(boot_img: bytes, mbr: bytes, core_start: int) -> bytes:
    """Return the boot sector as grub-install writes it: GRUB's boot.img with the address of the core image, and the disk's partition table."""
    sector = bytearray(boot_img[:SECTOR])
    sector[0x1B8:SECTOR] = mbr[0x1B8:SECTOR]
    struct.pack_into("<Q", sector, 0x5C, core_start)
    sector[0x66:0x68] = b"\x90\x90"  # use the boot drive that the BIOS reports, as grub-install does for hard disks
    return bytes(sector)


def core_with_blocklist(core: bytes, start: int) -> bytes:
    """Return GRUB's core image. Its first sector contains the position of the other sectors."""
    raw = bytearray(core + b"\0" * (-len(core) % SECTOR))
    struct.pack_into("<QHH", raw, SECTOR - 12, start + 1, len(raw) // SECTOR - 1, 0x820)
    return bytes(raw)


def create(tree: Path, disk: Path, uuid: str, bios: tuple[Path, Path] | None) -> None:
    """Create a sparse raw disk with the tree as its ext4 root file system.

    bios: GRUB's boot.img and core.img. Without these files, the disk has an EFI system partition, which `write_efi` fills.
    """
    with open(disk, "wb") as handle:
        handle.truncate(SIZE_GIB << 30)
    table = (
        f"label: gpt\nstart={BIOS_START}, size={BIOS_SECTORS}, type=21686148-6449-6E6F-744E-656564454649\n"
        f"start={ROOT_START}{'' if bios else f', size={EFI_START - ROOT_START}'}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n"
    )
    if not bios:
        table += f"start={EFI_START}, size={EFI_SECTORS}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
    script = disk.with_suffix(".sfdisk")
    script.write_text(table, encoding="utf-8")
    run(["sh", "-c", 'sfdisk -q "$1" < "$2"', "sh", str(disk), str(script)])
    script.unlink()
    partitions = json.loads(run(["sfdisk", "-J", str(disk)]))["partitiontable"]["partitions"]
    if bios:
        boot_img, core_img = bios
        with open(disk, "r+b") as handle:
            mbr = handle.read(SECTOR)
            handle.seek(0)
            handle.write(boot_sector(boot_img.read_bytes(), mbr, BIOS_START))
            handle.seek(BIOS_START * SECTOR)
            handle.write(core_with_blocklist(core_img.read_bytes(), BIOS_START))
    run(as_root([
        "mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, "-L", "root", "-O", "^metadata_csum_seed,^orphan_file",
        "-E", f"offset={ROOT_START * SECTOR},lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-m", "0",
        "-d", str(tree), str(disk), f"{partitions[1]['size'] // 2}k",
    ]))
    if not (tree / "dev" / "console").exists():  # a user namespace cannot create device nodes
        nodes = [(f"mknod {name} c {major} {minor}", f"sif {name} mode 020600") for name, (major, minor) in NODES.items()]
        _edit(disk, ["cd /dev", *(line for node in nodes for line in node)])


def write_efi(disk: Path, tree: Path) -> None:
    """Create the EFI system partition's file system with the files of the tree."""
    image = disk.with_suffix(".efi")
    run(["mkfs.vfat", "-F", "32", "-n", "EFI", "-C", str(image), str(EFI_SECTORS // 2)])
    run(["mcopy", "-s", "-i", str(image), *[str(path) for path in sorted(tree.iterdir())], "::"])
    run(["dd", f"if={image}", f"of={disk}", "bs=1M", f"seek={EFI_START >> 11}", "conv=notrunc,sparse"])
    image.unlink()


def copy(source: Path, target: Path) -> None:
    """Create a sparse copy, as a reflink if the file system supports it."""
    run(["cp", "--reflink=auto", "--sparse=always", str(source), str(target)])


def write_files(disk: Path, files: dict[str, Path]) -> None:
    """Write files to the root file system of a disk that no machine uses. The files belong to root and keep their modes."""
    commands: list[str] = []
    folders: set[str] = set()
    for target, source in sorted(files.items()):
        parent = target.rsplit("/", 1)[0]
        if parent not in folders:
            folders.add(parent)
            commands.append(f"mkdir {parent}")  # fails if the directory exists; the dump below detects real errors
        mode = 0o100000 | (source.stat().st_mode & 0o777)
        commands += [f"rm {target}", f"write {_quoted(source)} {target}"]
        commands += [f"sif {target} mode 0{mode:o}", f"sif {target} uid 0", f"sif {target} gid 0"]
    _edit(disk, commands)
    for target, source in files.items():
        probe = disk.with_suffix(".probe")
        run(["debugfs", "-R", f"dump {target} {_quoted(probe)}", _root(disk)])
        same = probe.exists() and probe.read_bytes() == source.read_bytes()
        if probe.exists():
            probe.unlink()
        if not same:
            raise OSError(f"debugfs did not write {target} into {disk}")


def _root(disk: Path) -> str:
    """Return debugfs's name of the root file system."""
    return f"{disk}?offset={ROOT_START * SECTOR}"


def _edit(disk: Path, commands: list[str]) -> None:
    """Change the root file system with debugfs, which continues after errors and exits with 0."""
    script = disk.with_suffix(".debugfs")
    script.write_text("\n".join(commands) + "\n", encoding="utf-8")
    run(["debugfs", "-w", "-f", str(script), _root(disk)])
    script.unlink()


def _quoted(path: Path) -> str:
    """Return a path of this machine, quoted for a debugfs command."""
    return '"' + str(path).replace('"', '""') + '"'


def overlay(base: Path, disk: Path) -> None:
    """Create a qcow2 disk that stores only the differences from the raw base disk."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(disk)])


def available() -> bool:
    """Return whether the required tools are installed (for tests)."""
    return all(shutil.which(tool) for tool in ("sfdisk", "mke2fs", "debugfs"))
