# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Builds the documentation site into .build/docs-site without fetching anything from the network.

The script assembles the sources in ``.build/docs-site/source``: the pages of docs/, whose links it rewrites for the site, and the pages that
antsibull-docs generates for modules, roles and plugins. Sphinx turns them into HTML and treats every warning as an error. The script then follows each
internal link of the HTML to its page and anchor. It does not check external links; it lists them in ``external-links.txt``.

The script needs the tools of requirements/site.txt in the environment of this Python. The exit status is 1 if a step fails or a link is broken.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "site"
SITE = ROOT / ".build" / "docs-site"
COLLECTIONS = ROOT / ".build" / "collections"
REFERENCE = "collections/vgpu/kvm"

# Pages outside docs/: path in the repository, file name on the site.
ELSEWHERE = {
    "tests/twin/README.md": "twin-machine.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_CONTENTS = re.compile(r"^\.\. contents::\n(?: +:.*\n)+", re.MULTILINE)
_ROLE = re.compile(r"roles/([a-z_]+)/README\.md")


def repository() -> str:
    """Return the repository's URL of source files. Links to files that are not pages of the site use this URL."""
    return yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["repository"] + "/blob/main/"


def turned(path: str, anchor: str, page: Path) -> str:
    """Return the site's link for a link to *path* on *page* of the repository. Raises ValueError if no such file exists."""
    target = Path(os.path.normpath(page.parent / path))
    if not target.exists():
        raise ValueError(f"{page.relative_to(ROOT)}: the target of the link {path} does not exist")
    name = target.relative_to(ROOT).as_posix()
    role = _ROLE.fullmatch(name)
    if role:
        return f"{REFERENCE}/{role.group(1)}_role.rst"
    if name == "docs/index.md":
        return "index.md" + anchor
    if target.suffix == ".md" and target.parent == ROOT / "docs":
        return target.name + anchor
    if target.parent == ROOT / "docs" / "images":
        return "images/" + target.name
    if name in ELSEWHERE:
        return ELSEWHERE[name] + anchor
    return repository() + name + anchor


def text_of(page: Path) -> str:
    """Return the text of a page with its links rewritten for the site."""
    return _LINK.sub(lambda match: turned(match.group(1), match.group(2) or "", page), page.read_text(encoding="utf-8"))


def assemble(source: Path) -> None:
    """Copy the pages and images into the source directory, with the links rewritten for the site."""
    shutil.rmtree(SITE, ignore_errors=True)
    source.mkdir(parents=True)
    for page in sorted((ROOT / "docs").glob("*.md")):
        name = "_contents.md" if page.name == "index.md" else page.name
        (source / name).write_text(text_of(page), encoding="utf-8")
    for path, name in ELSEWHERE.items():
        (source / name).write_text(text_of(ROOT / path), encoding="utf-8")
    shutil.copy(HERE / "index.md", source / "index.md")
    shutil.copytree(ROOT / "docs" / "images", source / "images")


def run(*command: str, **environment: str) -> bool:
    """Run a tool from the environment of this Python. Return whether it exited with status 0."""
    folder = Path(sys.executable).parent
    path = os.pathsep.join([str(folder), os.environ["PATH"]])  # antsibull-docs searches PATH for ansible.
    env = {**os.environ, "PATH": path, **environment}
    return subprocess.run([str(folder / command[0]), *command[1:]], cwd=ROOT, env=env, check=False).returncode == 0


def reference(source: Path) -> bool:
    """Generate the pages of modules, roles and plugins with antsibull-docs. Return whether it succeeded."""
    subprocess.run([sys.executable, str(ROOT / "tests" / "tools" / "mirror.py")], check=True, stdout=subprocess.DEVNULL)
    return run(
        *("antsibull-docs", "collection", "--use-current", "--no-indexes", "--fail-on-error", "--dest-dir", str(source), "vgpu.kvm"),
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        ANSIBLE_HOME=str(ROOT / ".build" / "ansible-home"),
    )


def without_contents(source: Path) -> None:
    """Remove the tables of contents from the pages of antsibull-docs: the theme has its own, and shows an error if a page has two."""
    for page in (source / "collections").rglob("*.rst"):
        page.write_text(_CONTENTS.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


def accessible(html: Path) -> None:
    """Repair accessibility errors: navigation headings without a level, and an invalid attribute."""
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8").replace('class="caption" role="heading"', 'class="caption" role="heading" aria-level="2"')
        page.write_text(text.replace(' aria-role="button"', ""), encoding="utf-8")


class Links(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self) -> None:
        """Start with no links and no anchors."""
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the values of href, src, id and name."""
        for key, value in attrs:
            if value and key in ("href", "src"):
                self.targets.append(value)
            elif value and key in ("id", "name"):
                self.anchors.add(value)


def check_links(html: Path) -> tuple[list[str], set[str]]:
    """Return (broken links, as messages; links to other sites)."""
    pages = {}
    for path in sorted(html.rglob("*.html")):
        pages[path.resolve()] = Links()
        pages[path.resolve()].feed(path.read_text(encoding="utf-8"))
    broken, external = [], set()
    for path, page in pages.items():
        for link in page.targets:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                external.add(link)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                broken.append(f"{path.relative_to(html.resolve())}: {link}: no such page")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.relative_to(html.resolve())}: {link}: no such anchor")
    return broken, external


def main() -> int:
    """Run the command-line program."""
    source, html = SITE / "source", SITE / "html"
    try:
        assemble(source)
    except ValueError as exc:
        print(exc)
        return 1
    if not reference(source):
        return 1
    without_contents(source)
    if not run("sphinx-build", "-b", "html", "-W", "--keep-going", "-n", "-q", "-c", str(HERE), "-d", str(SITE / "doctrees"), str(source), str(html)):
        return 1
    accessible(html)
    broken, external = check_links(html)
    (SITE / "external-links.txt").write_text("".join(f"{link}\n" for link in sorted(external)), encoding="utf-8")
    print("".join(f"{line}\n" for line in broken), end="")
    print(f"{html}: {len(list(html.rglob('*.html')))} pages, {len(broken)} broken links, {len(external)} external links")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
