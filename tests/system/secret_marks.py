# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Searches for marked secrets in all places where a run can store or show secrets."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

from support import Twin

SEEN = "/root/seen-by-all"
CACHE = "/var/cache/vgpuctl"
# During a run, the watcher on the machine records every command line, every file of the cache, and the files that other users could open.
# The watcher checks a file before its directory. This order is safe, because the role restricts a directory before it writes files, and never relaxes it.
WATCHER = f"""
import os, time
seen = set()

def note(line):
    if line not in seen:
        seen.add(line)
        with open({SEEN!r}, "ab") as handle:
            handle.write(line + b"\\n")

def for_others(path):
    return os.stat(path).st_mode & 0o077

while not os.path.exists({SEEN!r} + ".end"):
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/cmdline" % name, "rb") as handle:
                    note(handle.read().replace(b"\\0", b" "))
            except OSError:
                continue
    for folder, dummy, names in os.walk({CACHE!r}):
        for path in [os.path.join(folder, one) for one in names]:
            try:
                is_open = for_others(path) and for_others(folder) and for_others({CACHE!r})
            except OSError:
                continue
            note(("%s %s" % ("OPEN" if is_open else "FILE", path)).encode())
    time.sleep(0.05)
"""
# Directories on the machine in which a run could leave a secret.
PLACES = "/etc /run /var /tmp /home /root /usr/local /usr/src /usr/lib/nvidia /boot/grub /dev/shm"


class Watch:
    """A watch that records all command lines on the machine and on the controller until it is stopped."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.here: set[bytes] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch_here, daemon=True)

    def __enter__(self) -> Watch:
        self.twin.sh(f"rm -f {SEEN}*; cat > /root/watcher.py <<'END'\n{WATCHER}\nEND\n(setsid python3 /root/watcher.py >/dev/null 2>&1 </dev/null &)")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()
        self.twin.sh(f"touch {SEEN}.end")

    def _watch_here(self) -> None:
        while not self._done.wait(0.1):
            for name in os.listdir("/proc"):
                if not name.isdigit():
                    continue
                try:
                    self.here.add(Path("/proc", name, "cmdline").read_bytes())
                except OSError:
                    continue

    def there(self) -> str:
        """Return the records of the machine's watcher, one per line."""
        return self.twin.sh(f"cat {SEEN}")

    def files(self, kind: str) -> list[str]:
        """Return files of the cache. "FILE": only root could open the file. "OPEN": other users could open the file."""
        return re.findall(rf"^{kind} (\S+)$", self.there(), re.MULTILINE)


def on_machine(twin: Twin, marks: list[str]) -> str:
    """Return the files and the journal lines that contain a mark, or an empty string."""
    # sudo logs the search command. With brackets around the last letter, the pattern does not match this log line.
    patterns = " ".join(f"-e '{mark[:-1]}[{mark[-1]}]'" for mark in marks)
    return twin.sh(f"grep -rla {patterns} {PLACES} 2>/dev/null; journalctl --no-pager -a -o verbose | grep -a {patterns}; true")


def in_folders(folders: list[Path], marks: list[str]) -> list[str]:
    """Return the files in the directory trees that contain a mark."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(mark.encode() in path.read_bytes() for mark in marks)]
