# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests nvidia_host_plan: it reads the host once, plans all stages like the check mode of each module, and installs the same vgpuctl as nvidia_vgpu_restore."""

from __future__ import annotations

import ast
import os

import pytest

from ansible_collections.vgpu.kvm.plugins.module_utils import module_backends
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import libvirt_xml
from ansible_collections.vgpu.kvm.plugins.module_utils.module_backends import vgpu_restore
from ansible_collections.vgpu.kvm.plugins.modules import (
    nvidia_gpu_info,
    nvidia_host_plan,
    nvidia_mig,
    nvidia_pci_driver,
    nvidia_sriov,
    nvidia_vgpu,
    nvidia_vgpu_attach,
    nvidia_vgpu_restore,
)
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A40, A100, T4
from ansible_collections.vgpu.kvm.tests.unit.fake.virsh import Libvirt

LAYOUT = [{"gpu": "A40", "vgpus": [{"type": "A40-24Q", "count": 2}]}, {"gpu": "A100", "vgpus": [{"type": "A100-1-5C"}]}]
DOMAINS = [{"name": "web1", "vgpus": [{"type": "A40-24Q"}]}]


def mixed(make_host, driver):
    """Returns a host with an A40, an A100, and a T4."""
    host = make_host(gpus=[("0000:17:00.0", A100), ("0000:3b:00.0", T4), ("0000:e8:00.0", A40)], driver=driver)
    Libvirt(host).define("web1")
    return host


@pytest.mark.parametrize("driver", ["nvidia", "vfio-pci", None])
def test_the_plans_are_those_of_the_modules(make_host, driver):
    host = mixed(make_host, driver)
    found = call(nvidia_host_plan, host, layout=LAYOUT, domains=DOMAINS, detail="all").ok
    assert found.writes == 0 and not found["changed"] and not found["converged"]
    alone = {
        "release": (nvidia_pci_driver, {"driver": "none"}),
        "mig": (nvidia_mig, {"layout": LAYOUT, "cycle_vfs": True, "check_mode_assume": ["driver", "iommu", "vfs"]}),
        "sriov": (nvidia_sriov, {"check_mode_assume": ["driver", "iommu"]}),
        "vgpus": (nvidia_vgpu, {"layout": LAYOUT, "check_mode_assume": ["driver", "iommu", "vfs", "mig"]}),
        "attach": (nvidia_vgpu_attach, {"domains": DOMAINS, "check_mode_assume": ["vgpus"]}),
        "restore": (nvidia_vgpu_restore, {}),
    }
    assert set(found["plans"]) == set(alone)
    for name, (module, arguments) in alone.items():
        outcome = call(module, host, check=True, **arguments)
        plan = found["plans"][name]
        assert plan.get("actions") == outcome.result.get("actions") and plan.get("msg") == outcome.result.get("msg"), name
    for detail, plan in (("all", found), ("counts", call(nvidia_host_plan, host, layout=LAYOUT, domains=DOMAINS).ok)):
        assert plan["info"] == {key: value for key, value in call(nvidia_gpu_info, host, detail=detail).ok.result.items() if key != "changed"}


def test_converged_when_all_is_done(make_host):
    host = mixed(make_host, "nvidia")
    for module, arguments in (
        (nvidia_pci_driver, {"driver": "none"}),
        (nvidia_mig, {"layout": LAYOUT}),
        (nvidia_sriov, {}),
        (nvidia_vgpu, {"layout": LAYOUT}),
        (nvidia_vgpu_restore, {}),
        (nvidia_vgpu_attach, {"domains": DOMAINS}),
    ):
        call(module, host, **arguments).ok
    assert call(nvidia_host_plan, host, layout=LAYOUT, domains=DOMAINS, ahead=False).ok["converged"]
    for drift, stage in (
        (lambda: host.put("/etc/modprobe.d/vfio.conf", "options vfio-pci ids=10de:2235\n"), "release"),
        (lambda: host.put("/usr/local/sbin/vgpuctl", "", 0o755), "restore"),
        (lambda: host.put("/etc/vgpuctl/layout.json", ""), "vgpus"),
        (lambda: Libvirt(host).define("web1"), "attach"),
        (lambda: host.kernel.remove(next(iter(host.kernel.mdevs.values()))), "vgpus"),
        (lambda: host.pf("0000:e8:00.0").set_vfs(0), "sriov"),
    ):
        drift()
        found = call(nvidia_host_plan, host, layout=LAYOUT, domains=DOMAINS).ok
        assert not found["converged"] and (found["plans"][stage].get("actions") or found["plans"][stage].get("failed")), stage


def test_a_refusal_is_in_its_plan(make_host):
    host = mixed(make_host, "nvidia")
    found = call(nvidia_host_plan, host, layout=[{"gpu": "A40", "vgpus": [{"type": "A41-24"}]}], domains=[{"name": "nobody"}], gpus=["0000:99:00.0"]).ok
    assert {name for name, plan in found["plans"].items() if plan.get("failed")} == {"release", "sriov", "vgpus", "attach"}
    assert "A41-24" in found["plans"]["vgpus"]["msg"] and found["plans"]["attach"]["errors"][0]["code"] == "unknown_vm"
    assert set(call(nvidia_host_plan, host).ok["plans"]) == {"release", "sriov", "restore"}, "a stage without options must not be planned"


# --- the command on the host


def test_before_a_drain_use_alone_refuses_nothing(make_host):
    host = make_host().vfs_on()
    host.add("0000:e8:00.4", "A40-8Q", "3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
    host.kernel.use("3f0c2d1e-7a54-4c7e-9b0d-0c7d2f6f3a11")
    layout = [{"gpu": "all", "vgpus": [{"type": "A40-24Q", "count": 2}]}]
    refused = call(nvidia_host_plan, host, layout=layout).ok["plans"]["vgpus"]
    assert refused["failed"] and {one["code"] for one in refused["errors"]} == {"in_use"}
    found = call(nvidia_host_plan, host, layout=layout, before_drain=True).ok
    assert "failed" not in found["plans"]["vgpus"] and found["plans"]["vgpus"]["actions"] and not found["converged"]
    nothing = [{"gpu": "all", "vgpus": [{"type": "A40-99Q"}]}]
    assert call(nvidia_host_plan, host, layout=nothing, before_drain=True).ok["plans"]["vgpus"]["failed"], "before_drain must not hide other errors"


def test_files_of_an_interrupted_installation_are_found(make_host):
    host = make_host().vfs_on()
    host.put("/var/cache/vgpuctl/vgpu-driver/signing/mok.key", "")
    paths = ["/var/cache/vgpuctl/vgpu-driver/signing", "/var/cache/vgpuctl/nothing"]
    plan = call(nvidia_host_plan, host, driver={"temporary": paths}).ok["plans"]["driver"]
    assert plan["leftovers"] == paths[:1]
    host.kernel.add_process(900, "sh", ["sh", "/var/cache/NVIDIA-Linux-x86_64-550.163.02-vgpu-kvm.run", "--silent"], [])
    plan = call(nvidia_host_plan, host, driver={"temporary": paths}).ok["plans"]["driver"]
    assert plan["leftovers"] == [], "an installation whose run lost its connection still needs the files"


def imported(path, package):
    """Returns the names of the engine and backend files that a file imports, directly or indirectly."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(module_backends.__file__)))
    seen, waiting = set(), [(path, package)]
    while waiting:
        file, parts = waiting.pop()
        with open(file, encoding="utf-8") as handle:
            tree = ast.parse(handle.read())
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = parts[: len(parts) - node.level + 1] + (node.module.split(".") if node.module else [])
            for one in [base] + [base + [alias.name] for alias in node.names]:
                where = os.path.join(root, *one)
                for found, inner in ((where + ".py", one[:-1]), (os.path.join(where, "__init__.py"), one)):
                    if os.path.isfile(found) and found not in seen:
                        seen.add(found)
                        waiting.append((found, inner))
    engine = os.path.join(root, "engine")
    found = {os.path.relpath(one, engine) for one in seen if one.startswith(engine + os.sep)}
    elsewhere = [name.replace(".", "/") for name in vgpu_restore.ELSEWHERE]
    return {one for one in found if not any(one == name + ".py" or one.startswith(name + "/") for name in elsewhere)}


def test_both_modules_copy_the_same_files_of_the_engine():
    """Ansible copies only those engine files that a module imports. nvidia_host_plan and nvidia_vgpu_restore must therefore import the same files."""
    directory = os.path.dirname(os.path.abspath(module_backends.__file__))
    copied = imported(os.path.join(directory, "vgpu_restore.py"), ["module_backends"])
    assert "cli/main.py" in copied and "system/mdevctl.py" in copied
    assert imported(os.path.join(directory, "host_plan.py"), ["module_backends"]) == copied


def test_what_is_read_counts_for_all_stages(make_host, monkeypatch):
    host = mixed(make_host, "nvidia")
    read: list[str] = []
    real = libvirt_xml.parse
    monkeypatch.setattr(libvirt_xml, "parse", lambda text: read.append(text) or real(text))
    call(nvidia_host_plan, host, layout=LAYOUT, domains=DOMAINS).ok
    assert len(read) == 1, "one read of web1's definition must serve the host's state and all plans"
    call(nvidia_host_plan, host, layout=LAYOUT, domains=DOMAINS).ok
    assert len(read) == 2, "each task must read the definition again"
