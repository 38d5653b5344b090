# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that a setting has the same effect under its public name (vgpu_*) and under the name of its role variable.

The entry roles run on hosts that differ only in the names: public names for all settings, or role variables for all settings. No module runs:
callback/stage_arguments.py records the arguments that each module would get.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_gpu_info, nvidia_host_plan
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call
from ansible_collections.vgpu.kvm.tests.unit.fake.host import Host
from ansible_collections.vgpu.kvm.tests.unit.fake.models import A100

ROOT = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("role_readmes", ROOT / "tests/tools/role_readmes.py")
role_readmes = importlib.util.module_from_spec(_SPEC)
sys.modules["role_readmes"] = role_readmes
_SPEC.loader.exec_module(role_readmes)

ROLES = {role.name: role for role in role_readmes.read_roles()}
PLAYBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "playbooks").glob("*.yml"))}
# Public names that only playbooks use, so no role variable belongs to them.
OF_PLAYBOOKS = set(re.findall(r"\bvgpu_\w+(?= \| default|', default=)", "".join(PLAYBOOKS.values())))
ENTRIES = sorted({name for text in PLAYBOOKS.values() for name in re.findall(r"role: vgpu\.kvm\.(\w+)", text)})

# Patterns of role variables without a public name, and the reason for each.
WITHOUT_PUBLIC_NAME = {
    r".*_(info|check_mode_assume|unresponsive_gpus)": "set by a role that includes this role, from its own reading and its other stages",
    r"(gpu_release|iommu|fabric)_state|gpu_release_initramfs_stale": "set by the teardown role",
    r"gpu_release_update_bootloader|iommu_bootloader_stale": "coordinates two stages, one of which rebuilds the boot loader configuration",
    r"driver_initramfs_rebuilt": "coordinates two stages, one of which rebuilds the initramfs",
    r"(host|preflight)_before_drain": "set by the upgrade role",
    r"preflight_stages": "set by the host role according to the tags of the run",
    r"sriov_bind": "set by the host role according to the state of the GPUs",
    r"report_(results|time)": "arguments of the render entry point, which uses stored results",
    r"driver_(kind|load|host_version|reboots_after|read)": "set by a role that includes this role and knows the machine and its stages",
}
# Settings whose value does not appear unchanged in a module's arguments, and the reason for each.
UNSEEN = {
    "guest_host": "the host whose facts the role reads",
    "guest_license_token_file": "a missing file, which both names report as an error",
    "upgrade_drain": "the role runs the tasks in this file",
    "upgrade_undrain": "the role runs the tasks in this file",
    **dict.fromkeys(("metrics_rules_file", "metrics_dashboard_file", "metrics_prometheus_service"), "an option of the server entry point: see test_metrics.py"),
    "upgrade_drain_timeout": "the role converts the value to a number of retries, which the test compares",
}
# Settings that skip stages or end the run for a host. The test sets them on separate hosts.
STOPS = re.compile(r".*_state|.*_reboot|guest_license|guest_license_wait|teardown_driver|vgpus_restore|cloudpods_restart|validate_guest|sriov_bind")


@dataclass(frozen=True)
class Setting:
    """A role variable, its public name, and its option in the argument specs."""

    role: str
    name: str
    public: str

    @property
    def option(self) -> dict:
        """Return the variable's option in the argument specs."""
        return ROLES[self.role].options[self.name]


SETTINGS = [Setting(role.name, name, public) for role in ROLES.values() for name, public in role.public.items()]
# Settings of the driver in VMs, which have separate public names.
OF_GUESTS = [Setting(role.name, name, public) for role in ROLES.values() for name, public in role.of_guests.items()]
SETTINGS += OF_GUESTS
PUBLIC = sorted({one.public for one in SETTINGS})


def excepted(name: str, exceptions: dict[str, str]) -> bool:
    """Return whether a pattern of the exceptions matches the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in exceptions)


def value(setting: Setting, option: dict) -> object:
    """Return a value of the option's type that is recognizable in a module's arguments: a text with the public name, or a number that no other setting has."""
    # driver_bundle is a URL, because a download uses more settings than a local file.
    text = ("https://two-names/" if setting.name == "driver_bundle" else "/two-names/") + setting.public
    if "choices" in option:
        (chosen, *dummy) = [one for one in option["choices"] if one not in ("", default_of(setting))]
        return [chosen] if option["type"] == "list" else chosen
    if option["type"] in ("list", "dict"):
        one = {name: value(setting, inner) for name, inner in option.get("options", {}).items() if inner.get("required")}
        return [one or text] if option["type"] == "list" else one
    if option["type"] == "bool":
        return default_of(setting) is not True
    return 7000 + PUBLIC.index(setting.public) if option["type"] == "int" else text


def default_of(setting: Setting) -> object:
    """Return the role's default for the setting if it is a constant, otherwise None."""
    found = re.search(r"default\(('[^']*'|\w+)(?:, true)?\)", ROLES[setting.role].defaults[setting.name])
    return yaml.safe_load(found.group(1)) if found else None


# --- roles that use a setting


def text_of(role: str) -> str:
    """Return the text of all files in a role that Ansible reads."""
    folders = [ROOT / "roles" / role / name for name in ("defaults", "vars", "tasks", "templates")]
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*")))


TEXTS = {role: text_of(role) for role in ROLES}


def closure(entry: str) -> set[str]:
    """Return the role and all roles that it includes."""
    found, pending = set(), [entry]
    while pending:
        role = pending.pop()
        if role not in found:
            found.add(role)
            pending += re.findall(r"name: vgpu\.kvm\.(\w+)$", TEXTS[role], re.MULTILINE)
    return found


# STARTED lists the playbooks' roles that no other listed role includes, and the roles that only the teardown playbook or no playbook uses.
REACHED = {role for entry in ENTRIES if entry != "teardown" for role in closure(entry)}
STARTED = sorted({*ENTRIES, *(set(ROLES) - REACHED)} - {role for entry in ENTRIES for role in closure(entry) - {entry} if role in ENTRIES})


def reading(entry: str) -> list[Setting]:
    """Return the settings whose names occur in a started role or in a role that it includes."""
    text = "\n".join(TEXTS[role] for role in sorted(closure(entry)))
    others = OF_GUESTS if entry != "guest" else [one for one in SETTINGS if ROLES[one.role].of_guests.get(one.name, one.public) != one.public]
    return [one for one in SETTINGS if one not in others and re.search(r"\b(%s|%s)\b" % (one.name, one.public), text)]


# --- the runs

# The two ways to set a variable, each with a suffix for the host's name. Both suffixes have the same length, so the tables have the same width.
WAYS = {"public": "public", "name": "by-own"}
LAYOUT = [{"gpu": "all", "vgpus": [{"type": "A100-4C", "count": 1}]}]
BASE = {
    "vgpu_layout": LAYOUT, "vgpu_domains": [{"name": "vm1", "vgpus": []}], "vgpu_scheduler": "equal_share", "vgpu_teardown_confirm": True,
    "vgpu_validate_fail_on": "never", "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
}


def answers(folder: Path) -> dict[str, dict]:
    """Return the answer of each module for a host on which every stage has work to do."""
    host = Host(folder, gpus=[("0000:e8:00.0", A100)])
    host.put("/etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    host.vfs_on()
    read = dict(call(nvidia_host_plan, host, check=True, layout=LAYOUT).ok.result, changed=False)
    info = call(nvidia_gpu_info, host).ok.result
    for one in (info, read["info"]):
        one["reboot_reasons"] = ["a file is new"]
    board = {"switches": ["0000:05:00.0"], "nvlsm": False, "partitions": []}
    for one in (info, read["info"]):
        one["host"]["fabric"] = board
    for name in ("release", "fabric", "mig"):
        read["plans"].setdefault(name, {})["actions"] = ["something"]
    read["plans"]["driver"] = {"install": True, "version": "550.163.02", "format": "run", "loads": True, "actions": ["something"], "leftovers": []}
    driver = {"loaded": "550.163.01", "on_disk": "550.163.01", "flavour": "guest", "nouveau_loaded": True, "scheduler": None}
    guest = {**read["info"]["host"], "driver": driver}
    vm = {"guest": guest, "gpus": [{"address": "0000:02:00.0", "in_use_by": []}], "problems": [], "busy": [], "reboot_required": True}
    released = {"actions": [], "initramfs_update_needed": True, "bootloader_update_needed": True, "reboot_reasons": [], "warnings": [], "gpus": []}
    return {
        "vgpu.kvm.nvidia_host_plan": read,
        "vgpu.kvm.nvidia_gpu_info": info,
        "vgpu.kvm.nvidia_guest_info": vm,
        "vgpu.kvm.nvidia_pci_driver": released,
        "vgpu.kvm.nvidia_fabric": {"fabric": board, "installs": "550.163.02", "packages": ["nvidia-fabricmanager-550"]},
        "vgpu.kvm.nvidia_sriov": {"without_types": ["0000:e8:00.4"]},
        "vgpu.kvm.nvidia_driver_bundle": {"path": "/cache/driver.run", "version": "550.163.01"},
        "vgpu.kvm.nvidia_driver": {"actions": ["install"]},
        "vgpu.kvm.nvidia_grid_license": {"actions": [], "restart_needed": True},
        "vgpu.kvm.nvidia_cloudpods_config": {"restart_pending": True, "errors": []},
        "ansible.builtin.stat": {
            "stat": {"exists": True, "path": "/there", "isdir": True, "islnk": True, "mtime": 1, "rgrp": False, "roth": False, "mode": "0600"},
        },
        "ansible.builtin.systemd_service": {"status": {}},
        "ansible.builtin.command": {"rc": 0, "stdout": "", "stderr": ""},
        "ansible.builtin.find": {"matched": 0},
    }


def hosts(tasks: Path) -> dict[str, dict[str, dict]]:
    """Return the variables of each host by started role and host name."""
    found: dict[str, dict[str, dict]] = {entry: {} for entry in STARTED}
    for entry in STARTED:
        for stops in (False, True):
            settings = [one for one in reading(entry) if bool(STOPS.fullmatch(one.name)) == stops]
            for way in WAYS if settings else ():
                given = {getattr(one, way): str(tasks) if one.name.endswith("drain") else value(one, one.option) for one in settings}
                base = {name: one for name, one in BASE.items() if name not in {one.public for one in settings}}
                found[entry]["%s--%s--%s" % (entry, "stops" if stops else "rest", WAYS[way])] = {**base, **given}
    return found


def run(folder: Path, *options: str) -> list[dict]:
    """Run play.yml on the hosts of hosts.yml. For each task on a host, return a line with the module's arguments."""
    settings = {
        **{name: text for name, text in os.environ.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_COLLECTIONS_PATH"},
        "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_CALLBACKS_ENABLED": "stage_arguments", "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).resolve().parent / "callback"), "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
        "STAGE_ARGUMENTS": str(folder / "log.jsonl"), "STAGE_ANSWERS": str(folder / "answers.json"),
    }
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(folder / "hosts.yml"), str(folder / "play.yml"), *options]
    ended = subprocess.run(argv, env=settings, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, "\n".join(line for line in ended.stdout.splitlines() if "fatal" in line or "ERROR" in line)[-8000:]
    return [json.loads(text) for text in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Return the recorded module arguments by host."""
    folder = tmp_path_factory.mktemp("names")
    tasks = folder / "tasks.yml"
    tasks.write_text(yaml.safe_dump([{"ansible.builtin.debug": {"msg": "drained"}}]), encoding="utf-8")
    made = hosts(tasks)
    # A role with tasks that run once per play needs a separate play for each host.
    alone = [entry for entry in STARTED if "run_once" in TEXTS[entry] or "ansible_play_" in TEXTS[entry]]
    plays = [
        {"hosts": one, "gather_facts": False, "roles": [{"role": "vgpu.kvm." + entry}]}
        for entry in STARTED for one in (made[entry] if entry in alone else [entry])
    ]
    inventory = {"all": {"children": {entry: {"hosts": variables} for entry, variables in made.items()}}}
    for name, content in (("play.yml", plays), ("hosts.yml", inventory), ("answers.json", answers(folder / "host"))):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    lines = run(folder)
    found: dict[str, list] = {name: [] for variables in made.values() for name in variables}
    for line in lines:
        text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", "TIME", json.dumps(line).replace(line["host"], "HOST"))
        found[line["host"]].append(json.loads(text))
    return found


def differences(first: list[dict], second: list[dict]) -> list[str]:
    """Return one line for each difference between two hosts."""
    texts = [[json.dumps(line, sort_keys=True) for line in lines] for lines in (first, second)]
    return ["%s %s" % (sign, text) for sign, mine, other in zip("-+", texts, texts[::-1]) for text in mine if text not in other]


@pytest.mark.parametrize("entry", STARTED)
def test_both_names_have_the_same_effect_everywhere(stages, entry):
    for kind in ("rest", "stops"):
        public, own = (stages.get("%s--%s--%s" % (entry, kind, way), []) for way in WAYS.values())
        assert differences(public, own) == [], kind


def test_each_setting_reaches_a_module(stages):
    """This test covers only settings whose value is a recognizable text or number."""
    text = json.dumps(list(stages.values()))
    told = {one.name: re.findall(r"/two-names/\w+|7\d\d\d", json.dumps(value(one, one.option))) for one in SETTINGS}
    unseen = {name for name, values in told.items() if values and not any(re.search(re.escape(one) + r"(?![0-9_])", text) for one in values)}
    assert sorted(unseen - set(UNSEEN)) == []
    assert sorted(set(UNSEEN) - unseen) == [], "the test now recognizes these settings, so remove the exceptions"


def test_each_role_variable_has_a_public_name():
    without = {name for role in ROLES.values() for name in role.options if not name.startswith("vgpu_") and name not in role.public}
    assert sorted(name for name in without if not excepted(name, WITHOUT_PUBLIC_NAME)) == []
    assert [pattern for pattern in WITHOUT_PUBLIC_NAME if not any(re.fullmatch(pattern, name) for name in without)] == [], "remove these exceptions"


def test_each_role_describes_its_variables_by_both_names():
    """Ansible rejects a role parameter that argument_specs does not list."""
    known = [(one, entry["options"]) for one in SETTINGS for entry in ROLES[one.role].entries.values() if one.name in entry.get("options", {})]
    assert sorted({one.name for one, options in known if one.public not in options}) == []


def test_each_public_name_has_one_role_variable_in_a_playbook():
    """If one public name had two role variables, an operator who sets one of them would miss the other."""
    for entry in STARTED:
        own = [one for one in SETTINGS if one.role in closure(entry)]
        assert sorted(one.name for one in own if [two.public for two in own].count(one.public) > 1) == [], entry


def test_each_documented_public_name_has_a_role_variable():
    known = {one.public for one in SETTINGS} | OF_PLAYBOOKS
    assert sorted({name for role in ROLES.values() for name in role.options if name.startswith("vgpu_")} - known) == []


@pytest.mark.parametrize("manager, setup", [("vgpu_manager_service", "vgpu_setup_service"), ("services_manager", "services_setup")])
def test_each_way_to_set_a_variable(tmp_path, manager, setup):
    """The variable is set as a role parameter, in group_vars, and on the command line."""
    roles = [{"role": "vgpu.kvm.services", manager: "by-parameter"}], [{"role": "vgpu.kvm.services"}]
    (tmp_path / "group_vars").mkdir()
    plays = [{"hosts": "all", "gather_facts": False, "roles": one} for one in roles]
    for name, content in (
        ("play.yml", plays), ("hosts.yml", {"all": {"hosts": {"one": {"ansible_connection": "local"}}}}), ("answers.json", {"unused": {}}),
        ("group_vars/all.yml", {manager: "by-group", setup: "by-group"}),
    ):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    found = [line["args"]["name"] for line in run(tmp_path, "-e", setup + "=by-extra-variable") if "args" in line]
    assert found == ["by-extra-variable", "by-extra-variable", "by-parameter", "by-extra-variable", "by-extra-variable", "by-group"]


def test_the_page_of_variables_has_each_public_name_once():
    rows = re.findall(r"^\| `(vgpu_\w+)` \|", (ROOT / "docs/variables.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(set(rows)) and {one.public for one in SETTINGS} <= set(rows)
    read = set(re.findall(r"\bvgpu_\w+(?= \| default\b| is defined)", "\n".join([*TEXTS.values(), *PLAYBOOKS.values()])))
    # The page does not list vgpu_guests_optional, because site.yml sets this variable for guest.yml.
    assert sorted(read - set(rows) - {"vgpu_guests_optional"}) == []
