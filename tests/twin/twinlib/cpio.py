# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes newc cpio archives, the format of the kernel's initramfs, without root and the cpio program."""

from __future__ import annotations


class Archive:
    """An archive. Add entries, then call `data()`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._known: set[str] = set()
        self._inode = 1

    def _entry(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        raw = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self._parts += [head, b"\0" * (-len(head) % 4), content, b"\0" * (-len(content) % 4)]
        self._inode += 1

    def folder(self, name: str) -> None:
        """Add a directory and its parents, each only once."""
        parts = name.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            if path not in self._known:
                self._known.add(path)
                self._entry(path, 0o040755)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        if "/" in name.strip("/"):
            self.folder(name.strip("/").rsplit("/", 1)[0])
        self._entry(name.strip("/"), 0o100000 | mode, content)

    def character_device(self, name: str, major: int, minor: int) -> None:
        """Add a device node."""
        self.folder(name.strip("/").rsplit("/", 1)[0])
        self._entry(name.strip("/"), 0o020600, device=(major, minor))

    def data(self) -> bytes:
        """Return the complete archive with padding, which allows another archive to follow."""
        self._entry("TRAILER!!!", 0)
        raw = b"".join(self._parts)
        return raw + b"\0" * (-len(raw) % 512)
