# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Fixtures of the tests with several hosts."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bed as beds  # noqa: E402  (beside this file)
import machine  # noqa: E402  (beside this file)


@pytest.fixture
def bed():
    """Yield an empty test bed."""
    with tempfile.TemporaryDirectory() as folder:  # The paths of pytest's temporary directories are too long for a socket.
        one = beds.Bed(Path(folder))
        yield one
        one.close()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Return the paths of vGPU software packages by the version of the host driver."""
    folder, found = tmp_path_factory.mktemp("bundles"), {}
    for version in (machine.OLD, machine.NEW):
        path = folder / ("NVIDIA-GRID-Linux-KVM-%s-%s-553.74.zip" % (version, version))
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("Host_Drivers/NVIDIA-Linux-x86_64-%s-vgpu-kvm.run" % version, "#!/bin/sh\n")
        found[version] = str(path)
    return found
