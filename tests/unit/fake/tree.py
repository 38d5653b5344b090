# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A tree of files whose content is computed when it is read and whose writes run code, as in sysfs."""

from __future__ import annotations

import errno
import os

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import Sysfs, SysfsError


class Blocked(Exception):
    """The kernel waits until somebody lets go."""


class File:
    """An attribute. read() returns text or bytes, write(text) does what the kernel would; both raise OSError."""

    def __init__(self, read=None, write=None, when=None):
        self.read = read
        self.write = write
        self.when = when


class Link:
    """A symbolic link. target() is its text, or None when there is no link now.

    jump() may return the target as (nodes, names) from the top, which saves the walk. node: numbers of the device that it leads to.
    """

    def __init__(self, target, jump=None, node=None):
        self.target = target
        self.jump = jump
        self.node = node

    def when(self):
        """Whether the link is there."""
        return self.target() is not None


class Dir:
    """A directory of fixed entries (each may be absent at times) and of more that find(name) and names() provide."""

    def __init__(self, entries=None, when=None, find=None, names=None):
        self.entries = entries or {}
        self.when = when
        self._find = find
        self._names = names

    def get(self, name):
        """The entry of that name if it is there now."""
        node = self.entries.get(name)
        if node is None and self._find:
            node = self._find(name)
        if node is None or (node.when and not node.when()):
            return None
        return node

    def names(self):
        """Names of what is there now."""
        found = [name for name, node in self.entries.items() if not node.when or node.when()]
        return sorted(found + list(self._names() if self._names else ()))


def text(value):
    """A read() for a fixed text."""
    return lambda: value


class TreeSysfs(Sysfs):
    """The engine's door to the kernel, opened on a tree. before_write(path, value) may raise OSError.

    What blocks takes virtual time, and goes on when what it waits for has happened.
    """

    def __init__(self, top, before_write, clock):
        super().__init__("/")
        self._clock = clock
        self._top = top
        self._before_write = before_write

    def _walk(self, path, follow=True):
        """(node, canonical path); OSError when it isn't there."""
        nodes, names = [self._top], []
        todo = [part for part in reversed(path.split("/")) if part]
        hops = 0
        while todo:
            name = todo.pop()
            if name == ".":
                continue
            if name == "..":
                if names:
                    nodes.pop()
                    names.pop()
                continue
            if not isinstance(nodes[-1], Dir):
                raise OSError(errno.ENOTDIR, path)
            node = nodes[-1].get(name)
            if node is None:
                raise OSError(errno.ENOENT, path)
            if isinstance(node, Link) and (todo or follow):
                hops += 1
                if hops > 40:
                    raise OSError(errno.ELOOP, path)
                if node.jump:
                    nodes, names = node.jump()
                    nodes, names = list(nodes), list(names)
                    continue
                target = node.target()
                if target.startswith("/"):
                    nodes, names = [self._top], []
                todo += [part for part in reversed(target.split("/")) if part]
                continue
            nodes.append(node)
            names.append(name)
        return nodes[-1], "/" + "/".join(names)

    def _bytes(self, path, size=-1):
        node = self._walk(path)[0]
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
            node = self._walk(path)[0]
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
            node = self._walk(path)[0]
        except OSError:
            return []
        try:
            return node.names() if isinstance(node, Dir) else []
        except OSError:
            return []

    def _only(self, kind, path, number, follow=True):
        """The file, which must be of this kind; else the error that the kernel has."""
        node = self._walk(path, follow=follow)[0]
        if not isinstance(node, kind):
            raise OSError(number, path)
        return node

    def names(self, path):
        return self._only(Dir, path, errno.ENOTDIR).names()

    def leads(self, path):
        return self._only(Link, path, errno.EINVAL, follow=False).target()

    def node(self, path):
        return getattr(self._walk(path, follow=False)[0], "node", None)

    def target(self, path):
        try:
            node = self._walk(path, follow=False)[0]
        except OSError:
            return None
        return node.target() if isinstance(node, Link) else None

    def link(self, path):
        target = self.target(path)
        return os.path.basename(target) if target else None
