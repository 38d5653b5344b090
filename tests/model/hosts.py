# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""GPUs that the test model can use: NVIDIA's name, the spellings that a layout can use, and the fake GPU model of each GPU."""

from __future__ import annotations

from typing import Dict, List, NamedTuple

from ansible_collections.vgpu.kvm.tests.unit.fake import models

from ansible_collections.vgpu.kvm.tests.model.rules import Board, Profile, Type

# An RTX PRO 6000 with few VFs and types, which keeps a run short.
SMALL_RTX = models.FakeModel(
    "0x2bb5", models.RTXPRO6000.title, 96, 10,
    [one for one in models.RTXPRO6000.types if one.profile and one.gib in (3, 6, 12, 24, 48, 96) or not one.profile and one.gib >= 24],
    offset=2, profiles=models.RTXPRO6000.profiles, mixed=True,
)


class Card(NamedTuple):
    """A GPU of a world. model: its name in NVIDIA's lists and in layouts. fake: the GPU model on the fake host."""

    model: str
    fake: models.FakeModel

    @property
    def types(self) -> Dict[str, Type]:
        """Return the vGPU types by short name."""
        return {
            one.short: Type(one.short, one.name, one.id, one.gib, one.most, one.profile.name if one.profile else None, one.per_gi)
            for one in self.fake.types
        }

    @property
    def board(self) -> Board:
        """Return the board, which defines where GPU instances fit."""
        return Board([Profile(one.name, one.slices, one.memory, one.total) for one in self.fake.profiles])

    @property
    def on_pf(self) -> bool:
        """Return whether the vGPUs are created on the PF instead of on VFs."""
        return not (self.fake.vfs and self.fake.vf_device)

    def spellings(self, address: str, uuid: str) -> List[List[str]]:
        """Return the spellings of the GPU at this address, grouped by rank from the most specific to "all"."""
        domain, bus, rest = address.split(":")
        exact = [address, "%08x:%s:%s" % (int(domain, 16), bus.upper(), rest), "%x:%s:%s" % (int(domain, 16), bus, rest), uuid]
        if int(domain, 16) == 0:
            exact.append("%s:%s" % (bus, rest))
        device, subsystem = self.fake.device[2:], self.fake.subsystem[2:]
        product = self.fake.title
        vendored = product.split(" ", 1)[1] == self.model  # "NVIDIA A40" is a model with the name of its vendor, not a product name
        return [
            exact,
            ["10de:%s:%s" % (device, subsystem), "10DE:%s:%s" % (device.upper(), subsystem.upper())],
            ["10de:%s" % device] + ([] if vendored else [product]),
            [self.model, self.model.lower()] + ([product] if vendored else []),
            ["all"],
        ]


CARDS = {
    "a40": Card("A40", models.SMALL_A40),
    "l40s": Card("L40S", models.SMALL_L40S),
    "t4": Card("T4", models.T4),
    "v100": Card("V100", models.V100),
    "p40": Card("P40", models.P40),
    "a2": Card("A2", models.A2),
    "a100": Card("A100", models.SMALL_A100),
    "a30": Card("A30", models.A30),
    "h100": Card("H100", models.SMALL_H100),
    "rtxpro6000": Card("RTX PRO 6000 Blackwell SE", SMALL_RTX),
}
ADDRESSES = ["0000:3b:00.0", "0000:17:00.1", "0000:e7:00.0", "0000:e8:00.0", "10000:01:00.0"]
# GPUs in NVIDIA's lists that no world contains. The module ignores their spellings.
ELSEWHERE = ["B200", "M60", "10de:2901", "10de:3182"]
# All spellings of known GPU models, including models that a world lacks.
WORDS = {word for card in CARDS.values() for words in card.spellings("0000:00:00.0", "-")[1:-1] for word in words}.union(ELSEWHERE)
UUIDS = ["3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a%02x" % number for number in range(5)]
