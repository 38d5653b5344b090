# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Configures the hypothesis runs. VGPU_WORLDS sets the number of worlds per suite (default: 20). VGPU_WORLDS_SEED adds millions to the first world's number."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "worlds",
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    max_examples=2,  # the empty example and a random one
    stateful_step_count=20,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink] if not os.environ.get("VGPU_WORLDS_NOSHRINK") else [Phase.generate],
)
settings.load_profile("worlds")
