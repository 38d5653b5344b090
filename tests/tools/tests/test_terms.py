# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that the check of terms, for each kind of text, rejects a breach and accepts a similar text that is allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import terms  # noqa: E402

PAGE = """# A page

<!-- a comment with trouble -->
The folder `trouble` is [new](trouble.md).

```text
trouble
```
<!-- Begin: made -->
trouble
<!-- End: made -->
"""


def found(root: Path, name: str, text: str) -> list[str]:
    """Return the breaches in a repository that contains only this file."""
    path = root / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return list(terms.breaches(root, terms.table()))


def test_prose_of_a_page_is_checked_and_nothing_else_of_it(tmp_path):
    assert found(tmp_path, "docs/a.md", PAGE) == ["docs/a.md:4: 'folder': write directory"]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("roles/a/meta/argument_specs.yml", "argument_specs:\n  main:\n    description:\n      - It is told.\n    options: {a_folder: {type: str}}\n", 4),
        ("roles/a/tasks/main.yml", "- name: Turn the VFs on\n  a.b.c:\n    path: /folder\n", 1),
        ("plugins/modules/a.py", 'DOCUMENTATION = r"""\nmodule: a\noptions:\n  b:\n    description: Where C(folder) is wished.\n"""\nX = "trouble"\n', 5),
        ("plugins/doc_fragments/a.py", 'class ModuleDocFragment:\n    DOCUMENTATION = r"""\nnotes:\n  - The licence.\n"""\n', 4),
        ("changelogs/fragments/a.yml", "minor_changes:\n  - a - it says ``folder``.\n", 1),
        ("roles/a/tasks/main.yml", "- name: Fail\n  a.b.fail:\n    msg: \"{{ folder }}: the trouble of 'folder'\"\n", 3),
        ("roles/a/vars/main.yml", "folder: trouble\nb: c  # where the folder is\n", 2),
        ("roles/a/templates/a.j2", "{{ folder }}\n{# A folder. #}\n", 2),
        ("plugins/a/b.py", 'FOLDER = "trouble"\n\n\ndef folder():\n    """Looks."""  # folder: trouble\n', 5),
        ("plugins/a/b.py", 'X = r"a trouble of a pattern and a folder"\nY = "the device is in trouble: see \'folder\'"\n', 2),
    ],
)
def test_each_kind_of_text_is_checked(tmp_path, name, text, line):
    (breach,) = found(tmp_path, name, text)
    assert breach.startswith("%s:%d: " % (name, line))


# Forbidden phrases from the table of the project's style guide.
FORBIDDEN = """the layout that you wish; trouble with a GPU; it is told; the driver says so; look at it; a place for it; lost GPUs; we assume it;
it has settled; it is not there any more; a VF is asked for; put that right, then run again; the guest lets go of it;
a reboot is due; the run broke off; written anew; a virgin host; the ordinary driver; a folder; it makes vGPUs; bring the vGPUs back;
takes the driver away; turn the VFs on; give a vGPU to a VM; a licence; by the operator's word; What runs is not harmed; GPUs that were passed over"""


@pytest.mark.parametrize("text", [part.strip() for part in FORBIDDEN.replace("\n", " ").split(";")])
def test_what_the_style_forbids_is_found(text):
    assert any(list(term.breaches(text)) for term in terms.table()), text


@pytest.mark.parametrize(
    "text",
    ["troubleshooting", "because of", "written in place", "replaced", "due to the driver", "a vGPU is given by its UUID", "make sure", "lost connection"],
)
def test_a_harmless_neighbor_is_let_through(text):
    assert not any(list(term.breaches(text)) for term in terms.table()), text
