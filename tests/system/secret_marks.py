# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Search for marked secrets wherever a run may have stored or shown them."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

from support import Twin

SEEN = "/root/seen-by-all"
CACHE = "/var/cache/vgpuctl"
# While a run lasts, the watcher on the machine notes every command line, every file of the cache, and the files that other users could have opened.
# It checks a file before the file's directory: the role restricts a directory before it puts a file there, and never widens it again.
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
# Directories on the machine that may contain a secret after a run.
PLACES = "/etc /run /var /tmp /home /root /usr/local /usr/src /usr/lib/nvidia /boot/grub /dev/shm"


class Watch:
    """A watch that notes all command lines on the machine and on the controller from its start to its end."""

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
        """Return the watcher's notes on the machine, one per line."""
        return self.twin.sh(f"cat {SEEN}")

    def files(self, kind: str) -> list[str]:
        """Return the files of the cache: "FILE" for those that only root could open, "OPEN" for the others."""
        return re.findall(rf"^{kind} (\S+)$", self.there(), re.MULTILINE)


def on_machine(twin: Twin, marks: list[str]) -> str:
    """Return the files and the journal lines that contain a mark, or an empty string."""
    # sudo logs the search command itself. The brackets around the last letter keep the pattern from matching that log line.
    patterns = " ".join(f"-e '{mark[:-1]}[{mark[-1]}]'" for mark in marks)
    return twin.sh(f"grep -rla {patterns} {PLACES} 2>/dev/null; journalctl --no-pager -a -o verbose | grep -a {patterns}; true")


def in_folders(folders: list[Path], marks: list[str]) -> list[str]:
    """Return the files below the directories that contain a mark."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(mark.encode() in path.read_bytes() for mark in marks)]
