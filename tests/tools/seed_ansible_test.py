# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Prepare a home folder in which ansible-test needs nothing but the machine's package index.

ansible-test gives each sanity test a virtual environment of its own. Into an empty one it puts pip with a script that it
downloads from a host of its own, unless the script lies in ``~/.ansible/test/cache/get_pip_<version>.py``. Where only a
Python package index can be reached, that download fails. This writes such a script: it takes pip's wheel from the index,
with the pip of the running interpreter, and lets that wheel install itself.

ansible-test also drops PIP_* from the environment, so the configuration that pip has here is written down for it.

Prints the home folder, to be given to ansible-test as HOME.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

GET_PIP = '''\
"""Install pip from the wheel beside this file: written by seed_ansible_test.py, called by ansible-test."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "{wheel}"))

from pip._internal.cli.main import main

# ansible-test speaks to the well-known get-pip.py, which has two options that pip itself does not know.
arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--upgrade", "--find-links", HERE] + arguments))
'''


def cache_home() -> Path:
    """Return the project's folder for what outlives a clone."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vgpu-kvm"


def pip_version(python: str) -> str:
    """Return the pip version that the ansible-test of *python* asks for."""
    found = subprocess.run(
        [python, "-c", "import ansible_test, os; print(os.path.dirname(ansible_test.__file__))"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    source = (Path(found) / "_internal" / "python_requirements.py").read_text(encoding="utf-8")
    match = re.search(r"default_packages = dict\(\s*pip='([^']+)'", source)
    if not match:
        raise SystemExit(f"{found}: cannot tell which pip this ansible-test wants: its python_requirements.py has changed")
    return match.group(1)


def write_pip_config(python: str, home: Path) -> None:
    """Write down the configuration that pip has now (files and environment) for a pip that sees neither."""
    out = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    sections: dict[str, dict[str, str]] = {}
    for line in out.splitlines():
        name, _equals, value = line.partition("=")
        section, _dot, key = name.rpartition(".")
        section = "global" if section == ":env:" else section
        if key not in ("config-file", "require-virtualenv"):
            text = str(ast.literal_eval(value))
            sections.setdefault(section, {})[key] = text.strip().replace("\n", "\n    ")
    path = home / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    # An index address can hold a password.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        for section, values in sections.items():
            file.write(f"[{section}]\n" + "".join(f"{key} = {text}\n" for key, text in values.items()))


def seed(python: str, home: Path) -> None:
    """Put pip's wheel and the script into ansible-test's cache under *home*."""
    version = pip_version(python)
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    wheel = f"pip-{version}-py3-none-any.whl"
    if not (cache / wheel).is_file():
        subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps", "-d", str(cache), f"pip=={version}"],
            check=True,
        )
    # The name is ansible-test's, see bootstrap() in its requirements.py.
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    script.write_text(GET_PIP.format(wheel=wheel), encoding="utf-8")


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Prepare a home folder for ansible-test.")
    parser.add_argument("python", help="interpreter whose ansible-test is to be prepared")
    python = parser.parse_args().python
    home = cache_home() / "ansible-test"
    home.mkdir(parents=True, exist_ok=True)
    seed(python, home)
    write_pip_config(python, home)
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
