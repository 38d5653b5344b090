# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Runs a module's payload as Ansible would, or another Python program, in this process, and reports where its time went. The module stays unchanged.

``marks.py PAYLOAD times`` prints four values as JSON, in seconds from this program's start: when the creation of AnsibleModule begins, when it is
complete, when the module returns its result, and when the run ends.
``marks.py PAYLOAD profile`` prints the profile of all threads as JSON: [[function, calls, own seconds, seconds including callees], …].
All further arguments go to the program. The program's output goes to stderr.
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
    """Record when AnsibleModule is created and when it gets the result, as soon as the module imports it."""
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
    """Return the code of a payload, or of a zipapp such as the command vgpuctl."""
    if zipfile.is_zipfile(path):
        return compile("import runpy; runpy.run_path(%r, run_name='__main__')" % path, path, "exec")
    with open(path, encoding="utf-8") as file:
        return compile(file.read(), path, "exec")


def run(path, execute=exec):
    """Run the payload until it exits. execute(code, globals, locals) can replace exec, such as with a profiler's method."""
    code = program(path)
    sys.argv = [path, *sys.argv[3:]]
    # The payload removes this program's directory from the path, as it does with its own directory.
    names = {"__name__": "__main__", "__file__": __file__}
    try:
        execute(code, names, names)
    except SystemExit as exc:
        if exc.code not in (None, 0):
            raise


def short(file):
    """Return a short path of a file. The engine's files begin with engine/, wherever they were loaded from."""
    if "/vgpu_engine/" in file:
        return "engine/" + file.split("/vgpu_engine/")[1]
    return file.split(".zip/")[-1].replace("ansible_collections/vgpu/kvm/plugins/", "").replace("module_utils/engine/", "engine/")


def profiled(path):
    """Return the profile of this thread and of all threads that it starts."""
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
    """Run the command-line program."""
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
