# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A tree of files whose content is computed on reading and whose writes run code, as in sysfs."""

from __future__ import annotations

import errno
import functools
import os

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs, SysfsError


class Blocked(Exception):
    """Raised where the kernel would block until another process releases a device."""


class File:
    """An attribute. read() returns text or bytes, write(text) has the effect of the kernel; both may raise OSError."""

    kind = "file"

    def __init__(self, read=None, write=None, when=None):
        self.read = read
        self.write = write
        self.when = when


class Link:
    """A symbolic link. target() returns its text, or None while the link does not exist.

    jump() may return the nodes from the top to the target, which saves the walk. node: device numbers of the link's target.
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
    """A directory of fixed entries, which may be absent at times, and of dynamic entries from find(name) and names()."""

    kind = "directory"

    def __init__(self, entries=None, when=None, find=None, names=None):
        self.entries = entries or {}
        self.when = when
        self._find = find
        self._names = names

    def get(self, name):
        """Return the entry with that name, or None if it does not exist now."""
        node = self.entries.get(name)
        if node is None:
            return self._find(name) if self._find else None
        return node if not node.when or node.when() else None

    def names(self):
        """Return the names of all entries of the directory that exist now."""
        found = [name for name, node in self.entries.items() if not node.when or node.when()]
        return sorted(found + list(self._names() if self._names else ()))


def text(value):
    """Return a read() function for a fixed text."""
    return lambda: value


# Most reads are below this directory, which always exists.
DEVICES = "/sys/bus/pci/devices/"


@functools.lru_cache(maxsize=1 << 17)
def _parts(path):
    """Return (whether the path is below DEVICES, its parts in reverse order, without those of DEVICES)."""
    inside = path.startswith(DEVICES)
    return inside, tuple(part for part in reversed(path[len(DEVICES) if inside else 0:].split("/")) if part)


class TreeSysfs(Sysfs):
    """The engine's interface to the kernel's files, on a tree. before_write(path, value) may raise OSError.

    A blocking operation takes virtual time. It continues when the event for which it waits has happened.
    """

    def __init__(self, top, before_write, clock):
        super().__init__("/")
        self._clock = clock
        self._top = top
        self._before_write = before_write
        self._devices = self._resolve([top], DEVICES.strip("/").split("/")[::-1], DEVICES, True)

    def _walk(self, path, follow=True):
        """Return the node of a path. Raises OSError if it does not exist."""
        inside, todo = _parts(path)
        return self._resolve(list(self._devices) if inside else [self._top], list(todo), path, follow)[-1]

    def _resolve(self, nodes, todo, path, follow):
        """Follow the parts in *todo*, in reverse order, from the last of *nodes*. Return the nodes from the top to the result."""
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
        """Return the node, which must be of this kind. Otherwise raise OSError with the kernel's error number."""
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
