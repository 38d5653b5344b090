# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests how VFs are enabled and disabled on a fake host, including the possible errors."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result
from ansible_collections.vgpu.kvm.plugins.modules import nvidia_sriov
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, T4

UUID = "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11"
PF = "0000:e8:00.0"


def enabled(host):
    """Returns whether all VFs of the GPU exist and are bound to nvidia."""
    pf = host.pf(PF)
    return pf.driver == "nvidia" and len(pf.vfs) == 32 and {vf.driver for vf in pf.vfs} == {"nvidia"}


def test_all_vfs_on_twice(make_host):
    host = make_host()
    check = call(nvidia_sriov, host, check=True).ok
    assert check.writes == 0 and host.calls == [["modinfo", "-F", "version", "nvidia"]]
    real = call(nvidia_sriov, host).ok
    assert real["actions"] == check["actions"] == [PF + ": enable 32 VFs"] and real["diff"] == check["diff"]
    assert enabled(host)
    assert real["gpus"][0]["sriov_numvfs"] == 32 and real["gpus"][0]["vfs"][31] == "0000:e8:04.3"
    again = call(nvidia_sriov, host).ok
    assert not again["changed"] and again.writes == 0


def test_reset_is_passed_on(make_host):
    host = make_host()
    call(nvidia_sriov, host, reset=True).ok
    assert ["/usr/lib/nvidia/sriov-manage", "-e", PF, "-r", "1"] in host.calls


def test_a_gpu_that_a_job_uses_is_not_reset(make_host):
    """sriov-manage resets a GPU before it asks the driver whether the GPU is in use."""
    host = make_host(gpus=[(PF, A40), ("0000:e7:00.0", A40)])
    host.kernel.add_process(9, "python3", ["python3", "train.py"], ["/dev/nvidiactl", "/dev/nvidia%d" % host.pf(PF).number])
    outcome = call(nvidia_sriov, host, gpus=[PF], reset=True)
    assert outcome.codes == ["in_use"] and "train.py" in outcome.msg and outcome.writes == 0 and not [argv for argv in host.calls if "sriov" in argv[0]]
    assert call(nvidia_sriov, host, gpus=["0000:e7:00.0"], reset=True).ok["changed"]


def test_a_t4_is_skipped_with_the_reason(make_host):
    host = make_host(gpus=[("0000:3b:00.0", T4), (PF, A40)])
    outcome = call(nvidia_sriov, host).ok
    assert outcome["without_sriov"] == [{"gpu": "0000:3b:00.0", "reason": "T4 does not use SR-IOV for vGPUs, so vGPUs are created on the PF"}]
    assert enabled(host) and not host.pf("0000:3b:00.0").vfs


def test_an_unbind_lock_that_is_busy_for_a_while_is_retried(make_host):
    host = make_host()
    host.faults.lock_taken = host.clock.now() + 30
    call(nvidia_sriov, host).ok
    assert enabled(host) and 29 < host.clock.now() - 1000 < 45


def test_an_unbind_lock_that_stays_busy_names_who_holds_it(make_host):
    host = make_host()
    host.kernel.add_process(812, "dcgm", ["/usr/bin/nv-hostengine", "-n"], ["/dev/nvidiactl", "/dev/nvidia0"])
    outcome = call(nvidia_sriov, host, timeout=20)
    assert outcome.codes == ["unbind_lock"]
    assert "pid 812 (/usr/bin/nv-hostengine -n)" in outcome.msg and "20 s" in outcome.msg and PF in outcome.msg and "DCGM" in outcome.msg
    assert outcome["not_done"] == [PF + ": enable 32 VFs"] and not host.pf().vfs and host.pf().driver == "nvidia"


def test_the_deadlines_last_call_does_not_hide_the_busy_unbind_lock(make_host, monkeypatch):
    """The last call of sriov-manage is stopped at the deadline, before it prints anything. The error must still name the busy unbind lock."""
    host = make_host()
    host.kernel.add_process(812, "dcgm", ["/usr/bin/nv-hostengine", "-n"], ["/dev/nvidia0"])
    real = host._sriov_manage
    monkeypatch.setattr(host, "_sriov_manage", lambda argv, timeout: Result(124, "", True) if timeout <= 2 else real(argv, timeout))
    outcome = call(nvidia_sriov, host, timeout=20)
    assert outcome.codes == ["unbind_lock"] and "pid 812 (/usr/bin/nv-hostengine -n)" in outcome.msg


def test_success_without_vfs_is_found_out(make_host):
    host = make_host()
    host.faults.no_vfs = 9
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_fewer"] and "0 of 32 VFs" in outcome.msg and "Enabling VFs on" in outcome.msg
    assert "above-4G" in outcome.msg


def test_fewer_vfs_are_found_out(make_host):
    host = make_host()
    host.faults.fewer_vfs = 3
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_fewer"] and "only 29 of 32 VFs exist, and sriov_numvfs is 29" in outcome.msg


def test_fewer_vfs_than_expected_are_cycled_in_the_next_run(make_host):
    host = make_host()
    host.faults.fewer_vfs = 3
    assert call(nvidia_sriov, host).failed
    host.faults.fewer_vfs = 0
    outcome = call(nvidia_sriov, host).ok
    assert outcome["actions"] == [PF + ": disable 29 VFs", PF + ": enable 32 VFs"] and enabled(host)


def test_firmware_without_room_is_reported(make_host):
    host = make_host()
    host.faults.numvfs_errno = errno.ENOMEM
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_fewer"] and "ENOMEM" in outcome.msg and host.pf().driver == "nvidia"


@pytest.mark.parametrize("where", ["driverless", "stub"])
def test_a_pf_stranded_on_the_way_is_bound_again(make_host, where):
    host = make_host()
    host.faults.stranded = [where, where]
    call(nvidia_sriov, host).ok
    assert enabled(host)


@pytest.mark.parametrize("where", ["driverless", "stub"])
def test_a_pf_that_strands_each_time_ends_bound_to_nvidia(make_host, where):
    host = make_host()
    host.faults.stranded = [where] * 9
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_fewer"] and host.pf().driver == "nvidia"


@pytest.mark.parametrize("driver", [None, "pci-pf-stub"])
def test_a_pf_found_stranded_is_repaired(make_host, driver):
    host = make_host(driver=driver)
    host.pf().override = driver
    outcome = call(nvidia_sriov, host).ok
    assert "bind the PF to nvidia again (found: %s)" % (driver or "no driver") in outcome["actions"][0]
    assert enabled(host) and host.pf().override is None


def test_a_stranded_pf_that_has_its_vfs_is_repaired_alone(make_host):
    host = make_host().vfs_on()
    host.kernel.unbind("nvidia", host.pf())
    outcome = call(nvidia_sriov, host).ok
    assert len(outcome["actions"]) == 1 and enabled(host)
    assert not [argv for argv in host.calls if "sriov" in argv[0]]


def test_vfs_on_another_driver_are_bound_to_nvidia(make_host):
    host = make_host()
    host.faults.vf_driver = "vfio-pci"
    host.vfs_on()
    check = call(nvidia_sriov, host, check=True).ok
    real = call(nvidia_sriov, host).ok
    assert len(real["actions"]) == 32 and real["actions"] == check["actions"] and "found: vfio-pci" in real["actions"][0]
    assert enabled(host)


def test_a_vf_that_a_vm_has_is_left_alone(make_host):
    host = make_host()
    host.faults.vf_driver = "vfio-pci"
    host.vfs_on()
    vf = host.pf().vfs[3]
    host.kernel.add_process(99, "qemu", ["qemu"], ["/dev/vfio/" + vf.group])
    outcome = call(nvidia_sriov, host)
    assert "in_use" in outcome.codes and "pid 99 (qemu)" in outcome.msg and vf.address in outcome.msg
    assert vf.driver == "vfio-pci" and host.kernel.harm == []


def test_vfs_without_a_driver_after_enabling_are_reported(make_host):
    host = make_host()
    host.faults.vf_driver = "vfio-pci"
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_unbound"] and "0000:e8:00.4 is bound to vfio-pci" in outcome.msg and "32 of the GPU's VFs" in outcome.msg


def test_vfs_that_bind_late_are_waited_for(make_host):
    host = make_host()
    host.faults.vfs_delay = 4
    call(nvidia_sriov, host).ok
    assert enabled(host)


def test_off_and_never_under_a_vgpu(host):
    host.add("0000:e8:00.4", "A40-8Q", UUID)
    outcome = call(nvidia_sriov, host, state="disabled")
    assert outcome.codes == ["has_vgpus"] and UUID in outcome.msg and outcome.writes == 0
    host.kernel.use(UUID)
    outcome = call(nvidia_sriov, host, state="disabled")
    assert outcome.codes == ["in_use"] and "VM web1" in outcome.msg
    host.kernel.mdevs.clear()
    call(nvidia_sriov, host, state="disabled").ok
    assert not host.pf().vfs and host.pf().driver == "nvidia" and host.kernel.harm == []
    assert not call(nvidia_sriov, host, state="disabled").ok["changed"]


def test_a_vgpu_that_comes_between_plan_and_disabling_is_seen(host):
    real = host.command

    def command(argv, timeout, env=None, keeps_lock=False):
        if argv[0] == "modinfo":
            host.add("0000:e8:00.4", "A40-8Q", UUID)
        return real(argv, timeout, env)

    host.ctx.command = command
    outcome = call(nvidia_sriov, host, state="disabled")
    assert outcome.codes == ["has_vgpus"] and len(host.pf().vfs) == 32 and outcome.writes == 0


def test_a_vgpu_that_comes_while_the_lock_is_busy_is_seen(host, monkeypatch):
    """A retry of sriov-manage can run a minute after the first check for vGPUs."""
    host.faults.lock_taken = host.clock.now() + 10
    real = host._sriov_manage

    def sriov_manage(argv, timeout):
        if UUID not in host.kernel.mdevs:
            host.add("0000:e8:00.4", "A40-8Q", UUID)
        return real(argv, timeout)

    monkeypatch.setattr(host, "_sriov_manage", sriov_manage)
    outcome = call(nvidia_sriov, host, state="disabled")
    assert outcome.codes == ["has_vgpus"] and UUID in outcome.msg and len(host.pf().vfs) == 32 and UUID in host.kernel.mdevs


def test_off_while_the_lock_is_busy(host):
    host.kernel.add_process(812, "dcgm", ["/usr/bin/nv-hostengine"], ["/dev/nvidia0"])
    outcome = call(nvidia_sriov, host, state="disabled", timeout=5)
    assert outcome.codes == ["vfs_still_on"] and "nv-hostengine" in outcome.msg and len(host.pf().vfs) == 32


def test_some_vfs_need_a_driver_that_takes_sriov_numvfs(make_host):
    host = make_host()
    outcome = call(nvidia_sriov, host, num_vfs=4)
    assert "ENOENT" in outcome.msg and "sriov_numvfs" in outcome.msg and not host.pf().vfs
    outcome = call(nvidia_sriov, host, num_vfs=4, method="sriov_manage")
    assert outcome.codes == ["all_or_none"] and outcome.writes == 0
    outcome = call(nvidia_sriov, host, num_vfs=40)
    assert outcome.codes == ["too_many_vfs"] and "32" in outcome.msg
    host.kernel.sysfs_sriov = True
    outcome = call(nvidia_sriov, host, num_vfs=4).ok
    assert [one.address for one in host.pf().vfs] == outcome["gpus"][0]["vfs"] and len(host.pf().vfs) == 4
    outcome = call(nvidia_sriov, host, num_vfs=6).ok
    assert [text.split(": ")[1] for text in outcome["actions"]] == ["disable 4 VFs", "enable 6 VFs"] and len(host.pf().vfs) == 6


def test_without_the_tool_sysfs_is_used(make_host):
    host = make_host()
    host.kernel.sysfs_sriov = True
    os.unlink(host.root + "/usr/lib/nvidia/sriov-manage")
    call(nvidia_sriov, host).ok
    assert enabled(host) and not [argv for argv in host.calls if "sriov" in argv[0]]


def test_obstacles_are_reported_before_any_write(make_host):
    host = make_host()
    host.kernel.iommu_on = False
    host.pf().group = None
    host.kernel.cmdline = "root=/dev/sda1"
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["iommu_off"] and "intel_iommu=on iommu=pt" in outcome.msg and outcome.writes == 0
    assert call(nvidia_sriov, host, check=True, check_mode_assume=["iommu"]).ok["actions"] == [PF + ": enable 32 VFs"]
    host = make_host(driver="vfio-pci")
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["gpu_on_other_driver"] and "vfio-pci" in outcome.msg
    host = make_host()
    host.on_disk, host.kernel.loaded = None, {}
    os.unlink(host.root + "/usr/bin/nvidia-vgpu-mgr")
    assert call(nvidia_sriov, host).codes == ["driver_missing"]
    assert call(nvidia_sriov, host, check=True, check_mode_assume=["driver"]).ok["changed"]


def test_several_gpus_fail_alone(make_host):
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)])
    host.kernel.add_process(812, "dcgm", ["/usr/bin/nv-hostengine"], ["/dev/nvidia0"])
    outcome = call(nvidia_sriov, host, timeout=3)
    assert outcome.codes == ["unbind_lock"] and "0000:e7:00.0" in outcome.msg
    assert outcome["actions"] == [PF + ": enable 32 VFs"] and enabled(host) and outcome["changed"]


def test_vfs_that_an_agent_takes_are_reported(make_host):
    host = make_host()
    real, last = host.clock.pause, []

    def pause(seconds):
        real(seconds)
        if len(host.pf().vfs) == 32 and not last:
            last.append(host.pf().vfs[3])
            host.kernel.unbind("nvidia", last[0])

    host.clock.pause = pause
    outcome = call(nvidia_sriov, host)
    assert outcome.codes == ["vfs_unbound"] and outcome["actions"] == [] and outcome["not_done"] == [PF + ": enable 32 VFs"]
    assert last[0].address in outcome.msg and "cloud agent" in outcome.msg
    again = call(nvidia_sriov, host).ok
    assert again["changed"] and not call(nvidia_sriov, host).ok["changed"]


@pytest.mark.parametrize("agent_meets, lock_meets", [("0000:e7:00.0", PF), (PF, "0000:e7:00.0")])
def test_errors_are_in_the_order_of_the_gpus_whichever_is_noticed_first(make_host, agent_meets, lock_meets):
    """A VF that an agent unbinds is detected only after all GPUs are done. A busy lock is detected immediately."""
    host = make_host(gpus=[("0000:e7:00.0", A40), (PF, A40)])
    host.kernel.add_process(812, "dcgm", ["/usr/bin/nv-hostengine"], ["/dev/nvidia%d" % host.pf(lock_meets).number])
    real, taken = host.clock.pause, []

    def pause(seconds):
        real(seconds)
        if len(host.pf(agent_meets).vfs) == 32 and not taken:
            taken.append(host.pf(agent_meets).vfs[3])
            host.kernel.unbind("nvidia", taken[0])

    host.clock.pause = pause
    outcome = call(nvidia_sriov, host, timeout=3)
    codes = {agent_meets: "vfs_unbound", lock_meets: "unbind_lock"}
    assert outcome.codes == [codes["0000:e7:00.0"], codes[PF]] and outcome["actions"] == []
    assert outcome["not_done"] == ["0000:e7:00.0: enable 32 VFs", PF + ": enable 32 VFs"]


def test_a_check_of_a_teardown_takes_the_vgpus_for_gone(host):
    host.add("0000:e8:00.4", "A40-8Q", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
    found = call(nvidia_sriov, host, check=True, state="disabled", check_mode_assume=["no_vgpus"]).ok
    assert found["actions"] == ["0000:e8:00.0: disable 32 VFs"] and found.writes == 0
    assert call(nvidia_sriov, host, state="disabled", check_mode_assume=["no_vgpus"]).codes == ["has_vgpus"], "check_mode_assume applies only in check mode"
    host.kernel.use("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
    assert call(nvidia_sriov, host, check=True, state="disabled", check_mode_assume=["no_vgpus"]).codes == ["in_use"]
