# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A parser for Prometheus's text format that is as strict as Prometheus's linter."""

from __future__ import annotations

import re

SAMPLE = re.compile(r'^(nvidia_vgpu_[a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? ([0-9.e+-]+)$')


def metrics(text):
    """Return {(name, labels): value}. Assert that each family has its help and its type exactly once, before its samples."""
    found, family = {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert line.split(" ")[2] != family and not any(key[0] == line.split(" ")[2] for key in found)
            family = line.split(" ")[2]
        elif line.startswith("# TYPE "):
            assert line == "# TYPE %s %s" % (family, "counter" if family.endswith("_total") else "gauge")
        else:
            name, labels, value = SAMPLE.match(line).groups()
            assert name == family
            assert (name, labels or "") not in found, "node_exporter ignores a file that contains a sample twice: %s" % line
            found[name, labels or ""] = float(value)
    assert text.endswith("\n")
    return found
