# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict as lines of text: one table, and below each host what is wrong with it."""

from __future__ import annotations

from . import verdict

_DEVICES = 3  # that one line names
HEAD = ("HOST", "STATE", "GPUS", "VGPUS", "IN USE")


def lines(found):
    """Lines without ends. found: of verdict.fleet."""
    rows = [HEAD] + [_cells(one) for one in found["hosts"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    told = [_line(HEAD, widths)]
    for one, row in zip(found["hosts"], rows[1:]):
        told.append(_line(row, widths))
        for problem in one["problems"]:
            told += _problem(problem)
    told.append(summary(found))
    return told


def summary(found):
    """One sentence: how many hosts are in which state."""
    total = len(found["hosts"])
    words = {"error": "with errors", "unread": "not read", "unreachable": "unreachable", "warning": "with warnings", "ok": "well"}
    parts = ["%d %s" % (found["counts"][state], words[state]) for state in verdict.STATES if found["counts"][state]]
    return "%d host%s: %s." % (total, "" if total == 1 else "s", ", ".join(parts) or "none")


def _cells(one):
    numbers = [str(one[key]) for key in ("gpus", "vgpus", "in_use")] if one["state"] not in ("unread", "unreachable") else ["-"] * 3
    return (one["name"] + (" (guest)" if one["kind"] == "guest" else ""), one["state"], *numbers)


def _line(cells, widths):
    texts = [cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(cells, widths))]
    return "  ".join(texts).rstrip()


def _problem(problem):
    devices = problem["devices"]
    named = ", ".join(devices[:_DEVICES]) + (" and %d more" % (len(devices) - _DEVICES) if len(devices) > _DEVICES else "")
    text = "    %s %s: %s%s" % (problem["severity"], problem["code"], named + ": " if named else "", " ".join(problem["found"].split()))
    if problem["wanted"]:
        text += " (wanted: %s)" % problem["wanted"]
    return [text] + (["      do: %s" % " ".join(problem["remedy"].split())] if problem["remedy"] else [])
