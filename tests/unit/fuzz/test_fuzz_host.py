# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fuzzes kernel files and programs. Each module must plan or fail with a message, and must not write in check mode."""

from __future__ import annotations

import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.context import Context
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.sysfs import SysfsError
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_driver,
    nvidia_gpu_info,
    nvidia_mdev,
    nvidia_mig,
    nvidia_pci_driver,
    nvidia_sriov,
    nvidia_vgpu,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import SMALL_A40, SMALL_A100, SMALL_L40S, T4
from ansible_collections.vgpu.kvm.tests.unit.fuzz import inputs

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
WORK = (
    (nvidia_gpu_info, {"iommu_flags": ["intel_iommu=on", "iommu=pt"]}),
    (nvidia_vgpu, {"layout": [{"gpu": "all", "vgpus": []}]}),
    (nvidia_vgpu, {"layout": [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "count": 2}]}]}),
    (nvidia_vgpu, {"layout": [{"gpu": "0000:e8:00.0", "vgpus": [{"type": "A100-1-5C", "count": 2}]}], "check_mode_assume": ["driver", "iommu", "vfs", "mig"]}),
    (nvidia_vgpu, {"layout": [{"gpu": "0000:e8:00.0", "vgpus": [{"type": "L40S-8Q"}, {"type": "L40S-12Q"}], "mixed_sizes": True}]}),
    (nvidia_mdev, {"parent": "0000:e8:00.0", "type": "A40-8Q"}),
    (nvidia_mdev, {"uuid": UUID, "state": "absent"}),
    (nvidia_mig, {"gpus": ["0000:e8:00.0"], "mode": "enabled", "instances": ["1g.5gb", "3g.20gb"], "check_mode_assume": ["vfs"]}),
    (nvidia_mig, {"mode": "disabled", "cycle_vfs": True}),
    (nvidia_sriov, {}),
    (nvidia_sriov, {"state": "disabled"}),
    (nvidia_pci_driver, {"driver": "none"}),
    (nvidia_pci_driver, {}),
    (nvidia_driver, {"state": "absent"}),
)
NAMES = ("", "..", "0", "0000:e8:00.4", "vfio-pci", "virtfn0", "virtfn99999", "nvidia-558", "nvidia-²", "x" * 300, UUID, "\udcff")


class Liar:
    """The kernel files of a fake host. Some files have other content, cannot be read, or are missing. The same path always returns the same result."""

    def __init__(self, real, rng, rate):
        self._real = real
        self._rng = rng
        self._rate = rate
        self._answers = {}

    def _lie(self, kind, path, truth, lies):
        if (kind, path) not in self._answers:
            self._answers[kind, path] = lies() if self._rng.random() < self._rate else truth()
        return self._answers[kind, path]

    def _read(self, path):
        try:
            return self._real.read_bytes(path)
        except SysfsError as exc:
            return exc.number

    def _false_read(self, path):
        if self._rng.random() < 0.2:
            return self._rng.choice((2, 5, 6, 13, 19, 61))
        truth = self._read(path)
        seeds = [truth.decode("utf-8", "replace") if isinstance(truth, bytes) else "", *inputs.WORDS[:20]]
        return inputs.mutated(self._rng, seeds).encode("utf-8", "surrogatepass")

    def _bytes(self, path, size=-1):
        """Replace Sysfs._bytes."""
        answer = self._lie("read", path, lambda: self._read(path), lambda: self._false_read(path))
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer), path)
        return answer if size < 0 else answer[:size]

    def read_bytes(self, path, size=-1):
        """Replace Sysfs.read_bytes."""
        return type(self._real).read_bytes(self, path, size)

    def read(self, path):
        """Replace Sysfs.read."""
        return self.read_bytes(path).decode("utf-8", "replace").rstrip("\n")

    def read_or(self, path, default=None):
        """Replace Sysfs.read_or."""
        return type(self._real).read_or(self, path, default)

    def read_int(self, path, default=None):
        """Replace Sysfs.read_int."""
        return type(self._real).read_int(self, path, default)

    def list(self, path):
        """Replace Sysfs.list."""

        def lies():
            names = self._real.list(path)
            return sorted(name for name in names + [self._rng.choice(NAMES)] if self._rng.random() < 0.8)

        return list(self._lie("list", path, lambda: self._real.list(path), lies))

    def _or_error(self, kind, path, truth, lies):
        """Return the real or a false result for a path. Raise the result if it is an OSError."""

        def real():
            try:
                return truth(path)
            except OSError as exc:
                return exc

        def false():
            return OSError(self._rng.choice((2, 3, 5, 13)), "a lie", path) if self._rng.random() < 0.3 else lies()

        answer = self._lie(kind, path, real, false)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def names(self, path):
        """Replace Sysfs.names."""
        return list(self._or_error("names", path, self._real.names, lambda: [*self._real.list(path), self._rng.choice(NAMES)]))

    def leads(self, path):
        """Replace Sysfs.leads."""
        return self._or_error("leads", path, self._real.leads, lambda: self._rng.choice(NAMES))

    def node(self, path):
        """Replace Sysfs.node."""
        return self._or_error("node", path, self._real.node, lambda: self._rng.choice((None, (0, 0), (195, 0), (10, 196), (1 << 40, -1))))

    def apart(self, work, timeout):
        """Replace Sysfs.apart. The output of the child can be truncated."""
        rows, ended = self._real.apart(work, timeout)
        return (rows[: len(rows) // 2], False) if self._rng.random() < self._rate else (rows, ended)

    def _name(self):
        return self._rng.choice((None, *NAMES))

    def link(self, path):
        """Replace Sysfs.link."""
        return self._lie("link", path, lambda: self._real.link(path), self._name)

    def target(self, path):
        """Replace Sysfs.target."""
        return self._lie("target", path, lambda: self._real.target(path), self._name)

    def exists(self, path):
        """Replace Sysfs.exists."""
        return self._lie("exists", path, lambda: self._real.exists(path), lambda: self._rng.random() < 0.5)

    def resolve(self, path):
        """Replace Sysfs.resolve."""
        return self._lie("resolve", path, lambda: self._real.resolve(path), lambda: "/" + self._rng.choice(NAMES))

    def write(self, path, value):
        """Fail the test, because check mode must not write."""
        raise AssertionError("%r was written to %s" % (value, path))


def hosts(make_host):
    """Yield hosts on both frameworks and in MIG mode. On each host, processes use a device."""
    for model, address, vendor in ((SMALL_A40, "0000:e8:00.0", False), (SMALL_L40S, "0000:e8:00.0", True), (SMALL_A100, "0000:e8:00.0", True)):
        host = make_host(gpus=[(address, model), ("0000:3b:00.0", T4)], vendor_vfio=vendor, mdevctl=True).vfs_on()
        host.kernel.add_process(9, "nvidia-smi", ["nvidia-smi"], ["/dev/nvidia0", "/dev/vfio/99"])
        if model is SMALL_A40:
            host.add("0000:e8:00.4", "A40-8Q", UUID)
            host.kernel.use(UUID)
        elif model is SMALL_L40S:
            host.add("0000:e8:00.5", "L40S-8Q", None)
            host.kernel.use("0000:e8:00.5")
        else:
            host.pf(address).mig = host.pf(address).mig_pending = True
        yield host


@pytest.mark.parametrize("number", range(3))
def test_a_host_with_arbitrary_output(make_host, number):
    name = "hosts"
    host = list(hosts(make_host))[number]
    rng = inputs.generator("%s %d" % (name, number))
    real, programs = host.sysfs, host.command

    def command(argv, timeout, env=None):
        answer = programs(argv, timeout, env)
        if rng.random() < 0.5:
            return Result(rng.choice((0, 0, 0, 1, 127)), inputs.mutated(rng, [answer.out, ""]))
        return answer

    before = host.vgpus()
    for dummy in range(inputs.share(15)):
        module, arguments = rng.choice(WORK)
        host.ctx = Context(host.root, Liar(real, rng, rng.choice((0.002, 0.02, 0.1))), command, host.clock)
        inputs.COUNT.add(name)
        outcome = call(module, host, check=True, timeout=1, **arguments)
        assert outcome.writes == 0 and host.writes == [], (module.__name__, host.writes)
        if outcome.failed:
            assert outcome["errors"] and outcome.msg
    assert host.vgpus() == before and host.kernel.harm == []
