# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests that readers can use the examples on the pages as printed: YAML, variables, roles, modules, layouts, and commands."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import shlex
import sys

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.vgpu.kvm.plugins.modules import nvidia_vgpu
from ansible_collections.vgpu.kvm.tests.unit.docs.test_module_docs import MODULES, spec
from ansible_collections.vgpu.kvm.tests.unit.fake import models
from ansible_collections.vgpu.kvm.tests.unit.fake.calls import call

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROLES = {
    path.parents[1].name: yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
}
PLAYBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").glob("*.yml")}
GROUPS = {"vgpu_hosts", "vgpu_guests"}
OPTIONS = {}
for _entries in ROLES.values():
    for _entry in _entries.values():
        for _name, _option in _entry.get("options", {}).items():
            OPTIONS.setdefault(_name, []).append(_option)
# Variables that playbooks read but roles do not.
OF_PLAYBOOKS = set(re.findall(r"\bvgpu_\w+(?= \| default|', default=)", "".join(PLAYBOOKS.values())))
# Settings for ansible-rulebook. No play reads them. docs/metrics.md documents them.
RULEBOOKS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "extensions" / "eda" / "rulebooks").glob("*.yml"))
OF_RULEBOOKS = set(re.findall(r"\{\{ (vgpu_\w+)", RULEBOOKS))
PREFIX = "vgpu.kvm."
OURS = re.compile("(?:vgpu|%s)_" % "|".join(sorted(ROLES)))


def blocks(language):
    """Yield the text of each code block in the language, from all pages."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^```%s\n(.*?)^```$" % language, text, re.MULTILINE | re.DOTALL):
            name = "%s:%d" % (path.relative_to(ROOT), text.count("\n", 0, found.start()) + 2)
            yield pytest.param(found.group(1), id=name)


YAML = list(blocks("yaml"))
CONSOLE = list(blocks("console"))


# --- content of a code block


def is_play(item):
    """Return whether a list item is a play."""
    return isinstance(item, dict) and ("hosts" in item or "ansible.builtin.import_playbook" in item)


def is_task(item):
    """Return whether a list item is a task."""
    return isinstance(item, dict) and any(key.startswith(("vgpu.kvm.", "ansible.builtin.")) for key in item)


def variables(value):
    """Yield (name, value) for each variable of this collection, at any level of an inventory or of vars."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(key, str) and OURS.match(key) and key not in GROUPS:
            yield key, inner
        else:
            yield from variables(inner)


def wrong_variable(name, value):
    """Return the error in a variable, or None if the variable is valid."""
    if name in OF_PLAYBOOKS | OF_RULEBOOKS:
        return None
    if name not in OPTIONS:
        return "%s: no role knows it" % name
    if "{{" in str(value):
        return None
    for option in OPTIONS[name]:
        errors = ArgumentSpecValidator({name: option}).validate({name: value}).error_messages
        if errors:
            return "%s: %s" % (name, errors)
    return None


def wrong_role(name, tasks_from="main"):
    """Return the error in a reference to a role, or None if the reference is valid."""
    if not name.startswith(PREFIX):
        return None
    role = ROOT / "roles" / name.replace(PREFIX, "")
    return None if (role / "tasks" / (tasks_from + ".yml")).is_file() else "%s (%s): there is no such role" % (name, tasks_from)


def wrong_playbook(name):
    """Return the error in the name of a playbook, or None if the name is valid."""
    return None if not name.startswith(PREFIX) or name.replace(PREFIX, "") in PLAYBOOKS else "%s: there is no such playbook" % name


def wrong_module(name, arguments):
    """Return the error in a task that uses a module of the collection, or None if the task is valid."""
    if name not in MODULES:
        return "%s: there is no such module" % name
    expected = spec(name)
    rules = {key: expected.get(key) for key in ("mutually_exclusive", "required_one_of", "required_if", "required_together", "required_by")}
    given = {key: value for key, value in (arguments or {}).items() if "{{" not in str(value)}
    errors = ArgumentSpecValidator(expected["argument_spec"], **rules).validate(given).error_messages
    return "%s: %s" % (name, errors) if errors and len(given) == len(arguments or {}) else None


def wrong_task(task):
    """Return all errors in a task."""
    found = [wrong_module(key.replace(PREFIX, ""), value) for key, value in task.items() if key.startswith(PREFIX)]
    for key in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
        if key in task:
            found.append(wrong_role(task[key]["name"], task[key].get("tasks_from", "main")))
    found += [wrong_variable(name, value) for name, value in variables(task.get("vars", {}))]
    for part in ("block", "rescue", "always"):
        found += [text for inner in task.get(part, []) for text in wrong_task(inner)]
    return [text for text in found if text]


def wrong_play(play):
    """Return all errors in a play."""
    found = [wrong_playbook(play.get("ansible.builtin.import_playbook", ""))]
    for role in play.get("roles", []):
        found.append(wrong_role(role if isinstance(role, str) else role.get("role", role.get("name", ""))))
    found += [wrong_variable(name, value) for name, value in variables(play.get("vars", {}))]
    found += [text for part in ("pre_tasks", "tasks", "post_tasks", "handlers") for task in play.get(part, []) for text in wrong_task(task)]
    return [text for text in found if text]


def wrong(value):
    """Return all errors in the value of a YAML block."""
    if isinstance(value, list):
        found = []
        for item in value:
            found += wrong_play(item) if is_play(item) else wrong_task(item) if is_task(item) else []
        return found
    return [text for text in (wrong_variable(name, inner) for name, inner in variables(value)) if text]


# --- YAML blocks


def test_there_are_blocks():
    assert len(YAML) > 25 and len(CONSOLE) > 15
    assert {"vgpu_serial", "vgpu_max_fail_percentage"} <= OF_PLAYBOOKS


@pytest.mark.parametrize("text", YAML)
def test_yaml_is_sound_and_what_it_names_exists(text):
    value = yaml.safe_load(text)
    assert isinstance(value, (dict, list))
    assert wrong(value) == []


@pytest.mark.parametrize(
    "value",
    [
        {"vgpu_layouts": []},
        {"all": {"vars": {"vgpu_num_vfs": "many"}}},
        {"vgpu_layout": [{"gpu": "all", "vgpu": []}]},
        [{"hosts": "all", "roles": ["vgpu.kvm.hosts"]}],
        [{"hosts": "all", "tasks": [{"vgpu.kvm.nvidia_sriov": {"state": "on"}}]}],
        [{"vgpu.kvm.nvidia_vgpus": {}}],
        [{"ansible.builtin.include_role": {"name": "vgpu.kvm.report", "tasks_from": "draw"}}],
        [{"ansible.builtin.include_role": {"name": "vgpu.kvm.report"}, "vars": {"report_colour": "red"}}],
        [{"ansible.builtin.import_playbook": "vgpu.kvm.everything"}],
    ],
)
def test_what_is_wrong_is_found(value):
    assert len(wrong(value)) == 1


def test_the_page_of_variables_has_each_of_them_once():
    """docs/variables.md lists role variables, playbook variables, and vgpu_target. It omits vgpu_guests_optional, which site sets for one of its own plays."""
    rows = re.findall(r"^\| `(vgpu_\w+)` \|", (ROOT / "docs" / "variables.md").read_text(encoding="utf-8"), re.MULTILINE)
    public = {name for name in OPTIONS if name.startswith("vgpu_")} | OF_PLAYBOOKS - {"vgpu_guests_optional"} | {"vgpu_target"}
    assert len(public) > 100 and sorted(rows) == sorted(public)


def test_both_rulebooks_mend_the_same():
    """AWX's rulebook filters alerts by code before it starts a job. With the other rulebook, the playbook filters alerts. Both must use the same codes."""
    (asked,) = re.findall(r"commonLabels\.code in \[([^]]+)\]", RULEBOOKS)
    (play,) = yaml.safe_load(PLAYBOOKS["react"])
    assert re.findall(r'"(\w+)"', asked) == play["vars"]["__react_codes"]


# --- layouts in the examples


def hosts_of(layout):
    """Return the GPUs that a layout needs, as (address, model). A type name starts with the GPU model, followed by the size."""
    gpus, number = {}, 0
    for entry in layout:
        selectors = entry["gpu"] if isinstance(entry["gpu"], list) else [entry["gpu"]]
        types = [vgpu["type"] for vgpu in entry["vgpus"]]
        for selector in selectors:
            address = selector if re.fullmatch(r"[0-9a-f:]+\.[0-9a-f]", selector) else "0000:%02x:00.0" % (0xA0 + number)
            number += 1
            gpus[address] = getattr(models, types[0].split("-")[0]) if types else models.A100
    return sorted(gpus.items())


LAYOUTS = [
    pytest.param(value["vgpu_layout"], id=block.id)
    for block in YAML
    for value in [yaml.safe_load(block.values[0])]
    if isinstance(value, dict) and value.get("vgpu_layout")
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("vendor_vfio", [False, True], ids=["mdev", "vendor_vfio"])
def test_layouts_fit_their_gpus(make_host, layout, vendor_vfio):
    host = make_host(gpus=hosts_of(layout), vendor_vfio=vendor_vfio).vfs_on()
    given = [dict(entry, gpu=entry["gpu"] if isinstance(entry["gpu"], list) else [entry["gpu"]]) for entry in layout]
    outcome = call(nvidia_vgpu, host, check=True, layout=given, check_mode_assume=["driver", "iommu", "vfs", "mig"]).ok
    expected = sum(vgpu.get("count", 1) * len(entry["gpu"]) for entry in given for vgpu in entry["vgpus"])
    assert len([line for line in outcome["actions"] if "create" in line]) >= expected


# --- commands in the examples

MAKE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
SESSIONS = set(re.findall(r"^@session_of\(\"([a-z0-9_-]+)\"", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
SESSIONS |= set(re.findall(r"^    Session\(\s*\"([a-z0-9_-]+)\"", (ROOT / "tests/tools/sessions.py").read_text(encoding="utf-8"), re.MULTILINE))


def commands(text):
    """Return the commands of a console block as lists of words. Output and comments are omitted."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [shlex.split(part, comments=True) for line in joined.splitlines() if line.startswith("$ ") for part in line[2:].split(" && ")]


def wrong_command(words):
    """Return the error in a command of this project, or None if the command is valid."""
    if words[0] == "make":
        for word in words[1:]:
            if "=" not in word and word not in MAKE:
                return "make %s: no such target" % word
            for session in word.partition("SESSIONS=")[2].split():
                if session not in SESSIONS:
                    return "SESSIONS=%s: no such session" % session
    if words[0] == "ansible-playbook":
        found = [wrong_playbook(word) for word in words[1:]]
        extra = [words[index + 1].partition("=")[0] for index, word in enumerate(words) if word == "-e"]
        found += ["-e %s: no role knows it" % name for name in extra if OURS.match(name) and name not in OPTIONS and name not in OF_PLAYBOOKS | OF_RULEBOOKS]
        return next((text for text in found if text), None)
    if "/" in words[0] and words[0].startswith("tests/") and not (ROOT / words[0]).is_file():
        return "%s: no such program" % words[0]
    return None


@pytest.mark.parametrize("text", CONSOLE)
def test_commands_are_there(text):
    assert [wrong for wrong in map(wrong_command, commands(text)) if wrong] == []


@pytest.mark.parametrize(
    "line", ["make dema", 'make test SESSIONS="lint loud"', "ansible-playbook vgpu.kvm.sites", "ansible-playbook x.yml -e vgpu_seriel=4"]
)
def test_a_wrong_command_is_found(line):
    assert wrong_command(shlex.split(line))


def test_the_demo_page_has_the_commands_that_the_demo_prints():
    known = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/first-awx.md", "tests/demo/demo.py"))
    known = known.replace("{twin}", "tests/twin/twin").replace("{NAME}", "demo")
    lines = re.findall(r"^\$ (.*)$", (ROOT / "docs/five-minutes.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 6
    assert [line for line in lines if line not in known] == []


# --- docs/troubleshooting.md, which a tool generates


@pytest.fixture(scope="module")
def tool():
    """Load the tool that generates docs/troubleshooting.md."""
    found = importlib.util.spec_from_file_location("troubleshooting_page", str(ROOT / "tests/tools/troubleshooting_page.py"))
    made = importlib.util.module_from_spec(found)
    sys.modules[found.name] = made  # dataclasses look up their module in sys.modules
    found.loader.exec_module(made)
    return made


def test_the_page_of_errors_matches_the_code(tool, capsys):
    assert tool.main(["--check"]) == 0, capsys.readouterr().out


def test_no_code_is_missing_on_it():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "plugins").rglob("*.py"))
    codes = set(re.findall(r'\bcode="([a-z_]*[a-z])"', code))
    assert len(codes) > 100
    assert sorted(one for one in codes if "### `%s`\n" % one not in page) == []


SOURCE = '''
WAYS = (("first", "one thing", "Do this."), ("second", "other thing", "Do that."))
ADVICE = "Check dmesg."
def looped():
    for code, found, remedy in WAYS:
        raise error("%s, %d times" % (found, count), remedy=remedy, code=code)
def chosen(gpu):
    remedy = "Stop it."
    if gpu:
        remedy = "Move it " + "aside."
    return Refusal("a" if gpu else "b", expected="5%%, %s" % gpu.name, remedy=remedy, code="third" if gpu else "fourth")
def passed(found, remedy, code):
    return Refusal(found, remedy=remedy, code=code)
class Method:
    def use(self):
        return passed("it is off", ADVICE, "fifth")
'''


def test_errors_are_read_from_code(tool):
    source = tool.messages.Source.of("x.py", SOURCE)
    found = dict(tool.messages.Reader([source]).errors(source))
    assert sorted(found) == ["fifth", "first", "fourth", "second", "third"]
    assert found["second"] == tool.Message(("other thing, … times",), (), ("Do that.",))
    assert found["third"] == tool.Message(("a", "b"), ("5%, …",), ("Stop it.", "Move it aside."))
    assert found["fifth"] == tool.Message(("it is off",), (), ("Check dmesg.",))


def test_a_code_without_a_stage_and_an_unreadable_code_are_errors(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "PLUGINS", tmp_path)
    for text, message in (('error("x", code="new_one")', "x.py: new_one"), ('error("x", code=made())', "cannot be determined")):
        (tmp_path / "x.py").write_text(text, encoding="utf-8")
        with pytest.raises(tool.PageError, match=message):
            tool.collect(tmp_path)
