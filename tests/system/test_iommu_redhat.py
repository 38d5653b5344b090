# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""Tests of IOMMU flags on distributions of the Red Hat family. A replacement for grubby sets and removes the flags on a host with boot entries."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.long

GRUBBY = r"""#!/bin/sh
# Changes the options of all boot entries; knows --update-kernel=ALL, --args and --remove-args.
add= remove=
for word in "$@"; do
  case $word in
    --args=*) add=${word#--args=} ;;
    --remove-args=*) remove=${word#--remove-args=} ;;
  esac
done
python3 - "$add" "$remove" <<'PY'
import glob, sys
add, remove = (word.split() for word in sys.argv[1:])
for path in glob.glob("/boot/loader/entries/*.conf"):
    with open(path) as file:
        lines = [line.split() for line in file]
    with open(path, "w") as file:
        for words in lines:
            if words[0] == "options":
                kept = [word for word in words if word not in remove]
                words = kept + [word for word in add if word not in kept]
            file.write(" ".join(words) + "\n")
PY
"""
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: vgpu.kvm.iommu
      vars:
        iommu_flags: [intel_iommu=on, iommu=pt, made.by=us]
"""
ENTRIES = "/boot/loader/entries"
FILES = {
    "/etc/default/grub": 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="quiet crashkernel=1G" # site\n',
    "/etc/kernel/cmdline": "root=/dev/sda1 ro quiet\n",
    ENTRIES + "/a-1.conf": "title A\nversion 5.14.0-1.el9\nlinux /vmlinuz-1\noptions root=/dev/sda1 ro quiet\n",
    ENTRIES + "/a-2.conf": "title B\nversion 5.14.0-2.el9\nlinux /vmlinuz-2\noptions root=/dev/sda1 ro quiet old\n",
}


def read(host) -> dict[str, str]:
    """Return the content of the files by path."""
    return {path: host.sh(f"cat {path}") + "\n" for path in FILES}


@pytest.fixture
def redhat(host):
    """Yield a host with grubby and boot entries. Restore the host after the test."""
    host.sh("cp -a /etc/default/grub /run/grub-before")
    for path, text in [*FILES.items(), ("/usr/sbin/grubby", GRUBBY)]:
        host.sh(f"mkdir -p $(dirname {path}); cat > {path} <<'TEXT'\n{text}TEXT\nchmod 755 {path}")
    yield host
    host.sh("cp -a /run/grub-before /etc/default/grub; rm -rf /boot/loader /usr/sbin/grubby /etc/kernel/cmdline")


def test_flags_there_and_back(redhat):
    host = redhat
    play = host.folder / "iommu.yml"
    play.write_text(PLAY, encoding="utf-8")
    before = read(host)
    done = host.playbook(str(play), {})
    assert done.rc == 0, done.out[-3000:]
    found = read(host)
    # The kernel already runs with the first two flags. The role records only flags that were missing in the files, and later removes only these flags.
    assert all(text.count("intel_iommu=on iommu=pt made.by=us") == 1 for text in found.values()), found
    assert host.sh("sh -c '. /etc/default/grub; echo $GRUB_CMDLINE_LINUX'") == "quiet crashkernel=1G intel_iommu=on iommu=pt made.by=us"
    assert host.sh("grep -c made.by=us /var/lib/vgpuctl/kernel-cmdline.json") != "0"
    again = host.playbook(str(play), {})
    assert again.rc == 0 and again.changed == [], again.changed
    gone = host.playbook(str(play), {"iommu_state": "absent"})
    assert gone.rc == 0, gone.out[-3000:]
    assert read(host) == before
    again = host.playbook(str(play), {"iommu_state": "absent"})
    assert again.rc == 0 and again.changed == [], again.changed
