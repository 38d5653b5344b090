# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assigns items to requests with minimal total cost. The items are vGPUs, each represented by a number."""

from __future__ import annotations

import heapq
from typing import Mapping, Sequence


def match(costs: Sequence[Mapping[int, int]]) -> list[int | None]:
    """Returns the number of the assigned item for each request, or None for a request that gets no item.

    The result assigns items to as many requests as possible, at minimal total cost. The successive shortest path algorithm gives a request a free
    item, or an item from a request that can use another item.

    Args:
        costs: For each request, the non-negative cost of each possible item, keyed by item number. If costs are equal, the lower number is preferred.
    """
    nothing = max((number for row in costs for number in row), default=0) + 1  # nothing + the request index stands for no item
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
            while base > distance[last]:  # a shorter path to this item has been found
                base, taken, last = heapq.heappop(heap)
            if not taken:
                break
            done.append(last)
            row = owner[last]
        of_row[start] += base
        for number in done:
            of_row[owner[number]] += base - distance[number]
            of_number[number] -= base - distance[number]
        while True:  # along the path, each request passes an item to the previous request
            row = source[last]
            owner[last] = row
            got[row], before = last, got.get(row)
            if before is None:
                break
            last = before
    return [None if got[index] >= nothing else got[index] for index in range(len(rows))]


def rivals(costs: Sequence[Mapping[int, int]], got: Sequence[int | None], index: int) -> list[int]:
    """Returns the indexes of all requests that compete with an unassigned request for the same items, including that request.

    The competing requests outnumber their possible items.

    Args:
        index: The index of a request that gets no item.
    """
    owner = {number: row for row, number in enumerate(got) if number is not None}
    found = [index]
    for row in found:
        found += [other for other in dict.fromkeys(owner[number] for number in costs[row]) if other not in found]
    return sorted(found)
