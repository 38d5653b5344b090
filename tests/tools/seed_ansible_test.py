# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Prepare a home directory in which ansible-test needs only the machine's package index.

ansible-test creates a virtual environment for each sanity test. It installs pip there with a script that it downloads from
its own host, unless ``~/.ansible/test/cache/get_pip_<version>.py`` exists. That download fails on a machine that reaches
only a Python package index. This tool writes such a script and downloads pip's wheel from the index with the running
interpreter's pip; the script lets the wheel install itself.

ansible-test also drops PIP_* from the environment, so this tool writes pip's current configuration into a file.

The tool prints the home directory, for use as HOME of ansible-test.
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

# ansible-test calls this script like the real get-pip.py, which has two options that pip itself does not have.
arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--upgrade", "--find-links", HERE] + arguments))
'''


def cache_home() -> Path:
    """Return the project's cache directory, which is shared by all clones."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vgpu-kvm"


def pip_version(python: str) -> str:
    """Return the pip version that the ansible-test of *python* expects."""
    found = subprocess.run(
        [python, "-c", "import ansible_test, os; print(os.path.dirname(ansible_test.__file__))"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    source = (Path(found) / "_internal" / "python_requirements.py").read_text(encoding="utf-8")
    match = re.search(r"default_packages = dict\(\s*pip='([^']+)'", source)
    if not match:
        raise SystemExit(f"{found}: cannot determine which pip version this ansible-test requires, because python_requirements.py has changed")
    return match.group(1)


def write_pip_config(python: str, home: Path) -> None:
    """Write pip's current configuration (from files and the environment) into *home*, where ansible-test's pip reads it."""
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
    # The URL of a package index can contain a password.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        for section, values in sections.items():
            file.write(f"[{section}]\n" + "".join(f"{key} = {text}\n" for key, text in values.items()))


def seed(python: str, home: Path) -> None:
    """Put pip's wheel and the script into ansible-test's cache below *home*."""
    version = pip_version(python)
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    wheel = f"pip-{version}-py3-none-any.whl"
    if not (cache / wheel).is_file():
        subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps", "-d", str(cache), f"pip=={version}"],
            check=True,
        )
    # ansible-test defines this name: see bootstrap() in its requirements.py.
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    script.write_text(GET_PIP.format(wheel=wheel), encoding="utf-8")


def main() -> int:
    """Run the command-line program."""
    parser = argparse.ArgumentParser(description="Prepare a home directory for ansible-test.")
    parser.add_argument("python", help="interpreter of the environment that has ansible-test")
    python = parser.parse_args().python
    home = cache_home() / "ansible-test"
    home.mkdir(parents=True, exist_ok=True)
    seed(python, home)
    write_pip_config(python, home)
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
