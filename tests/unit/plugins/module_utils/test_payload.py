# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A module's own sources decide what runs; the host's compiled copy only spares the compiler."""

from __future__ import annotations

import importlib
import importlib.util
import os
import py_compile
import sys
import zipfile

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils import _payload
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import install

SOURCES = {"__init__.py": "", "one.py": "WORD = 'one'\n", "sub/__init__.py": "", "sub/two.py": "from ..one import WORD\nTWO = WORD + ' two'\n"}


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """Makes a zip with the package, a copy of it, and imports from it; the package's name is a new one for each test."""
    name = "engine_%s" % os.path.basename(tmp_path).replace("-", "_")
    copy = tmp_path / "copy"
    for relative, text in SOURCES.items():
        (copy / relative).parent.mkdir(parents=True, exist_ok=True)
        (copy / relative).write_text(text)
    copy.chmod(0o755)
    archive = tmp_path / "ansible_x_payload.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for relative, text in SOURCES.items():
            made.writestr("%s/%s" % (name, relative), text)
    monkeypatch.syspath_prepend(str(archive))
    before = list(sys.meta_path)
    package = importlib.import_module(name)
    yield package, copy
    sys.meta_path[:] = before
    for one in [one for one in sys.modules if one == name or one.startswith(name + ".")]:
        del sys.modules[one]


def _prefer(package, copy):
    return _payload.prefer_copy(package.__name__, package.__path__[0], str(copy))


def _load(package, name):
    return importlib.import_module("%s.%s" % (package.__name__, name))


def test_the_copy_is_where_the_host_has_it():
    assert _payload.COPY == install.PACKAGE


def test_what_is_the_same_comes_from_the_copy(payload):
    package, copy = payload
    assert _prefer(package, copy)
    two = _load(package, "sub.two")
    assert two.TWO == "one two" and _load(package, "one").__file__ == str(copy / "one.py") and two.__file__ == str(copy / "sub/two.py")
    assert two.__spec__.loader.get_source(two.__name__) == SOURCES["sub/two.py"]
    assert sorted(path.name for path in copy.rglob("*")) == ["__init__.py", "__init__.py", "one.py", "sub", "two.py"], "nothing is written"


def test_what_differs_comes_from_the_module(payload):
    package, copy = payload
    (copy / "one.py").write_text("WORD = 'two'\n")
    assert _prefer(package, copy)
    two = _load(package, "sub.two")
    assert two.TWO == "one two" and ".zip/" in _load(package, "one").__file__
    assert two.__file__ == str(copy / "sub/two.py")


def test_what_is_not_there_comes_from_the_module(payload):
    package, copy = payload
    (copy / "sub/two.py").unlink()
    assert _prefer(package, copy)
    assert _load(package, "sub.two").TWO == "one two" and ".zip/" in _load(package, "sub.two").__file__


def test_the_compiled_form_of_the_same_source_is_run(payload):
    """Seen by a compiled form that claims the hash of another source, which no honest run would make."""
    package, copy = payload
    fake = copy / "fake.py"
    fake.write_text("WORD = 'compiled'\n")
    path = importlib.util.cache_from_source(str(copy / "one.py"))
    os.makedirs(os.path.dirname(path))
    py_compile.compile(str(fake), path, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    with open(path, "r+b") as handle:
        handle.seek(8)
        handle.write(importlib.util.source_hash(SOURCES["one.py"].encode()))
    assert _prefer(package, copy)
    assert _load(package, "one").WORD == "compiled"


def test_the_compiled_form_of_another_source_is_passed_over(payload):
    package, copy = payload
    fake = copy / "fake.py"
    fake.write_text("WORD = 'compiled'\n")
    path = importlib.util.cache_from_source(str(copy / "one.py"))
    os.makedirs(os.path.dirname(path))
    for mode in (py_compile.PycInvalidationMode.CHECKED_HASH, py_compile.PycInvalidationMode.TIMESTAMP):
        py_compile.compile(str(fake), path, invalidation_mode=mode)
        assert _prefer(package, copy)
        sys.modules.pop(package.__name__ + ".one", None)
        assert _load(package, "one").WORD == "one"


def test_a_host_without_a_copy_and_a_module_without_a_zip(payload, tmp_path):
    package, copy = payload
    before = list(sys.meta_path)
    assert not _prefer(package, tmp_path / "nowhere")
    assert not _payload.prefer_copy("x", "/usr/lib/python3/x", str(copy))
    assert not _payload.prefer_copy("x", str(tmp_path / "none.zip/x"), str(copy))
    assert sys.meta_path == before


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_copy_that_others_can_write_to_is_passed_over(payload, mode):
    package, copy = payload
    copy.chmod(mode)
    assert not _prefer(package, copy) and ".zip/" in _load(package, "one").__file__


def test_a_copy_of_somebody_else_or_behind_a_link_is_passed_over(payload, tmp_path, monkeypatch):
    package, copy = payload
    (tmp_path / "link").symlink_to(copy)
    assert not _prefer(package, tmp_path / "link")
    real = os.lstat

    def of_another(path):
        found = list(real(path))
        found[4] = 12345
        return os.stat_result(found)

    monkeypatch.setattr(os, "lstat", of_another)
    assert not _prefer(package, copy)
