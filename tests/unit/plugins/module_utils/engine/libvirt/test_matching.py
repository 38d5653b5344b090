# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests the assignment of vGPUs to requests: it serves as many requests as possible at the lowest possible cost."""

from __future__ import annotations

import itertools

from hypothesis import given, strategies

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.libvirt import matching

ROWS = strategies.lists(strategies.dictionaries(strategies.integers(0, 4), strategies.integers(0, 5), max_size=5), max_size=5)


def value(rows, chosen):
    """Returns (number of unserved requests, total cost of the served requests) for an assignment."""
    return chosen.count(None), sum(row[number] for row, number in zip(rows, chosen) if number is not None)


@given(rows=ROWS)
def test_against_all_ways_to_serve_the_requests(rows):
    got = matching.match(rows)
    ways = [way for way in itertools.product(*([None, *row] for row in rows)) if len({*way} - {None}) == len(way) - way.count(None)]
    assert tuple(got) in ways
    assert value(rows, got) == min(value(rows, way) for way in ways)
    for index, number in enumerate(got):
        if number is None:
            rivals = matching.rivals(rows, got, index)
            assert index in rivals and len({number for rival in rivals for number in rows[rival]}) < len(rivals)


def test_the_lowest_number_of_equal_ones():
    assert matching.match([{3: 1, 1: 1, 2: 1}, {3: 1, 1: 1, 2: 1}]) == [1, 2]
    assert matching.match([]) == [] and matching.match([{}]) == [None]


def test_a_large_host_takes_no_time():
    assert matching.match([{number: 1 for number in range(512)} for row in range(512)]) == list(range(512))
