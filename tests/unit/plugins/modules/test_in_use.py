# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests that each module fails instead of changing a device in use, and names the user. A device in the definition of a stopped VM causes a warning."""

from __future__ import annotations

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.binding import plan as binding_plan
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.checks import in_use
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.cli import main as cli
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware.gpu import Holder
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import nvidia_smi
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.open_files import vm_name
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_driver, nvidia_gpu_info, nvidia_mdev, nvidia_pci_driver, nvidia_sriov, nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.fake import nvidia_smi as program
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, L40S, RTXPRO6000
from ansible_collections.vgpu.kvm.tests.unit.fake.printed import printed

PF, OTHER = "0000:e8:00.0", "0000:e7:00.0"
UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
QEMU = ["/usr/bin/qemu-system-x86_64", "-name", "guest=db,debug-threads=on", "-S"]
EMPTY = [{"gpu": "all", "vgpus": []}]
HOSTDEV = """<!-- made by libvirt -->
<domain type='kvm'><name>%s</name><devices>%s</devices></domain>
"""
MDEV = "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>"
PCI = (
    "<hostdev mode='subsystem' type='pci' managed='%s'><source><address domain='0x0000' bus='0xe8' slot='0x00' function='0x%d'/></source>"
    "<address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></hostdev>"
)


def passed_through(make_host, **arguments):
    """Returns a host with two GPUs. The VM db uses the first GPU, which is on vfio-pci."""
    host = make_host(gpus=[(OTHER, A40), (PF, A40)], **arguments)
    host.pf(PF).driver, host.pf(PF).override = "vfio-pci", "vfio-pci"
    host.kernel.unregister(host.pf(PF))
    host.kernel.add_process(77, "qemu-system-x86", QEMU, ["/dev/kvm", "/dev/vfio/vfio", "/dev/vfio/" + host.pf(PF).group])
    return host


def domain(host, name, *devices, running=False):
    """Defines a libvirt VM."""
    host.put("/etc/libvirt/qemu/%s.xml" % name, HOSTDEV % (name, "".join(devices)))
    if running:
        host.put("/run/libvirt/qemu/%s.xml" % name, "<domstatus state='running'>%s</domstatus>" % (HOSTDEV % (name, "".join(devices))).split("-->")[1])


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (nvidia_pci_driver, {"driver": "none"}),
        (nvidia_pci_driver, {"driver": "nvidia"}),
        (nvidia_sriov, {}),
        (nvidia_vgpu, {"layout": [{"gpu": PF, "vgpus": [{"type": "A40-24Q"}]}]}),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_whole_gpu_of_a_vm_is_refused_with_who_has_it(make_host, module, arguments, check):
    host = passed_through(make_host)
    outcome = call(module, host, check=check, **arguments)
    assert outcome.codes == ["in_use"] and outcome.writes == 0 and host.kernel.harm == []
    for word in (PF, "VM db, pid 77 (qemu-system-x86)", "vgpu_gpus"):
        assert word in outcome.msg


def test_the_other_gpus_of_the_host_go_on(make_host):
    host = passed_through(make_host)
    assert not call(nvidia_pci_driver, host, gpus=[OTHER]).ok["changed"]
    assert call(nvidia_sriov, host, gpus=[OTHER]).ok["changed"]
    call(nvidia_vgpu, host, layout=[{"gpu": OTHER, "vgpus": [{"type": "A40-24Q"}]}]).ok
    call(nvidia_vgpu, host, layout=[{"gpu": OTHER, "vgpus": []}]).ok
    assert host.kernel.harm == [] and host.pf(PF).driver == "vfio-pci"


def test_the_driver_below_a_passed_through_gpu_may_be_replaced(make_host, tmp_path):
    host = passed_through(make_host)
    package = tmp_path / "NVIDIA-Linux-x86_64-570.10.01-vgpu-kvm.run"
    package.write_text("")
    assert call(nvidia_driver, host, src=str(package)).ok["changed"] and host.kernel.harm == []


def test_a_vm_that_comes_after_the_plan_keeps_its_gpu(make_host):
    host = make_host(driver="vfio-pci")
    host.pf().override = "vfio-pci"
    real = binding_plan.plan

    def plan(*arguments):
        found = real(*arguments)
        host.kernel.add_process(77, "qemu-system-x86", QEMU, ["/dev/vfio/" + host.pf().group])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding_plan, "plan", plan)
        outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["in_use"] and "VM db, pid 77" in outcome.msg and host.pf().driver == "vfio-pci" and host.kernel.harm == []


@pytest.mark.parametrize("node", ["/dev/vfio/%s", "/dev/vfio/%s (deleted)", "/dev/vfio/noiommu-%s"])
def test_a_plain_vf_of_a_vm_is_not_disabled(host, node):
    vf = host.pf().vfs[3]
    host.kernel.unregister(vf)
    vf.driver = "vfio-pci"
    host.kernel.add_process(78, "qemu-kvm", ["qemu-kvm", "-name", "web,process=x"], [node % vf.group])
    for arguments in ({"state": "disabled"}, {}):
        outcome = call(nvidia_sriov, host, **arguments)
        assert "in_use" in outcome.codes and vf.address in outcome.msg and "VM web, pid 78" in outcome.msg
        assert outcome.writes == 0 and host.kernel.harm == []
    outcome = call(nvidia_driver, host, state="absent")
    assert outcome.codes == ["in_use"] and "VM web, pid 78" in outcome.msg and outcome.writes == 0


def hidden(host, key):
    """Simulates a vGPU user that /proc does not show."""
    real = host.kernel.used
    host.kernel.used = lambda mdev: mdev.uuid == key or real(mdev)


@pytest.mark.parametrize("vendor", [False, True])
def test_nvidia_smi_is_believed_where_proc_shows_nobody(make_host, vendor):
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    layout = [{"gpu": "all", "vgpus": [{"type": "L40S-24Q" if vendor else "A40-24Q"}]}]
    (vgpu,) = call(nvidia_vgpu, host, layout=layout).ok["vgpus"]
    hidden(host, vgpu["uuid"] or vgpu["vf"])
    before = host.vgpus()
    for check in (True, False):
        outcome = call(nvidia_vgpu, host, check=check, layout=EMPTY)
        assert outcome.codes == ["in_use"] and "VM web1, as 'nvidia-smi vgpu -q' shows" in outcome.msg and outcome.writes == 0
        assert "force_remove" in outcome.msg
    if not vendor:
        assert call(nvidia_mdev, host, uuid=vgpu["uuid"], state="absent").codes == ["in_use"]
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    assert call(nvidia_driver, host, state="absent").codes == ["in_use"]
    assert host.vgpus() == before and host.kernel.harm == []


MIXED = [{"gpu": "all", "mixed_sizes": True, "vgpus": [{"type": "L40S-24Q"}, {"type": "L40S-8Q"}]}]


@pytest.mark.parametrize(
    ("vendor", "after"),
    [
        (False, [{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]),
        (True, [{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}]),
        (True, MIXED),
        (False, [{"gpu": "all", "vgpus": [{"type": "A40-8Q", "vgpu_params": "enable_uvm=1"}]}]),
        (True, [{"gpu": "all", "vgpus": [{"type": "L40S-8Q", "vgpu_params": "enable_uvm=1"}]}]),
    ],
    ids=["another type", "another type, vendor", "mixed sizes", "parameters", "parameters, vendor"],
)
def test_nvidia_smi_is_asked_about_vgpus_that_come_again(make_host, vendor, after):
    """The layout recreates a vGPU with the same UUID on the same VF. A VM that uses the vGPU would lose it all the same."""
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    (vgpu,) = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-8Q" if vendor else "A40-8Q"}]}]).ok["vgpus"]
    hidden(host, vgpu["uuid"] or vgpu["vf"])
    before = host.vgpus()
    outcome = call(nvidia_vgpu, host, layout=after)
    assert set(outcome.codes) == {"in_use"} and "VM web1, as 'nvidia-smi vgpu -q' shows" in outcome.msg
    assert outcome.writes == 0 and host.vgpus() == before and host.kernel.harm == []


@pytest.mark.parametrize("number", [0, 1])
def test_nvidia_smi_that_names_no_vf_makes_all_of_its_type_count(make_host, number):
    """The layout keeps one of two vGPUs, and it is unknown which one the VM uses. The plan must not simply remove the other one."""
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    vgpus = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "count": 2}]}]).ok["vgpus"]
    hidden(host, vgpus[number]["vf"])
    begin = host.clock.now()
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}])
    assert outcome.codes == ["in_use"] and "might be in use" in outcome.msg and "VM web1" in outcome.msg and "one of the 2 L40S-24Q vGPUs" in outcome.msg
    assert outcome.writes == 0 and host.clock.now() - begin < 15


@pytest.mark.parametrize("source", ["driver", "libvirt"])
def test_the_vf_of_a_vm_is_known_to_the_driver_or_to_libvirt(make_host, source):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    first, second = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "count": 2}]}]).ok["vgpus"]
    hidden(host, second["vf"])
    if source == "driver":
        host.kernel.devices[second["vf"]].vm_name = "web1"
    else:
        domain(host, "web1", PCI % ("no", int(second["vf"][-1])), running=True)
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}]).ok
    assert [parent for dummy, parent, dummy2 in host.vgpus()] == [second["vf"]] != [first["vf"]] and host.kernel.harm == []


def defines(host, name, vgpu):
    """Defines a stopped libvirt VM with the vGPU."""
    domain(host, name, MDEV % vgpu["uuid"] if vgpu["uuid"] else PCI % ("no", int(vgpu["vf"][-1])))


def counted(kind, count, **words):
    """Returns a layout with *count* vGPUs of one type."""
    return [{"gpu": "all", "vgpus": [{"type": kind, "count": count, **words}]}]


def keys_of(host):
    """Returns the sorted keys of all vGPUs. A key is the UUID, or the VF of a vGPU without a UUID."""
    return sorted(key for key, dummy, dummy2 in host.vgpus())


@pytest.mark.parametrize("params", [None, "enable_uvm=1"])
@pytest.mark.parametrize("vendor", [False, True])
def test_a_lower_count_keeps_what_a_vm_that_is_off_is_defined_with(make_host, vendor, params):
    host, kind = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on(), "L40S-8Q" if vendor else "A40-8Q"
    vgpus = call(nvidia_vgpu, host, layout=counted(kind, 4)).ok["vgpus"]
    keys = [one["uuid"] or one["vf"] for one in vgpus]
    defines(host, "web2", vgpus[2])
    defines(host, "web3", vgpus[3])
    host.kernel.use(keys[1])
    check = call(nvidia_vgpu, host, check=True, layout=counted(kind, 3))
    real = call(nvidia_vgpu, host, layout=counted(kind, 3)).ok
    assert keys_of(host) == sorted(keys[1:]) and real.warnings == [] and check.ok["actions"] == real["actions"]
    if params:  # otherwise, another vGPU can already have the requested parameters
        host.kernel.processes.clear()
        call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": kind, "count": 2}, {"type": kind, "vgpu_params": params}]}]).ok
    # Two of the vGPUs are in VM definitions. One of these two vGPUs must be removed.
    last = call(nvidia_vgpu, host, layout=counted(kind, 1 if params else 2, **({"vgpu_params": params} if params else {}))).ok
    assert keys[2] in keys_of(host) and keys[3] not in keys_of(host)
    (warning,) = last.warnings
    assert warning.startswith(keys[3]) and "attached to the stopped libvirt VM web3. Remove the device from the VM's definition." in warning
    assert not call(nvidia_vgpu, host, layout=counted(kind, 1 if params else 2, **({"vgpu_params": params} if params else {}))).ok["changed"]


def test_a_lower_count_after_a_boot_restores_what_a_vm_is_defined_with(host):
    vgpus = call(nvidia_vgpu, host, layout=counted("A40-8Q", 3)).ok["vgpus"]
    for number in (1, 2):
        defines(host, "web%d" % number, vgpus[number])
    host.reboot()
    host.vfs_on()
    assert host.vgpus() == []
    real = call(nvidia_vgpu, host, layout=counted("A40-8Q", 1)).ok
    assert [one["uuid"] for one in real["vgpus"]] == [vgpus[1]["uuid"]]
    (warning,) = real.warnings
    assert warning.startswith(vgpus[2]["uuid"]) and "web2" in warning


@pytest.mark.parametrize("answer", [Result(15, "Unable to determine the device handle\n"), Result(124, "", True)], ids=["fails", "hangs"])
@pytest.mark.parametrize("vendor", [False, True])
def test_nvidia_smi_without_an_answer_counts_as_a_user(make_host, answer, vendor):
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q" if vendor else "A40-24Q"}]}]).ok
    real = host.ctx.command
    host.ctx.command = lambda argv, timeout, **rest: answer if argv[1:3] == ["vgpu", "-q"] else real(argv, timeout, **rest)
    outcome = call(nvidia_vgpu, host, layout=EMPTY)
    assert outcome.codes == ["in_use"] and outcome.writes == 0
    for text in ("might be in use", "did not exit within" if answer.timed_out else "rc 15", "run 'nvidia-smi vgpu -q -i %s' manually" % PF, "force_remove"):
        assert text in outcome.msg
    key = (host.vgpus()[0][0] if not vendor else host.vgpus()[0][1])
    host.kernel.forced.add(key)
    call(nvidia_vgpu, host, layout=EMPTY, force_remove=[key]).ok
    assert host.vgpus() == []


def test_an_nvidia_smi_of_another_driver_than_the_loaded_one_asks_for_a_reboot(make_host):
    host = make_host(gpus=[(PF, A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok
    real, words = host.ctx.command, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.144\n"
    host.ctx.command = lambda argv, timeout, **rest: Result(18, words) if argv[1:3] == ["vgpu", "-q"] else real(argv, timeout, **rest)
    outcome = call(nvidia_vgpu, host, layout=EMPTY)
    assert outcome.codes == ["in_use"] and outcome.writes == 0
    assert "reboot the host, because nvidia-smi fails if the driver on disk differs from the loaded driver" in outcome.msg and "manually" not in outcome.msg


def test_a_gpu_off_the_bus_does_not_silence_nvidia_smi_for_the_others(make_host):
    host = make_host(gpus=[(OTHER, A40), (PF, A40)]).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok
    host.pf(OTHER).off_bus = True
    (key,) = [uuid for uuid, parent, dummy in host.vgpus() if parent.startswith("0000:e8")]
    real = host.kernel.used
    hidden(host, key)
    outcome = call(nvidia_vgpu, host, layout=EMPTY, unresponsive_gpus="warn")
    assert outcome.codes == ["in_use"] and "VM web1" in outcome.msg and "returned no answer" not in outcome.msg
    host.kernel.used = real
    call(nvidia_vgpu, host, layout=EMPTY, unresponsive_gpus="warn").ok
    assert [parent[:10] for dummy, parent, dummy2 in host.vgpus()] == ["0000:e7:00"]


def test_a_vgpu_that_went_with_its_vm_is_no_user_of_another(host, monkeypatch):
    """nvidia-smi still lists the UUID of a vGPU that has been removed."""
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok
    gone = nvidia_smi.Active(PF, "A40-24Q", "558", UUID, "web1")
    monkeypatch.setattr(nvidia_smi, "active", lambda ctx, pf: ([gone], None))
    call(nvidia_vgpu, host, layout=EMPTY).ok
    assert host.vgpus() == []


# --- users that /proc shows


def used(make_host, vendor, **kernel):
    """Returns a host with one vGPU, which a VM uses."""
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q" if vendor else "A40-24Q"}]}]).ok
    vars(host.kernel).update(kernel)
    host.kernel.use(host.vgpus()[0][0])
    return host


@pytest.mark.parametrize("vendor", [False, True])
@pytest.mark.parametrize("cdevs", [False, True])
def test_a_vm_in_a_container_is_seen_by_the_numbers_of_its_devices(make_host, vendor, cdevs):
    host = used(make_host, vendor, cdevs=cdevs)
    process = host.kernel.processes[4711]
    process.paths = ["/srv/jail%s" % path for path in process.paths]
    host.kernel.used = lambda mdev: False  # nvidia-smi does not show the user either
    outcome = call(nvidia_vgpu, host, layout=EMPTY)
    assert outcome.codes == ["in_use"] and "VM web1, pid 4711" in outcome.msg and outcome.writes == 0
    (user,) = call(nvidia_gpu_info, host).ok["in_use"]
    assert user["devices"] == [host.vgpus()[0][0]]


def test_a_whole_gpu_through_iommufd_is_seen(make_host):
    host = passed_through(make_host)
    host.kernel.cdevs = True
    host.kernel.add_process(77, "qemu-system-x86", QEMU, ["/dev/kvm", "/dev/iommu", host.pf(PF).cdev])
    outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["in_use"] and "VM db, pid 77" in outcome.msg and outcome.writes == 0
    (user,) = call(nvidia_gpu_info, host).ok["in_use"]
    assert user["vm"] == "db" and user["devices"] == [PF]


def unreadable(host):
    """Adds a process that a security module hides."""
    host.kernel.add_process(90, "secret", ["/usr/bin/secret", "--serve"], [])
    host.kernel.processes[90].unreadable = 13


def hanging(host):
    """Adds a process that has a file open on a network file system that does not respond."""
    host.kernel.add_process(90, "secret", ["/usr/bin/secret", "--serve"], [])
    host.kernel.processes[90].hangs = True


def hiding(host):
    """Makes /proc hide the processes of other users (hidepid)."""
    host.kernel.hidden = True


def inside(host):
    """Makes the module run in a container with its own processes."""
    host.kernel.container = True


@pytest.mark.parametrize("trouble", [unreadable, hanging, hiding, inside])
@pytest.mark.parametrize("vendor", [False, True])
def test_what_cannot_be_read_counts_as_in_use(make_host, trouble, vendor):
    host = make_host(gpus=[(PF, L40S if vendor else A40)], vendor_vfio=vendor).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q" if vendor else "A40-24Q"}]}]).ok
    trouble(host)
    who = "pid 1 (" if trouble in (hiding, inside) else "pid 90 (/usr/bin/secret --serve, "
    found, way_on = "open files cannot be read", "CAP_SYS_PTRACE"
    if trouble is inside:
        found, way_on = (
            "/proc shows only the processes of a container with the PID namespace pid:[4026532178]",
            "rerun on the host itself, or in a container with",
        )
    for module, arguments in ((nvidia_vgpu, {"layout": EMPTY}), (nvidia_sriov, {"state": "disabled"}), (nvidia_driver, {"state": "absent"})):
        outcome = call(module, host, **arguments)
        assert set(outcome.codes) == {"in_use"} and outcome.writes == 0
        for text in ("might be in use by " + who, found, way_on):
            assert text in outcome.msg
    info = call(nvidia_gpu_info, host, may_disturb=["secret", "?", "systemd", PF]).ok
    assert [one["pid"] for one in info["in_the_way"]] == [1 if trouble in (hiding, inside) else 90]
    assert host.vgpus() and host.kernel.harm == []


def fails(number, path):
    raise OSError(number, path)


def test_files_that_go_meanwhile_and_files_of_other_systems_are_no_users(host):
    host.kernel.add_process(90, "editor", ["editor"], ["/mnt/nfs/file", "socket:[1]", "/dev/null"])
    host.sysfs.node = lambda path: fails(116, path) if path == "/proc/90/fd/0" else None
    real = host.sysfs.names
    host.sysfs.names = lambda path: fails(3, path) if path == "/proc/1/fd" else real(path)
    assert call(nvidia_gpu_info, host).ok["in_use"] == []


@pytest.mark.parametrize("number", [2, 12])
def test_one_walk_serves_all_removals_of_a_batch(host, number):
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-4Q", "count": number}]}]).ok
    reads = []
    real = host.sysfs.names
    host.sysfs.names = lambda path: [reads.append(path), real(path)][1]
    host.kernel.add_process(90, "sh", ["sh"], ["/dev/null"])
    call(nvidia_vgpu, host, layout=EMPTY).ok
    assert host.vgpus() == [] and reads.count("/proc/90/fd") == 2, "/proc must be read once for the plan and once before the removals"


# --- programs that use a GPU through NVIDIA's driver


JOBS = (
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0"], ["/dev/nvidiactl"], ["/dev/nvidia-uvm"], ["/dev/nvidia-caps/nvidia-cap1"],
    ["/dev/dri/renderD128"],
)


@pytest.mark.parametrize("paths", JOBS, ids=["gpu", "control", "uvm", "mig", "drm"])
def test_a_cuda_job_is_a_user_of_the_host(make_host, tmp_path, paths):
    host = make_host(gpus=[(PF, A40)])
    host.kernel.add_process(4711, "python3", ["python3", "train.py"], paths)
    host.put("/usr/bin/nvidia-uninstall", "", 0o755)
    package = tmp_path / "NVIDIA-Linux-x86_64-570.10.01-vgpu-kvm.run"
    package.write_text("")
    own = [PF] if "/dev/nvidia0" in paths or paths[0].startswith("/dev/dri") else []
    info = call(nvidia_gpu_info, host).ok
    assert info["in_use"] == info["in_the_way"] == [{"pid": 4711, "command": "python3 train.py", "vm": None, "devices": own}]
    for arguments in ({"src": str(package), "load": False}, {"state": "absent"}):
        outcome = call(nvidia_driver, host, **arguments)
        assert outcome.codes == ["in_use"] and "NVIDIA's driver" in outcome.msg and "pid 4711 (python3 train.py)" in outcome.msg and outcome.writes == 0
    assert host.on_disk == "550.163.02"
    assert call(nvidia_gpu_info, host, may_disturb=["python3"]).ok["in_the_way"] == []
    assert (call(nvidia_gpu_info, host, may_disturb=[PF]).ok["in_the_way"] == []) == bool(own)


@pytest.mark.parametrize(
    ("comm", "argv"),
    [
        ("nvidia-persiste", ["/usr/bin/nvidia-persistenced", "--user", "nvidia-persistenced"]),
        ("nvidia-vgpu-mgr", ["/usr/bin/nvidia-vgpu-mgr"]),
        ("nv-hostengine", ["/usr/bin/nv-hostengine", "-n"]),
        ("dcgm-exporter", ["/usr/bin/dcgm-exporter"]),
        ("nvidia-smi", ["/usr/bin/python3", "/usr/bin/nvidia-smi"]),
        ("vgpu", ["vgpu"]),
    ],
)
def test_services_of_nvidias_are_no_users(make_host, tmp_path, comm, argv):
    host = make_host(gpus=[(PF, A40)])
    host.kernel.add_process(812, comm, argv, ["/dev/nvidiactl", "/dev/nvidia0"])
    package = tmp_path / "NVIDIA-Linux-x86_64-570.10.01-vgpu-kvm.run"
    package.write_text("")
    assert call(nvidia_gpu_info, host).ok["in_use"] == []
    assert call(nvidia_driver, host, src=str(package), load=False).ok["changed"]


def test_nvidia_smi_that_lags_behind_a_vms_end_is_waited_for(host):
    (vgpu,) = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "A40-24Q"}]}]).ok["vgpus"]
    real = host.kernel.used
    hidden(host, vgpu["uuid"])
    host.clock.after(8, lambda: setattr(host.kernel, "used", real))
    call(nvidia_vgpu, host, layout=EMPTY).ok
    assert host.vgpus() == [] and host.kernel.harm == []


def test_nvidia_smi_that_lags_is_waited_for_once(make_host):
    """At first, the driver names the VM for all of its vGPUs except one. The second query of nvidia-smi identifies the last one."""
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    row = {"type": "L40S-8Q", "vgpu_params": "disable_vnc=1"}
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{**row, "count": 2}, {"type": "L40S-8Q"}]}]).ok
    first, *others = host.kernel.mdevs.values()
    for one in others:
        one.parent.vm_name = "web1"
    used = [first, *others]
    host.kernel.used = lambda mdev: mdev in used
    begin = host.clock.now()
    assert not call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-8Q", "count": 3}]}]).ok["changed"]
    assert host.clock.now() - begin < 15


def test_an_idle_vgpu_beside_one_in_use_goes_on_the_framework_without_uuids(make_host):
    """nvidia-smi names no VF. Because /proc shows which vGPU is in use, the idle vGPU can be removed."""
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q", "count": 2}]}]).ok
    host.kernel.use("0000:e8:00.5")
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "L40S-24Q"}]}]).ok
    assert [parent for dummy, parent, dummy2 in host.vgpus()] == ["0000:e8:00.5"] and host.kernel.harm == []


def test_a_user_in_another_gpu_instance_explains_nothing(make_host):
    """Each of two GPU instances has two vGPUs, and one vGPU in each instance has a user.

    /proc shows the user of the third vGPU. Only nvidia-smi shows the user of the first vGPU.
    """
    host = make_host(gpus=[(PF, RTXPRO6000)], vendor_vfio=True)
    host.pf(PF).mig = host.pf(PF).mig_pending = True
    host.vfs_on()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "DC-1-12Q", "count": 4}]}]).ok
    first, second, third, fourth = host.kernel.mdevs.values()
    assert first.gi is second.gi is not third.gi is fourth.gi
    host.kernel.add_process(77, "qemu-system-x86", ["qemu-system-x86_64"], ["/dev/kvm", "/dev/vfio/" + third.group])
    hidden(host, first.uuid)
    first.parent.vm_name = "web1"
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [{"type": "DC-1-12Q", "count": 2}]}]).ok
    assert list(host.kernel.mdevs.values()) == [first, third] and host.kernel.harm == []


def test_vms_that_do_not_run_are_warned_of(host):
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "uuid": UUID}]}]
    call(nvidia_vgpu, host, layout=layout).ok
    domain(host, "idle", MDEV % UUID.upper())
    domain(host, "busy", MDEV % UUID, running=True)
    host.put("/etc/libvirt/qemu/broken.xml", "<domain")
    outcome = call(nvidia_vgpu, host, check=True, layout=EMPTY).ok
    expected, broken = outcome.warnings
    assert expected.startswith(UUID) and "VM idle" in expected and "busy" not in expected and "the stopped libvirt VM" in expected
    assert broken.startswith("/etc/libvirt/qemu/broken.xml")
    assert call(nvidia_mdev, host, check=True, uuid=UUID, state="absent").warnings == outcome.warnings
    assert call(nvidia_vgpu, host, check=True, layout=layout).warnings == []


def test_vms_that_need_a_gpu_or_a_vf_are_warned_of(make_host):
    host = make_host(gpus=[(PF, A40)], driver="vfio-pci")
    domain(host, "db", PCI % ("yes", 0))
    (warning,) = call(nvidia_pci_driver, host).warnings
    assert warning.startswith(PF + ": ") and "VM db" in warning and "passthrough" in warning
    host = make_host().vfs_on()
    domain(host, "web", PCI % ("no", 4))
    (warning,) = call(nvidia_sriov, host, state="disabled").warnings
    assert warning.startswith("0000:e8:00.4: ") and "VM web" in warning
    assert call(nvidia_sriov, host).warnings == []


def test_libvirts_vms_are_returned_and_managed_vfs_are_a_problem(make_host):
    host = make_host(gpus=[(PF, L40S)], vendor_vfio=True).vfs_on()
    domain(host, "web", PCI % ("yes", 4), "<hostdev type='usb'><source><vendor id='1'/></source></hostdev>", running=True)
    domain(host, "none")
    outcome = call(nvidia_gpu_info, host).ok
    assert outcome["libvirt_domains"] == [{"name": "web", "running": True, "devices": [{"device": "0000:e8:00.4", "managed": True}]}]
    (problem,) = outcome["problems"]
    assert problem["code"] == "libvirt_managed" and problem["device"] == "0000:e8:00.4" and "virsh edit web" in problem["remedy"]


def test_who_may_be_disturbed_is_named_one_by_one(make_host):
    host = passed_through(make_host)
    host.kernel.add_process(78, "qemu-kvm", ["qemu-kvm", "-name", "mail"], ["/dev/kvm"])
    both = ["db", "mail"]
    for words, left in (([], both), (["db"], ["mail"]), (["e8:00.0"], ["mail"]), (["mail", "00000000:E8:00.0"], []), (["DB", OTHER, "all"], both)):
        outcome = call(nvidia_gpu_info, host, may_disturb=words).ok
        assert [one["vm"] for one in outcome["in_the_way"]] == left and [one["vm"] for one in outcome["in_use"]] == both
    assert outcome["in_use"][0]["devices"] == [PF] and outcome["gpus"][1]["in_use_by"][0]["vm"] == "db"


def test_a_vm_is_covered_by_all_its_devices_or_by_its_name():
    users = [(Holder(1, "qemu", "a"), ["0000:e8:00.4", UUID]), (Holder(2, "vmm"), [])]
    assert in_use.in_the_way(users, ["e8:00.4"]) == users
    assert in_use.in_the_way(users, ["e8:00.4", UUID.upper()]) == users[1:]
    assert in_use.in_the_way(users, ["a"]) == users[1:]


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("guest=web1,debug-threads=on", "web1"),
        ("debug-threads=on,guest=web1", "web1"),
        ("web1,debug-threads=on", "web1"),
        ("guest=a,,b,process=x", "a,b"),
        ("debug-threads=on", None),
    ],
)
def test_names_of_guests(argument, name):
    assert vm_name(["qemu", "-name", argument, ""]) == name


def test_no_name_is_none():
    assert vm_name(["qemu", "-name"]) is None and vm_name([]) is None


def test_the_fake_prints_what_the_real_program_prints(host):
    """The same parser must read the output of the fake and the real nvidia-smi."""
    host.add("0000:e8:00.4", "A40-24Q", UUID)
    host.kernel.use(UUID)
    text = program.Program(host).run(["vgpu", "-q"], 5).out
    (one,) = nvidia_smi.active(printed(text), PF)[0]
    assert (one.gpu, one.type, one.uuid, one.vm) == (PF, "A40-24Q", UUID, "web1")


def test_status_shows_a_whole_gpu(make_host, monkeypatch, capsys):
    host = passed_through(make_host)
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    cli.main(["status"])
    assert "the whole GPU is in use by VM db, pid 77" in capsys.readouterr().out


# --- names with terminal control characters


EVIL = "web\x1b[2J\x1b]0;owned\x07\x9b31m\nroot@host:~# "


def evil(make_host):
    """Returns a host with a passed-through GPU. The name of the VM that uses it contains terminal control characters."""
    host = passed_through(make_host)
    host.kernel.processes.clear()
    host.kernel.add_process(77, "qemu-system-x86", ["qemu", "-name", EVIL], ["/dev/kvm", "/dev/vfio/" + host.pf(PF).group])
    return host


def harmless(text):
    """Asserts that the text contains the VM's name but no terminal control characters."""
    assert not set(text) & set("\x1b\x07\x9b") and "web\\x1b[2J" in text and "\nroot@host" not in text


def test_a_vms_name_does_not_reach_the_terminal_raw(make_host, monkeypatch, capsys):
    host = evil(make_host)
    harmless(call(nvidia_pci_driver, host).msg)
    monkeypatch.setattr(cli, "Context", lambda: host.ctx)
    cli.main(["status"])
    harmless(capsys.readouterr().out)
    domain(host, EVIL.replace("\x1b", "").replace("\x07", ""), PCI % ("yes", 0))
    (warning,) = call(nvidia_pci_driver, make_idle(host)).warnings
    assert "\x9b" not in warning and "\\x9b31m" in warning


def make_idle(host):
    """Stops the VM and returns the host."""
    host.kernel.processes.clear()
    return host


@pytest.mark.parametrize("link", ["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:[vfio-device]"])
def test_a_vm_whose_process_closed_the_node_that_it_opened_is_in_use(make_host, link):
    """For example, Firecracker closes /dev/kvm after it has created the VM."""
    host = make_host()
    host.kernel.add_process(88, "firecracker", ["/usr/bin/firecracker", "--id", "a"], [link])
    (user,) = call(nvidia_gpu_info, host).ok["in_use"]
    assert user["pid"] == 88


def test_a_process_whose_first_thread_has_ended_is_in_use(make_host):
    """The kernel shows no open files for a first thread that has exited. The other threads of the process still have the files open."""
    host = passed_through(make_host)
    host.kernel.processes[77].headless = True
    outcome = call(nvidia_pci_driver, host)
    assert outcome.codes == ["in_use"] and outcome.writes == 0


@pytest.mark.parametrize("change", [("vGPU ID ", "vGPU Id-"), ("GPU 00000000:E8", "Device 00000000:E8")])
def test_an_active_vgpu_that_cannot_be_read_is_in_use(host, change):
    """A release of nvidia-smi might print another table. The number of active vGPUs in its output then differs from the number of parsed vGPUs."""
    host.add("0000:e8:00.4", "A40-24Q", UUID)
    real = host.ctx.command

    def command(argv, *args, **options):
        answer = real(argv, *args, **options)
        if argv[1:3] == ["vgpu", "-q"]:
            text = "GPU 00000000:E8:00.0\n    Active vGPUs                          : 1\n    vGPU ID                               : 3251634213\n"
            answer = Result(0, text.replace(*change))
        return answer

    host.ctx.command = command
    outcome = call(nvidia_vgpu, host, layout=EMPTY)
    assert outcome.codes == ["in_use"] and outcome.writes == 0 and host.vgpus()


@pytest.mark.parametrize(
    "argv",
    [
        ["python3", "train.py", "--api-key=MARK"], ["python3", "--hf_token", "MARK two", "train.py"], ["env", "DB_PASSWORD=MARK two", "train.py"],
        ["curl", "https://u:MARK@example.com/x", "train.py"],
    ],
)
def test_secrets_of_others_programs_are_not_repeated(make_host, argv):
    host = make_host()
    host.kernel.add_process(4711, "train", argv, ["/dev/nvidia0"])
    found = call(nvidia_gpu_info, host).ok.result
    assert "train.py" in str(found) and "MARK" not in str(found) and " two" not in str(found)


def test_a_program_of_several_lines_is_named_on_one(make_host):
    # Roles print one user per line. A line break in the command line of a user must not produce a line that looks like another user.
    host = make_host()
    host.kernel.add_process(4711, "python3", ["python3", "-c", "import torch\n- All is well."], ["/dev/nvidia0"])
    (user,) = call(nvidia_gpu_info, host).ok["in_use"]
    assert user["command"] == "python3 -c import torch\\n- All is well."


def vm_comes_after_the_plan(host, key):
    """Makes a VM use the vGPU as soon as the layout has been stored."""
    count = host._count

    def counted(path, value):
        count(path, value)
        if value == "file" and key in host.kernel.mdevs:
            host._count = count
            host.kernel.use(key)

    host._count = counted


@pytest.mark.parametrize("vendor", [False, True])
@pytest.mark.parametrize("params", ["", "disable_vnc=1"])
def test_a_vm_that_comes_after_the_plan_keeps_its_parameters(make_host, vendor, params):
    host = make_host(vendor_vfio=vendor).vfs_on()
    one = {"type": "A40-24Q", "count": 1}
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [dict(one, vgpu_params=params)]}]).ok
    key = host.vgpus()[0][0]
    vm_comes_after_the_plan(host, key)
    outcome = call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [dict(one, vgpu_params="frame_rate_limiter=0")]}])
    assert outcome.codes == ["in_use"] and "changing the vGPU's vgpu_params" in outcome.msg
    assert host.kernel.mdevs[key].params == params
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [one]}]).ok
    assert host.kernel.mdevs[key].params == params and "frame_rate_limiter" not in host.get("/etc/vgpuctl/layout.json")


@pytest.mark.parametrize("vendor", [False, True])
def test_parameters_of_a_vgpu_that_an_interrupted_run_was_to_remove_are_known_as_ours(make_host, vendor):
    host = make_host(vendor_vfio=vendor).vfs_on()
    one = {"type": "A40-24Q", "count": 2}
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [dict(one, vgpu_params="disable_vnc=1")]}]).ok
    first = host.vgpus()[0][0]
    vm_comes_after_the_plan(host, first)
    assert call(nvidia_vgpu, host, layout=EMPTY).codes == ["in_use"]
    host.kernel.processes.clear()
    call(nvidia_vgpu, host, layout=[{"gpu": "all", "vgpus": [one]}]).ok
    assert [vgpu.params for vgpu in host.kernel.mdevs.values()] == ["", ""] and "params" not in host.get("/etc/vgpuctl/layout.json")
