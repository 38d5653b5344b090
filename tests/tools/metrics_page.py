# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Writes the tables of docs/metrics.md: metrics from the engine's list, alerts from the role's rules. ``--check`` fails if the page is out of date."""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tools"))

from made_page import put  # noqa: E402  (the line above extends sys.path)

PAGE = ROOT / "docs" / "metrics.md"
NAMES = ROOT / "plugins" / "module_utils" / "engine" / "cli" / "metrics_names.py"
RULES = ROOT / "roles" / "metrics" / "files" / "vgpu-alerts.yml"


def metrics() -> str:
    """Return the tables of metrics, one for each group."""
    spec = importlib.util.spec_from_file_location("metrics_names", NAMES)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module in sys.modules.
    spec.loader.exec_module(module)
    lines, group = [], ""
    for one in module.METRICS:
        if one.group != group:
            group = one.group
            lines += ["", f"### {group}", "", "| metric | labels | meaning |", "|---|---|---|"]
        lines.append(f"| `{module.PREFIX}{one.name}` | {', '.join(one.labels)} | {one.text} |")
    return "\n".join(lines[1:]) + "\n"


def alerts() -> str:
    """Return the table of alerts."""
    lines = ["| alert | severity | for | fires if |", "|---|---|---|---|"]
    for one in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]:
        expression = " ".join(one["expr"].split()).replace("|", "\\|")
        lines.append(f"| `{one['alert']}` | {one['labels']['severity']} | {one.get('for', 'at once')} | `{expression}` |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return docs/metrics.md with up-to-date tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("metrics", metrics()), ("alerts", alerts())):
        begin, end = f"<!-- Begin: {name}, written by tests/tools/metrics_page.py -->\n", f"<!-- End: {name} -->\n"
        text, count = re.subn(re.escape(begin) + ".*?" + re.escape(end), lambda match, t=table, b=begin, e=end: f"{b}\n{t}\n{e}", text, flags=re.DOTALL)
        assert count == 1, name
    return text


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    return 0 if put(PAGE, page(), parser.parse_args().check, "the lists of metrics and alerts", "is out of date: run tests/tools/metrics_page.py") else 1


if __name__ == "__main__":
    sys.exit(main())
