# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assigns items to requests with minimal total cost. Items are vGPUs, which are represented by numbers."""

from __future__ import annotations

import heapq
from typing import Mapping, Sequence


def match(costs: Sequence[Mapping[int, int]]) -> list[int | None]:
    """Returns the number of the assigned item for each request, or None for a request without an item.

    As many requests as possible receive an item. Among these assignments, the total cost is minimal. The algorithm is successive shortest paths: a
    request takes a free item, or the item of a request that can use another item.

    Args:
        costs: For each request, the non-negative cost of each possible item, by the item's number. If costs are equal, the lower number is preferred.
    """
    nothing = max((number for row in costs for number in row), default=0) + 1  # nothing + the index of a request stands for no item
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
            while base > distance[last]:  # a shorter path to this item was found in the meantime
                base, taken, last = heapq.heappop(heap)
            if not taken:
                break
            done.append(last)
            row = owner[last]
        of_row[start] += base
        for number in done:
            of_row[owner[number]] += base - distance[number]
            of_number[number] -= base - distance[number]
        while True:  # along the path, each request passes its item to the previous request
            row = source[last]
            owner[last] = row
            got[row], before = last, got.get(row)
            if before is None:
                break
            last = before
    return [None if got[index] >= nothing else got[index] for index in range(len(rows))]


def rivals(costs: Sequence[Mapping[int, int]], got: Sequence[int | None], index: int) -> list[int]:
    """Returns the indexes of all requests that compete for the same items as an unassigned request, including the request itself.

    These requests outnumber the items that are possible for them.

    Args:
        index: The index of a request without an item.
    """
    owner = {number: row for row, number in enumerate(got) if number is not None}
    found = [index]
    for row in found:
        found += [other for other in dict.fromkeys(owner[number] for number in costs[row]) if other not in found]
    return sorted(found)
