# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets what, at the least cost: a matching of requests and vGPUs. Pure, and of numbers only."""

from __future__ import annotations

import heapq
from typing import Mapping, Sequence


def match(costs: Sequence[Mapping[int, int]]) -> list[int | None]:
    """For each request the number of what it gets, None for nothing: as many as possible get something, and that at the least cost.

    costs: of each request, by the number of what it may get; none is negative. Of equal ones the lower number is preferred.
    Successive shortest paths: each request takes something free, or what another one can spare.
    """
    nothing = max((number for row in costs for number in row), default=0) + 1  # + the request: what it gets instead of something
    worst = sum(max(row.values(), default=0) for row in costs) + 1
    rows = [{**row, nothing + index: worst} for index, row in enumerate(costs)]
    owner: dict[int, int] = {}
    got: dict[int, int] = {}
    of_row, of_number = [0] * len(rows), {number: 0 for row in rows for number in row}
    for start in range(len(rows)):
        distance: dict[int, int] = {}
        source: dict[int, int] = {}
        heap: list[tuple[int, bool, int]] = []
        done: list[int] = []
        row, base = start, 0
        while True:
            for number, cost in rows[row].items():
                length = base + cost - of_row[row] - of_number[number]
                if length < distance.get(number, length + 1):
                    distance[number], source[number] = length, row
                    heapq.heappush(heap, (length, number in owner, number))
            base, taken, last = heapq.heappop(heap)
            while base > distance[last]:  # a longer path to it was found before
                base, taken, last = heapq.heappop(heap)
            if not taken:
                break
            done.append(last)
            row = owner[last]
        of_row[start] += base
        for number in done:
            of_row[owner[number]] += base - distance[number]
            of_number[number] -= base - distance[number]
        while True:  # along the path, each one gives what it has to the one before it
            row = source[last]
            owner[last] = row
            got[row], before = last, got.get(row)
            if before is None:
                break
            last = before
    return [None if got[index] >= nothing else got[index] for index in range(len(rows))]


def rivals(costs: Sequence[Mapping[int, int]], got: Sequence[int | None], index: int) -> list[int]:
    """All requests that want what the request *index* wants, itself among them: they are more than there is for them together."""
    owner = {number: row for row, number in enumerate(got) if number is not None}
    found = [index]
    for row in found:
        found += [other for other in dict.fromkeys(owner[number] for number in costs[row]) if other not in found]
    return sorted(found)
