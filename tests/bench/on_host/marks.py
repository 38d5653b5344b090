# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a module's payload as Ansible would, or another Python program, in this process, and says where its time went. Nothing of the module is changed.

``marks.py PAYLOAD times``: JSON of seconds since this program's start, when AnsibleModule was begun, was there, was told the result.
``marks.py PAYLOAD profile``: the profile, threads and all, as JSON: [[function, calls, own seconds, seconds with all that it called], …].
Words after that are arguments of the program. What it prints goes to stderr.
"""

from __future__ import annotations

import builtins
import contextlib
import cProfile
import json
import pstats
import sys
import threading
import time
import zipfile

BEGUN = time.monotonic()
MARKS = {}


def watch_ansible_module():
    """Notes when AnsibleModule is made and when it is told the result, as soon as it is imported."""
    load = builtins.__import__

    def note(name):
        MARKS.setdefault(name, time.monotonic() - BEGUN)

    def watched(name, *arguments, **named):
        module = load(name, *arguments, **named)
        basic = sys.modules.get("ansible.module_utils.basic")
        kind = getattr(basic, "AnsibleModule", None)
        if kind is None:
            return module
        builtins.__import__ = load
        make, end = kind.__init__, kind.exit_json

        def init(self, *args, **kwargs):
            note("made")
            make(self, *args, **kwargs)
            note("options")

        def exit_json(self, *args, **kwargs):
            note("worked")
            end(self, *args, **kwargs)

        kind.__init__, kind.exit_json = init, exit_json
        return module

    builtins.__import__ = watched


def program(path):
    """The code of a payload, or of a zipapp such as the command vgpuctl."""
    if zipfile.is_zipfile(path):
        return compile("import runpy; runpy.run_path(%r, run_name='__main__')" % path, path, "exec")
    with open(path, encoding="utf-8") as file:
        return compile(file.read(), path, "exec")


def run(path, execute=exec):
    """Runs the payload; its exit is the end of the run. execute(code, globals, locals): another way to run it, such as a profile's."""
    code = program(path)
    sys.argv = [path, *sys.argv[3:]]
    # The payload takes this program's folder off the path, as it does with its own.
    names = {"__name__": "__main__", "__file__": __file__}
    try:
        execute(code, names, names)
    except SystemExit as exc:
        if exc.code not in (None, 0):
            raise


def short(file):
    """A file's path as people know it; the engine's, from wherever it came, begin with engine/."""
    if "/vgpu_engine/" in file:
        return "engine/" + file.split("/vgpu_engine/")[1]
    return file.split(".zip/")[-1].replace("ansible_collections/vgpu/kvm/plugins/", "").replace("module_utils/engine/", "engine/")


def profiled(path):
    """The profile of this thread and of those that it starts."""
    others = []
    body = threading.Thread.run

    def watched(self):
        mine = cProfile.Profile()
        others.append(mine)
        mine.runcall(body, self)

    threading.Thread.run = watched
    main = cProfile.Profile()
    run(path, main.runctx)
    found = pstats.Stats(main)
    for one in others:
        found.add(one)
    lines = []
    for (file, line, name), (calls, dummy, own, cumulative, dummy) in found.stats.items():
        where = short(file)
        lines.append(["%s:%s" % (where, name) if line else name, calls, round(own, 4), round(cumulative, 4)])
    return sorted(lines, key=lambda one: -one[3])


def main():
    """Runs as a program."""
    path, what = sys.argv[1:3]
    with contextlib.redirect_stdout(sys.stderr):
        if what == "times":
            watch_ansible_module()
            run(path)
            MARKS["ended"] = time.monotonic() - BEGUN
            told = MARKS
        else:
            told = profiled(path)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
