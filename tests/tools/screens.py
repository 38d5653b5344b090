# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes the screens in docs: the output of commands and playbooks on simulated hosts. In the session engine, the same tests compare the screens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mirror

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/unit/plugins/module_utils/engine/cli/test_page.py", "tests/fleet/test_screens.py")

if __name__ == "__main__":
    folder = ROOT / ".build" / "collections"
    environment = {**os.environ, "PYTHONPATH": str(folder), "VGPU_WRITE_SCREENS": str(ROOT / "docs")}
    commands = [[sys.executable, "-m", "pytest", "-q", one] for one in TESTS]
    sys.exit(max(subprocess.run(one, cwd=mirror.make(folder), env=environment, check=False).returncode for one in commands))
