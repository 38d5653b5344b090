# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""An NVSwitch board on a fake host: its switches, module IDs, and Fabric Manager with its package, configuration, service, and library."""

from __future__ import annotations

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system import fabric_manager, libnvfm
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

from . import nvidia_smi
from .tree import Dir, File

# Partitions of an HGX H100, H200, or H20 board, as listed in NVIDIA's guide.
PARTITIONS = [(1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4), (5, 6, 7, 8), (1, 3), (2, 4), (5, 7), (6, 8), *((number,) for number in range(1, 9))]
SWITCHES = ("0000:05:00.0", "0000:06:00.0", "0000:07:00.0", "0000:08:00.0")
# The comments and the spaces are those of the file that NVIDIA ships.
CONFIG = """# NVIDIA Fabric Manager configuration file.
#\tDescription: Fabric Manager Operating Mode
#\tPossible Values:
#       2  - Start Fabric Manager in vGPU based multitenancy mode.
FABRIC_MODE=%s

#\tDescription: Restart Fabric Manager after exit – 0 or 1.
FABRIC_MODE_RESTART=%d
FM_CMD_BIND_INTERFACE=127.0.0.1 \nFM_CMD_PORT_NUMBER=6666
FM_CMD_UNIX_SOCKET_PATH=
"""


class Board:
    """An NVSwitch board.

    modules: module IDs by PCI address. By default, Fabric Manager is installed and runs in vGPU mode.
    """

    def __init__(self, host, modules, monkeypatch, mode="2", installed=True):
        self.host, self.modules = host, modules
        self.boot = "boot-1"
        self.version = host.on_disk if installed else None
        self.enabled = installed
        self.started = None  # start time of the service on the host's clock, or None while the service is stopped
        self.delay = 0  # seconds until the service has configured the fabric
        self.running_mode = None
        self.waits = False  # whether the service was started in restart mode and waits for the list of active partitions
        self.active = {}  # VFs of each active partition
        self.lost = False  # whether activations report success but activate nothing
        self.asked = []
        top = host.kernel.top.entries
        switch = {"vendor": File(lambda: "0x10de\n"), "class": File(lambda: "0x068000\n")}
        top["sys"].entries["bus"].entries["pci"].entries["devices"].entries.update({one: Dir(dict(switch)) for one in SWITCHES})
        top["proc"].entries["driver"].entries["nvidia-nvswitch"] = Dir({"devices": Dir({one: Dir() for one in SWITCHES})})
        top["proc"].entries["sys"].entries["kernel"].entries["random"] = Dir({"boot_id": File(lambda: self.boot + "\n")})
        host.programs.update({"nvidia-smi": self._smi, "systemctl": self._systemctl, "dpkg-query": self._dpkg})
        monkeypatch.setattr(libnvfm, "ask", self.ask)
        if installed:
            self.install(mode)
            self.start()

    def install(self, mode="0", restart=0):
        """Install Fabric Manager's packages."""
        self.version = self.host.on_disk
        self.host.put(fabric_manager.CONFIG, CONFIG % (mode, restart))
        self.host.put("/usr/lib/x86_64-linux-gnu/libnvfm.so.1", "")

    def start(self):
        """Start the service with the current settings in its file."""
        settings = fabric_manager.settings(self.host.root) or {}
        self.running_mode, self.waits = settings.get("FABRIC_MODE"), settings.get("FABRIC_MODE_RESTART") == "1"
        self.started = self.host.clock.now()
        self.active = {number: vfs for number, vfs in self.active.items() if self.waits}

    def stop(self):
        """Stop the Fabric Manager service."""
        self.started = None

    def reboot(self):
        """Reboot the host. The service starts again if it is enabled."""
        self.boot += "1"
        self.active = {}
        self.host.reboot()
        self.stop()
        if self.enabled:
            self.start()

    # --- fake programs

    def _smi(self, argv, timeout):
        answer = nvidia_smi.Program(self.host).run(argv, timeout)
        if argv[:1] == ["-q"]:
            lines = []
            for line in answer.out.splitlines():
                lines.append(line)
                words = line.split()
                if line.startswith("GPU ") and len(words) == 2:
                    module = self.modules.get(words[1].lower()[4:], "N/A")
                    lines += ["    Platform Info", "        Module Id                         : %s" % module]
                    lines += ["    Fabric", "        State                             : Completed", "        Status                            : Success"]
            return Result(answer.rc, "\n".join(lines) + "\n")
        return answer

    def _systemctl(self, argv, timeout):
        name = "nvidia-fabricmanager.service"
        if name not in argv:
            return self.host._systemctl(argv, timeout)
        if argv[0] != "show":
            self.host._count("systemctl", " ".join(argv))
            if argv[0] in ("enable", "disable"):
                self.enabled = argv[0] == "enable"
            elif argv[0] == "stop":
                self.stop()
            else:
                self.start()
            return Result(0, "")
        rest = self.host._systemctl([one for one in argv if one != name], timeout).out
        words = ("loaded" if self.version else "not-found", "inactive" if self.started is None else "active", "enabled" if self.enabled else "disabled")
        return Result(0, "Id=%s\nLoadState=%s\nActiveState=%s\nResult=success\nUnitFileState=%s\n\n%s" % (name, *words, rest))

    def _dpkg(self, argv, timeout):
        answer = self.host._dpkg_query(argv, timeout)
        ours = "ii  nvidia-fabricmanager-550 %s-1\nii  nvidia-fabricmanager-dev-550 %s-1\n" % (self.version, self.version)
        return Result(answer.rc, (ours if self.version and argv[0] != "--search" else "") + answer.out)

    # --- fake library libnvfm

    def ask(self, path, address, requests, timeout):
        """Replace libnvfm.ask: answer requests to the library."""
        self.asked.append(address)
        if self.started is None:
            return libnvfm.Answer(status=libnvfm.NO_CONNECTION, call="fmConnect")
        answer = libnvfm.Answer()
        for request in requests:
            status = self._do(answer, *request)
            if status:
                answer.status, answer.call = status, "fmDeactivateFabricPartition" if request[0] == "deactivate" else "fm" + request[0]
                break
        return answer

    def _do(self, answer, kind, number=None, vfs=()):
        if self.host.clock.now() < self.started + self.delay or (self.waits and kind != "set"):
            return libnvfm.NOT_CONFIGURED
        if self.running_mode != "2":
            return libnvfm.NOT_SUPPORTED
        if kind == "partitions":
            answer.rows += [[one, one in self.active, [[gpu, ""] for gpu in gpus]] for one, gpus in enumerate(PARTITIONS)]
        elif kind == "set":
            self.waits, self.active = False, {one: self.active.get(one, []) for one in number}
        elif kind == "deactivate":
            return self._deactivate(number)
        elif kind == "activate":
            return self._activate(number, vfs)
        return 0

    def _activate(self, number, vfs):
        self.host._count("libnvfm", "activate %d" % number)
        named = ["%04x:%02x:%02x.%x" % tuple(one) for one in vfs]
        if len(named) != len(PARTITIONS[number]):
            return libnvfm.BAD_PARAMETER
        if any(set(PARTITIONS[one]) & set(PARTITIONS[number]) for one in self.active):
            return libnvfm.IN_USE
        if not self.lost:
            self.active[number] = named
        return 0

    def _deactivate(self, number):
        self.host._count("libnvfm", "deactivate %d" % number)
        if number not in self.active:
            return libnvfm.UNINITIALIZED
        kernel = self.host.kernel
        for one in list(kernel.mdevs.values()):
            if kernel.used(one) and self.modules[one.parent.gpu.address] in PARTITIONS[number]:
                kernel.harm.append("partition %d was deactivated under %s" % (number, one.parent.address))
        del self.active[number]
        return 0
