# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a page as printed: types its commands into a fresh shell, writes its files, and compares the output of its commands.

A page is read from top to bottom:

* ``console``: each line that begins with ``$ `` is a command. Every command must succeed.
* ``yaml`` whose first line is ``# path/of/a/file.yml``: the file is written, relative to the shell's current directory.
* ``text`` as the next block after ``console``: lines that the last command must print, in this order. ``…`` represents any text. The tool skips screens
  (``<!-- screen: … -->``), because another test compares them.

The tool skips all other blocks. One shell runs the whole page, so ``cd`` and ``export`` remain in effect until the end of the page.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Step:
    """One step of a tutorial page.

    kind: command, file or output.
    name: path of a file.
    """

    kind: str
    text: str
    name: str = ""


def steps(text: str) -> list[Step]:
    """Return the steps of a page, or of a part of it."""
    found: list[Step] = []
    before, end = "", 0
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        named = NAMED.match(content)
        follows = before == "console" and "<!-- screen" not in text[end : block.start()]
        if language == "console":
            found += [Step("command", line[2:]) for line in content.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
        elif language == "yaml" and named:
            found.append(Step("file", content, named[1]))
        elif language == "text" and follows:
            found.append(Step("output", content))
        before, end = language, block.end()
    return found


def missing(expected: str, printed: str) -> str:
    """Return the first line of *expected* that *printed* lacks, or an empty text if *printed* contains all lines in order."""
    lines = iter(printed.splitlines())
    for line in filter(None, map(str.strip, expected.splitlines())):
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
        if not any(pattern.fullmatch(one.strip()) for one in lines):
            return line
    return ""


class Shell:
    """A bash without startup files. environment: all of its variables; seconds: limit of one command."""

    def __init__(self, folder: Path, environment: Mapping[str, str], seconds: int = 1800) -> None:
        self.seconds = seconds
        self.log = ""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(["bash", "--noprofile", "--norc"], cwd=folder, env=dict(environment), start_new_session=True, **pipes)

    def run(self, command: str) -> str:
        """Run a command and return its output. Raises AssertionError if the command fails."""
        mark = uuid.uuid4().hex
        limit = threading.Timer(self.seconds, os.killpg, (self.process.pid, signal.SIGKILL))  # This kills the shell and all processes that the command started.
        limit.start()
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n")
        self.process.stdin.flush()
        printed, status = [], ""
        for line in self.process.stdout:
            if line.startswith(mark):
                status = line.split()[1]
                break
            printed.append(line)
        limit.cancel()
        text = "".join(printed)
        self.log += f"$ {command}\n{text}"
        assert status == "0", f"$ {command}\nended with {status or 'the shell'}:\n{text[-6000:]}"
        return text

    def close(self) -> None:
        """End the shell."""
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def follow(shell: Shell, parts: Iterable[Step], replaced: Mapping[str, str] | None = None) -> None:
    """Run the steps. *replaced* maps words on the page to the words that the test uses instead. Each mapped word must occur on the page."""
    left, printed = set(replaced or {}), ""
    for step in parts:
        text = step.text
        for word, other in (replaced or {}).items():
            left -= {word} if word in text else set()
            text = text.replace(word, other)
        if step.kind == "command":
            printed = shell.run(text)
        elif step.kind == "output":
            line = missing(text, printed)
            assert not line, f"no such line: {line}\nprinted was:\n{printed[-6000:]}"
        else:
            target = Path(shell.run("pwd").strip()) / step.name
            assert target.parent.is_dir(), f"the page does not create {target.parent}"
            target.write_text(text, encoding="utf-8")
    assert not left, f"the page no longer prints {', '.join(sorted(left))}"
