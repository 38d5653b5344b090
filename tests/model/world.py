# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""A world: a fake host, all operations on it, and the test model's record of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Type as Class
from unittest import mock

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.boot import restore
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.tests.unit.fake import nvidia_smi
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import Outcome, call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Died, Host

from ansible_collections.vgpu.kvm.tests.model.hosts import CARDS, Card
from ansible_collections.vgpu.kvm.tests.model.rules import Instance, Vgpu

LAYOUT_FILE = "/etc/vgpuctl/layout.json"


class Deviation(AssertionError):
    """Raised if a module does not behave as the test model expects."""


_KINDS: Dict[str, Class[Deviation]] = {}


def deviation(kind: str, text: str) -> Deviation:
    """Return a deviation. Each kind has its own exception class, so that hypothesis reports each kind separately."""
    return _KINDS.setdefault(kind, type("Deviation_" + kind.replace(" ", "_"), (Deviation,), {}))(kind + ": " + text)


def agree(holds: bool, kind: str, text: Callable[[], str]) -> None:
    """Raise a deviation of this kind unless the condition holds."""
    if not holds:
        raise deviation(kind, text())


class GpuState(NamedTuple):
    """A GPU as the kernel shows it. usable: numbers of the VFs that offer types or hold a vGPU. off_bus: whether the GPU fell off the bus."""

    card: Card
    driver: Optional[str]
    vfs: int
    usable: Tuple[int, ...]
    off_bus: bool
    mixed: bool
    mig: bool
    instances: Tuple[Instance, ...]


class State(NamedTuple):
    """The observable state of a host at one moment."""

    gpus: Dict[str, GpuState]
    vgpus: Tuple[Vgpu, ...]
    stored: str
    defined: Tuple[str, ...]

    def on(self, gpu: str) -> List[Vgpu]:
        """Return the vGPUs on a GPU."""
        return [one for one in self.vgpus if one.gpu == gpu]


class Goal(NamedTuple):
    """The state that the restore must reach on a GPU. asked: whether the last layout listed MIG-backed vGPUs or GPU instances on the GPU."""

    facts: Tuple[Tuple[str, str, Optional[int], str, str], ...]
    mixed: bool
    vfs: int
    mig: bool
    profiles: Tuple[str, ...]
    asked: bool = False


class World:
    """A host and the test model's record of it. gpus: (address, name) of each GPU. goal: result of the last layout by GPU, or None if unknown."""

    def __init__(self, gpus: Sequence[Tuple[str, str]], vendor: bool, mdevctl: bool, options: Sequence[str]) -> None:
        self.directory = tempfile.mkdtemp(prefix="model-")
        self.cards = {address: CARDS[name] for address, name in gpus}
        self.host = Host(self.directory, gpus=[(address, card.fake) for address, card in self.cards.items()], mdevctl=mdevctl, vendor_vfio=vendor)
        self.vendor, self.mdevctl = vendor, mdevctl
        self.kernel = self.host.kernel
        self.kernel.short_list = "short list" in options
        self.kernel.cdevs = "cdevs" in options
        self.kernel.spreads = "spreads" in options
        self.host.ctx.side_by_side = "side by side" in options
        self.log = ["World(%r, vendor=%r, mdevctl=%r, options=%r)" % (list(gpus), vendor, mdevctl, list(options))]
        self.hidden: Set[str] = set()
        self._used = self.kernel.used
        self.kernel.used = lambda mdev: mdev.uuid in self.hidden or self._used(mdev)
        self._serials: Dict[int, Tuple[Any, int]] = {}
        self._pid = 4000
        self.created: Set[int] = set()  # serials of the vGPUs that the modules created
        self.adopted: Set[int] = set()  # serials of foreign vGPUs that a later layout included
        self.params: Dict[int, str] = {}  # parameters that a layout set, by serial
        self.vf_params: Dict[str, str] = {}  # parameters that a layout set, by VF, on vendor-specific VFIO
        self.goal: Dict[str, Optional[Goal]] = {}
        self.boot_vfio: Set[str] = set()
        self.mig_layouts: Set[str] = set()  # GPUs for which a layout listed MIG-backed vGPUs or GPU instances
        self.homes: Dict[str, Tuple[str, int]] = {}  # GPU and VF of each derived UUID
        self.blind = False  # whether nvidia-smi currently fails to list the users of vGPUs
        self.habits: Dict[str, int] = {}  # multiplier for each feature: how much more often this world's layouts use it than the default
        self.by_hand = False  # whether nvidia_mdev has created or removed devices

    def close(self) -> None:
        """Remove the host's directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def say(self, text: str) -> None:
        """Record an operation as Python code that reproduces the world."""
        self.log.append(text)

    # --- the state of the host

    def serial(self, mdev: Any) -> int:
        """Return the unique serial number of a vGPU."""
        return self._serials.setdefault(id(mdev), (mdev, len(self._serials)))[1]

    def vgpu(self, mdev: Any) -> Vgpu:
        """Return a vGPU of the fake kernel in the test model's form."""
        parent = mdev.parent
        instance = mdev.gi.id if mdev.gi else None
        return Vgpu(
            self.serial(mdev), mdev.uuid, parent.gpu.address, parent.index, mdev.type.short, mdev.params, self.kernel.used(mdev), instance
        )

    def state(self) -> State:
        """Return the current state of the host."""
        self.host.clock.pause(0)
        gpus = {}
        for pf in self.kernel.pfs():
            usable = tuple(vf.index for vf in pf.vfs if vf.prefix)
            instances = tuple(Instance(one.id, one.profile.name, one.start) for one in pf.instances)
            gpus[pf.address] = GpuState(self.cards[pf.address], pf.driver, len(pf.vfs), usable, pf.off_bus, pf.mixed, pf.mig, instances)
        vgpus = tuple(sorted(self.vgpu(one) for one in self.kernel.mdevs.values()))
        directory = self.host.root + "/etc/mdevctl.d"
        defined = sorted(name for dummy, dummy2, names in os.walk(directory) for name in names)
        return State(gpus, vgpus, self.host.get(LAYOUT_FILE) or "", tuple(defined))

    def stored(self, text: Optional[str] = None) -> Dict[str, List[Dict[str, Any]]]:
        """Return the vGPUs of each GPU in the layout file, or in the given text of a layout file."""
        text = self.host.get(LAYOUT_FILE) if text is None else text
        return {one["address"]: one["vgpus"] for one in json.loads(text)["gpus"]} if text else {}

    # --- operations of the modules

    def call(self, module: Any, check: bool = False, **arguments: Any) -> Outcome:
        """Run a module, and check the rules that apply to every run."""
        before = self.state()
        outcome = call(module, self.host, check=check, **arguments)
        self.unharmed(before)
        if check:
            agree(self.state() == before and outcome.writes == 0, "check mode writes", lambda: str(outcome.result))
        if outcome.failed:
            agree("Traceback" not in outcome.result["msg"], "traceback", lambda: outcome.result["msg"])
        return outcome

    def killed(self, module: Any, number: int, fails: bool = False, **arguments: Any) -> None:
        """Run a module that is killed right before its change with the given number. With `fails`, that change fails with EIO instead."""
        before = self.state()
        with self.ending(number, fails):
            call(module, self.host, **arguments)
        self.unharmed(before)

    @contextlib.contextmanager
    def ending(self, number: Optional[int], fails: bool = False) -> Iterator[None]:
        """Kill the code in this context right before the change with the given number, or make that change fail with EIO."""
        setattr(self.host, "fail_at" if fails else "die_at", len(self.host.writes) + number if number else None)
        together, self.host.ctx.side_by_side = self.host.ctx.side_by_side, False
        try:
            yield
        except Died:
            pass
        finally:
            self.host.die_at = self.host.fail_at = None
            self.host.ctx.side_by_side = together

    def raced(self, module: Any, number: int, event: Callable[[], None], **arguments: Any) -> None:
        """Run a module, and trigger an event right after its change with the given number."""
        before, sysfs, count = self.state(), self.host.sysfs.write, self.host._count
        left = [number]

        def tick() -> None:
            left[0] -= 1
            if not left[0]:
                event()

        def write(path: str, value: str, timeout: float = 60) -> None:
            sysfs(path, value, timeout)
            tick()

        def counted(path: str, value: str) -> None:
            count(path, value)
            if value == "file":
                tick()

        with mock.patch.object(self.host.sysfs, "write", write), mock.patch.object(self.host, "_count", counted):
            call(module, self.host, **arguments)
        self.unharmed(before)

    def restored(self, kill: Optional[int] = None) -> Optional[List[str]]:
        """Run the restore. Return its error messages, or None if the restore was killed."""
        before, errors = self.state(), None
        with self.ending(kill) if kill else contextlib.nullcontext(), self.host.counting_files():
            errors = [str(one) for one in restore.restore(self.host.ctx, 60, 0.5, lambda words: None).errors]
        self.unharmed(before)
        return errors

    def unharmed(self, before: State) -> None:
        """Check that no vGPU in use changed and that no harmful operation on it was attempted."""
        agree(not self.kernel.harm, "harm", lambda: "; ".join(self.kernel.harm))
        after = {one.serial: one.facts() for one in self.state().vgpus}
        for one in before.vgpus:
            if one.used:
                agree(after.get(one.serial) == one.facts(), "used vGPU changed", lambda one=one: "%s became %s" % (one, after.get(one.serial)))

    # --- operations of others

    def start_vm(self, keys: Sequence[str], out_of_sight: bool, named: bool = True) -> None:
        """Start a VM that uses the given vGPUs."""
        self.say("world.start_vm(%r, out_of_sight=%r, named=%r)" % (list(keys), out_of_sight, named))
        self._pid += 1
        if out_of_sight:
            self.hidden.update(keys)
            for key in keys:
                parent = self.kernel.mdevs[key].parent
                parent.vm_name = "web1" if named and parent.vendor else None
            return
        opened = []
        for key in keys:
            one = self.kernel.mdevs[key]
            opened += [self.kernel.cdev_of(one)] if self.kernel.cdevs else ["/dev/vfio/%s" % one.group]
        argv = ["/usr/bin/qemu-system-x86_64", "-name", "guest=vm%d" % self._pid]
        self.kernel.add_process(self._pid, "qemu-system-x86", argv, ["/dev/kvm", "/dev/vfio/vfio"] + opened)

    def stop_vms(self) -> None:
        """Stop all VMs."""
        self.say("world.stop_vms()")
        self.kernel.processes.clear()
        for key in sorted(self.hidden):
            if key in self.kernel.mdevs:
                self.kernel.mdevs[key].parent.vm_name = None
        self.hidden.clear()

    def create(self, parent: str, short: str, uuid: str, params: str = "") -> bool:
        """Create a vGPU as another user of the host. Return whether the driver accepts it."""
        self.say("world.create(%r, %r, %r, %r)" % (parent, short, uuid, params))
        try:
            self.host.add(parent, short, uuid)
        except OSError:
            return False
        device = self.kernel.devices[parent]
        if device.vendor:
            device.params = params
            self.vf_params.pop(parent, None)
        made = self.kernel.mdevs[parent if device.vendor else uuid]
        made.params = params
        # The modules cannot distinguish this vGPU from a stored vGPU of the same type with the same UUID (or, without UUIDs, on the same VF).
        if any((one["uuid"] or one["parent"], one["type"]) == (made.uuid, short) for one in self.stored().get(made.parent.gpu.address, ())):
            self.adopted.add(self.serial(made))
        return True

    def remove(self, key: str) -> None:
        """Remove an unused vGPU as another user of the host."""
        self.say("world.remove(%r)" % key)
        one = self.kernel.mdevs[key]
        if one.parent.vendor:
            self.kernel.set_type(one.parent, "0")
        else:
            self.kernel.remove(one)

    def cycle(self, gpu: str, on: bool = True) -> None:
        """Disable the VFs of an unused GPU as another user of the host. With `on`, enable them again."""
        self.say("world.cycle(%r, on=%r)" % (gpu, on))
        pf = self.host.pf(gpu)
        pf.set_vfs(0)
        for address in [one for one in self.vf_params if one.startswith(gpu[:-1])]:
            del self.vf_params[address]
        if on:
            pf.set_vfs(pf.model.vfs)

    def take_vf(self, address: str) -> None:
        """Attach a VF to a VM as a plain PCI device."""
        self.say("world.take_vf(%r)" % address)
        vf = self.kernel.devices[address]
        self.kernel.unregister(vf)
        vf.driver = "vfio-pci"
        self._pid += 1
        self.kernel.add_process(self._pid, "qemu-system-x86", ["qemu-system-x86_64", "-name", "guest=plain"], ["/dev/kvm", "/dev/vfio/" + vf.group])

    def swap(self, gpu: str, name: str) -> None:
        """Replace the card in a slot while the host is powered off."""
        self.stop_vms()
        self.say("world.swap(%r, %r)" % (gpu, name))
        self.host.pf(gpu).set_vfs(0)
        self.kernel.unregister(self.host.pf(gpu))
        del self.kernel.devices[gpu]
        self.cards[gpu] = CARDS[name]
        self.kernel.add_gpu(gpu, self.cards[gpu].fake, None)

    @contextlib.contextmanager
    def blinded(self) -> Iterator[None]:
        """Make nvidia-smi fail to list the users of vGPUs inside this context."""
        self.say("# with world.blinded():")

        def run(argv: List[str], timeout: float) -> Any:
            if argv[:1] == ["vgpu"] and "-q" in argv:
                return Result(255, "Failed to initialize NVML: Unknown Error\n")
            return nvidia_smi.Program(self.host).run(argv, timeout)

        self.blind = True
        self.host.programs["nvidia-smi"] = run
        try:
            yield
        finally:
            self.blind = False
            del self.host.programs["nvidia-smi"]

    def to_vfio(self, gpu: str, at_boot: bool) -> None:
        """Bind an unused GPU to vfio-pci as another user of the host, so that a VM can use the whole GPU."""
        self.say("world.to_vfio(%r, at_boot=%r)" % (gpu, at_boot))
        pf = self.host.pf(gpu)
        pf.set_vfs(0)
        if at_boot:
            self.boot_vfio.add(gpu)
        self.kernel.unregister(pf)
        pf.driver = "vfio-pci"
        self._pid += 1
        self.kernel.add_process(self._pid, "qemu-system-x86", ["qemu-system-x86_64", "-name", "guest=whole"], ["/dev/kvm", "/dev/vfio/" + pf.group])

    def to_nvidia(self, gpu: str) -> None:
        """Bind a GPU to nvidia again."""
        self.say("world.to_nvidia(%r)" % gpu)
        pf = self.host.pf(gpu)
        self.boot_vfio.discard(gpu)
        for pid in [one.pid for one in self.kernel.users(pf.group)]:
            del self.kernel.processes[pid]
        pf.driver = None
        self.kernel.bind("nvidia", pf)

    def strand(self, gpu: str, driver: Optional[str]) -> None:
        """Bind the PF to another driver or to none, as if the program that enables VFs had exited too early."""
        self.say("world.strand(%r, %r)" % (gpu, driver))
        pf = self.host.pf(gpu)
        self.kernel.unregister(pf)
        pf.driver = driver

    def mig(self, gpu: str) -> None:
        """Enable MIG mode on the GPU before the first operation."""
        self.host.pf(gpu).mig = self.host.pf(gpu).mig_pending = True

    def smi(self, *argv: str) -> None:
        """Run nvidia-smi as another user of the host."""
        self.say("world.smi(%s)" % ", ".join(map(repr, argv)))
        self.host.command(["nvidia-smi", *argv], 60)

    def reboot(self, back: bool = True) -> None:
        """Reboot the host. With `back`, GPUs that fell off the bus respond again."""
        self.say("world.reboot(back=%r)" % back)
        self.hidden.clear()
        for pf in self.kernel.pfs():
            pf.off_bus = pf.off_bus and not back
        self.vf_params.clear()
        self.host.reboot()
        for gpu in sorted(self.boot_vfio):
            pf = self.host.pf(gpu)
            self.kernel.unregister(pf)
            pf.driver = "vfio-pci"
