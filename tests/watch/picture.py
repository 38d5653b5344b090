# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Draws the dashboard's panels as one SVG image. A real Prometheus answers the dashboard's queries over six hours of generated metrics of fake hosts.

Usage: picture.py FILE. The program needs prometheus and promtool, and the collection must be importable.
"""

from __future__ import annotations

import html
import math
import re
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("metrics", "tools")]

import states  # noqa: E402  (the line above extends sys.path)
from dashboard import ROWS, Panel  # noqa: E402
from programs import program  # noqa: E402
from servers import LOOPBACK, Program, free_port, get  # noqa: E402

BEGIN, STEP, POINTS = 1764115200, 300, 73
COLUMN, LINE, GAP, SIDE = 50, 20, 8, 1200
MOST = 10  # The maximum number of lines in a panel.
COLORS = ("#3274d9", "#e0752d", "#37872d", "#c4162a", "#8f3bb8", "#0f9dad", "#b0921d", "#5a5a5a")
VARIED = {"utilization_ratio": 1.0, "framebuffer_used_bytes": 0.6, "gpu_utilization_ratio": 0.8, "gpu_power_watts": 0.5, "gpu_temperature_celsius": 0.2}
SAMPLE = re.compile(r"^nvidia_vgpu_(\w+?)(?:\{(.*)\})? (\S+)$")


def wave(name: str, labels: str, point: int) -> float:
    """Return a factor from 0.2 to 1 that varies over time, differently for each series."""
    shift = sum(map(ord, name + labels)) % 100
    turn = math.sin((point + shift) / (9 + shift % 7)) * math.cos((point + 3 * shift) / 23)
    return 0.6 + 0.4 * turn


def written(folder: Path) -> dict[str, tuple[str, str, range]]:
    """Return, for each host, its healthy metrics, its metrics in another state, and the points in time of the other state."""
    found = {}
    for name, state, when in (("gpu01", states.well, range(0)), ("gpu02", states.missing, range(30, 42)), ("gpu03", states.unlicensed, range(50, 73))):
        one = states.host(folder / name)
        well = states.text(one)
        state(one)
        found[name] = (well, states.text(one), when)
    return found


def history(folder: Path) -> str:
    """Return all samples of all hosts in the OpenMetrics format with timestamps."""
    lines = []
    for name, (well, other, when) in written(folder).items():
        for point in range(POINTS):
            now = BEGIN + point * STEP
            for line in (other if point in when else well).splitlines():
                if line.startswith("#"):
                    continue
                metric, labels, value = SAMPLE.match(line).groups()
                if metric in VARIED:
                    value = "%.4f" % (float(value) * (1 - VARIED[metric] * (1 - wave(metric + name, labels or "", point))))
                elif metric == "metrics_timestamp_seconds":
                    value = str(now - 20)
                whole = ",".join(filter(None, [labels, 'instance="%s",job="vgpu"' % name]))
                lines.append("nvidia_vgpu_%s{%s} %s %d" % (metric, whole, value, now))
    return "\n".join(sorted(lines, key=lambda line: line.split("{")[0])) + "\n# EOF\n"


class Store(Program):
    """A Prometheus that contains the generated samples."""

    def __init__(self, folder: Path) -> None:
        promtool, prometheus = (program(name, "prometheus", folder) for name in ("promtool", "prometheus"))
        (folder / "history.txt").write_text(history(folder / "hosts"), encoding="utf-8")
        words = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(folder / "history.txt"), str(folder / "tsdb")]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        (folder / "prometheus.yml").write_text("{}\n", encoding="utf-8")
        port = free_port()
        paths = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}", "--storage.tsdb.retention.time=100y"]
        super().__init__([prometheus, *paths, f"--web.listen-address={LOOPBACK}:{port}", "--log.level=warn"], folder, "/-/ready", port)

    def series(self, query: str) -> list[tuple[dict, list[tuple[float, float]]]]:
        """Return (labels, [(time, value)]) for each series of a query."""
        words = urllib.parse.urlencode({"query": query, "start": BEGIN, "end": BEGIN + (POINTS - 1) * STEP, "step": STEP})
        body = get(f"http://{LOOPBACK}:{self.port}/api/v1/query_range?{words}")
        assert body and body["status"] == "success", (query, body)
        return [(one["metric"], [(float(when), float(value)) for when, value in one["values"]]) for one in body["data"]["result"]]


def legend(text: str, labels: dict) -> str:
    """Return a legend with its labels filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text)


def amount(value: float, unit: str) -> str:
    """Return a value with its unit."""
    if unit == "percentunit":
        return "%d %%" % round(100 * value)
    if unit == "bytes":
        return "%.3g GiB" % (value / 1024**3)
    if unit == "s":
        return "%d d" % (value / 86400) if value > 2 * 86400 else "%.3g s" % value
    return "%.3g%s" % (value, {"watt": " W", "celsius": " °C"}.get(unit, ""))


def text(x: float, y: float, words: str, size: int = 10, **more: str) -> str:
    """Return an SVG text element."""
    attributes = "".join(' %s="%s"' % (name.replace("_", "-"), value) for name, value in more.items())
    return '<text x="%.0f" y="%.0f" font-size="%d"%s>%s</text>' % (x, y, size, attributes, html.escape(words))


def drawn(panel: Panel, store: Store, x: float, y: float, height: float) -> list[str]:
    """Return the SVG elements of a panel."""
    width = panel.width * COLUMN - GAP
    found = [
        (legend(words, labels), values)
        for words, query in panel.queries
        for labels, values in store.series(query.replace("$host", ".*").replace("$gpu", ".*").replace("$vgpu", ".*"))
    ]
    assert found, panel.title
    out = ['<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" fill="#fff" stroke="#d0d4da"/>' % (x, y, width, height)]
    out.append(text(x + 8, y + 16, panel.title, 11, font_weight="bold"))
    if panel.kind == "stat":
        return [*out, text(x + width / 2, y + height - 16, amount(found[0][1][-1][1], panel.unit), 28, text_anchor="middle", fill=COLORS[0])]
    if panel.kind == "table":
        return out + [text(x + 8, y + 36 + 14 * number, words, 10) for number, (words, _values) in enumerate(found[:8])]
    most = max((value for _words, values in found for _when, value in values), default=0) or 1
    left, top, right, bottom = x + 52, y + 26, x + width - 10, y + height - 46
    for share in (0, 0.5, 1):
        level = bottom - share * (bottom - top)
        out.append('<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" stroke="#e6e9ed"/>' % (left, level, right, level))
        out.append(text(left - 4, level + 3, amount(share * most, panel.unit), 8, text_anchor="end", fill="#666"))
    busiest = sorted(found, key=lambda one: -sum(value for _when, value in one[1]))  # With more lines, a panel would be illegible.
    for number, (words, values) in enumerate(busiest[:MOST]):
        color = COLORS[number % len(COLORS)]
        points = " ".join(
            "%.0f,%.0f" % (left + (when - BEGIN) / ((POINTS - 1) * STEP) * (right - left), bottom - max(value, 0) / most * (bottom - top))
            for when, value in values
        )
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.2"/>' % (points, color))
        if number < 6:
            place = x + 8 + number % 3 * (width - 16) / 3
            out.append(text(place, y + height - 26 + 12 * (number // 3), words[: int(width / 20)], 8, fill=color))
    if len(found) > MOST:
        out.append(text(x + width - 8, y + 16, "the busiest %d of %d" % (min(len(found), MOST), len(found)), 8, text_anchor="end", fill="#666"))
    return out


def picture(store: Store) -> str:
    """Return the whole SVG."""
    out, y = [], 10.0
    for title, row in ROWS.items():
        out.append(text(10, y + 16, title, 14, font_weight="bold"))
        y, x, tallest = y + 26, 10, 0
        for panel in row:
            height = (4 if panel.kind == "stat" else 8) * LINE
            if x + panel.width * COLUMN > SIDE + 20:
                x, y, tallest = 10, y + tallest + GAP, 0
            out += drawn(panel, store, x, y, height)
            x, tallest = x + panel.width * COLUMN, max(tallest, height)
        y += tallest + 2 * GAP
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif">' % (SIDE + 20, y)
    note = "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n<!-- SPDX-FileCopyrightText: The vgpu.kvm authors -->\n"
    return head + "\n" + note + '<rect width="100%" height="100%" fill="#f4f5f7"/>\n' + "\n".join(out) + "\n</svg>\n"


def main() -> None:
    """Run the program."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        try:
            Path(sys.argv[1]).write_text(picture(store), encoding="utf-8")
        finally:
            store.close()


if __name__ == "__main__":
    main()
