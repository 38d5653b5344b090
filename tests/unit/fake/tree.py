# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A file tree in memory, similar to sysfs: reading a file computes its content, and writing to a file runs code."""

from __future__ import annotations

import errno
import functools
import os

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs, SysfsError


class Blocked(Exception):
    """Raised where the kernel would block until another process closes a device."""


class File:
    """A file. read() returns text or bytes, and write(text) has the effect that the kernel's file has. Both can raise OSError."""

    kind = "file"

    def __init__(self, read=None, write=None, when=None):
        self.read = read
        self.write = write
        self.when = when


class Link:
    """A symbolic link. target() returns the text of the link, or None while the link does not exist.

    jump() can return the nodes from the root to the target, so that the path need not be resolved. node: device numbers of the target.
    """

    kind = "link"

    def __init__(self, target, jump=None, node=None):
        self.target = target
        self.jump = jump
        self.node = node

    def when(self):
        """Return whether the link exists now."""
        return self.target() is not None


class Dir:
    """A directory of fixed entries, some of which can be absent at times, and of dynamic entries from find(name) and names()."""

    kind = "directory"

    def __init__(self, entries=None, when=None, find=None, names=None):
        self.entries = entries or {}
        self.when = when
        self._find = find
        self._names = names

    def get(self, name):
        """Return the entry with that name, or None if it currently does not exist."""
        node = self.entries.get(name)
        if node is None:
            return self._find(name) if self._find else None
        return node if not node.when or node.when() else None

    def names(self):
        """Return the names of all entries that currently exist."""
        found = [name for name, node in self.entries.items() if not node.when or node.when()]
        return sorted(found + list(self._names() if self._names else ()))


def text(value):
    """Return a read() function for a fixed text."""
    return lambda: value


# Most reads are in this directory, which always exists.
DEVICES = "/sys/bus/pci/devices/"


@functools.lru_cache(maxsize=1 << 17)
def _parts(path):
    """Return (whether the path is in DEVICES, the remaining parts of the path in reverse order)."""
    inside = path.startswith(DEVICES)
    return inside, tuple(part for part in reversed(path[len(DEVICES) if inside else 0:].split("/")) if part)


class TreeSysfs(Sysfs):
    """Reads and writes the files of a tree through the engine's interface for kernel files. before_write(path, value) can raise OSError.

    A blocking operation advances the virtual time and continues when the event that it waits for has occurred.
    """

    def __init__(self, top, before_write, clock):
        super().__init__("/")
        self._clock = clock
        self._top = top
        self._before_write = before_write
        self._devices = self._resolve([top], DEVICES.strip("/").split("/")[::-1], DEVICES, True)

    def _walk(self, path, follow=True):
        """Return the node at a path. Raise OSError if the path does not exist."""
        inside, todo = _parts(path)
        return self._resolve(list(self._devices) if inside else [self._top], list(todo), path, follow)[-1]

    def _resolve(self, nodes, todo, path, follow):
        """Resolve the parts in *todo* (in reverse order), starting at the last of *nodes*. Return the nodes from the root to the result."""
        hops = 0
        while todo:
            name = todo.pop()
            if name == ".":
                continue
            if name == "..":
                if len(nodes) > 1:
                    nodes.pop()
                continue
            if nodes[-1].kind != "directory":
                raise OSError(errno.ENOTDIR, path)
            node = nodes[-1].get(name)
            if node is None:
                raise OSError(errno.ENOENT, path)
            if node.kind == "link" and (todo or follow):
                hops += 1
                if hops > 40:
                    raise OSError(errno.ELOOP, path)
                if node.jump:
                    nodes = list(node.jump())
                    continue
                target = node.target()
                if target.startswith("/"):
                    nodes = [self._top]
                todo += [part for part in reversed(target.split("/")) if part]
                continue
            nodes.append(node)
        return nodes

    def _bytes(self, path, size=-1):
        node = self._walk(path)
        if isinstance(node, Dir):
            raise OSError(errno.EISDIR, path)
        if not node.read:
            raise OSError(errno.EACCES, path)
        content = node.read()
        content = content if isinstance(content, bytes) else content.encode()
        return content if size < 0 else content[:size]

    def apart(self, work, timeout):
        rows = []
        try:
            for row in work():
                rows.append(row)
        except Blocked:
            self._clock.pause(timeout)
            return rows, False
        return rows, True

    def write(self, path, value, timeout=60):
        try:
            self._before_write(path, value)
            node = self._walk(path)
            if not isinstance(node, File) or not node.write:
                raise OSError(errno.EACCES, path)
            deadline = self._clock.now() + timeout
            while True:
                try:
                    node.write(value)
                    return
                except Blocked as exc:
                    if self._clock.now() >= deadline:
                        raise OSError(errno.ETIMEDOUT, path) from exc
                    self._clock.pause(1)
        except SysfsError:
            raise
        except OSError as exc:
            raise SysfsError(path, exc.errno, value) from exc

    def exists(self, path):
        try:
            self._walk(path)
            return True
        except OSError:
            return False

    def list(self, path):
        try:
            node = self._walk(path)
        except OSError:
            return []
        try:
            return node.names() if isinstance(node, Dir) else []
        except OSError:
            return []

    def _only(self, kind, path, number, follow=True):
        """Return the node at a path if it is of this kind. Otherwise, raise OSError with the kernel's error number."""
        node = self._walk(path, follow=follow)
        if not isinstance(node, kind):
            raise OSError(number, path)
        return node

    def names(self, path):
        return self._only(Dir, path, errno.ENOTDIR).names()

    def leads(self, path):
        return self._only(Link, path, errno.EINVAL, follow=False).target()

    def node(self, path):
        return getattr(self._walk(path, follow=False), "node", None)

    def target(self, path):
        try:
            node = self._walk(path, follow=False)
        except OSError:
            return None
        return node.target() if isinstance(node, Link) else None

    def link(self, path):
        target = self.target(path)
        return os.path.basename(target) if target else None
