# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
"""The nvidia-smi of the fake host: MIG, mixed sizes, and supported types, in the output formats of the real program."""

from __future__ import annotations

import re

from ansible_collections.vgpu.kvm.plugins.module_utils.engine.hardware import address
from ansible_collections.vgpu.kvm.plugins.module_utils.engine.system.command import Result

from .kernel import GpuInstance


def starts(model, profile):
    """Return the memory slices at which an instance of this profile can start, as nvidia-smi mig -lgipp prints them for real GPUs."""
    compute = max(one.slices for one in model.profiles)
    memory = max(one.memory for one in model.profiles)
    return [start for start in range(0, memory - profile.memory + 1, profile.memory) if start + profile.slices <= compute]


def free_placement(pf, profile, start=None):
    """Return the first free placement for a GPU instance, or None if none is free."""
    taken = set()
    for one in pf.instances:
        taken |= one.slots
    for here in starts(pf.model, profile) if start is None else [start]:
        if here in starts(pf.model, profile) and not taken & set(range(here, here + profile.memory)):
            return here
    return None


class Program:
    """One call of nvidia-smi."""

    def __init__(self, host):
        self.host = host
        self.kernel = host.kernel

    def run(self, argv, timeout):
        """Run the fake nvidia-smi."""
        if "nvidia" not in self.kernel.loaded:
            return Result(9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
        options = {}
        for number, word in enumerate(argv):
            if word.startswith("-"):
                options[word.split("=")[0]] = argv[number + 1] if number + 1 < len(argv) and not argv[number + 1].startswith("-") else ""
        gpus = [pf for pf in self.kernel.pfs() if pf.driver == "nvidia"]
        chosen = gpus
        if "-i" in options:
            chosen = [pf for pf in gpus if pf.address in [address.parse(word) for word in options["-i"].split(",")]]
            if not chosen:
                return Result(6, "No devices were found\n")
        lost = [pf for pf in chosen if pf.off_bus]
        if lost and self.kernel.faults.off_bus_silences:
            return Result(15, "Unable to determine the device handle for GPU0: %s: GPU is lost.  Reboot the system\n" % lost[0].address)
        if argv[0] == "mig":
            return self._mig(options, gpus, chosen)
        if argv[0] == "vgpu":
            return self._vgpu(options, chosen)
        if "--query-gpu" in options:
            return Result(0, "".join(self._modes(pf) for pf in chosen))
        if "-mig" in options:
            return self._set_mode(chosen[0], options["-mig"] == "1")
        if "--gpu-reset" in options:
            return self._reset(chosen[0])
        return self._lost(chosen) or Result(0, "".join(self._details(pf) for pf in chosen))

    def _counted(self, what):
        """Count a change to the host. Return None, or the program's result if this change must fail."""
        try:
            self.host._count("nvidia-smi", what)
        except OSError:
            return Result(255, "Unable to do it: Unknown Error\n")
        return None

    def _clients(self, pf):
        return bool(self.kernel.having("/dev/nvidia%d" % pf.number))

    @staticmethod
    def _long(pf):
        domain, rest = pf.address.upper().split(":", 1)
        return "%08X:%s" % (int(domain, 16), rest)

    @staticmethod
    def _lost(chosen):
        """Return the program's result if a selected GPU does not respond, otherwise None."""
        text = "Unable to determine the device handle for GPU0: %s: GPU is lost.  Reboot the system to recover this GPU\n"
        return next((Result(15, text % pf.address) for pf in chosen if pf.off_bus), None)

    def _modes(self, pf):
        def word(enabled):
            return ("Enabled" if enabled else "Disabled") if pf.model.profiles else "[N/A]"

        if pf.off_bus:
            return "Unable to determine the device handle for GPU: %s: Unknown Error\n" % self._long(pf)
        number = [one for one in self.kernel.pfs() if one.driver == "nvidia"].index(pf)
        return "%d, %s, %s, %s\n" % (number, self._long(pf), word(pf.mig), word(pf.mig_pending))

    def _set_mode(self, pf, enabled):
        failed = self._counted("mig %s" % enabled)
        if failed:
            return failed
        word, gerund = ("Enabled", "enable") if enabled else ("Disabled", "disable")
        if not pf.model.profiles:
            return Result(3, "Unable to %s MIG Mode for GPU %s: Not Supported\n" % (gerund, self._long(pf)))
        busy = "MIG mode is in pending %s state for GPU %s:In use by another client\n" % (gerund, self._long(pf))
        if pf.vfs:
            return Result(19, "Unable to %s MIG Mode for GPU %s: In use by another client\n" % (gerund, self._long(pf)))
        if self._clients(pf) and not pf.model.mig_needs_reset:
            return Result(19, "Unable to %s MIG Mode for GPU %s: In use by another client\n" % (gerund, self._long(pf)))
        pf.mig_pending = enabled
        if pf.model.mig_needs_reset and (self._clients(pf) or self.kernel.faults.mig_reset_fails):
            return Result(0, "Warning: " + busy + "All done.\n")
        pf.mig, pf.instances = enabled, []
        return Result(0, "%s MIG Mode for GPU %s\nAll done.\n" % (word, self._long(pf)))

    def _reset(self, pf):
        failed = self._counted("reset")
        if failed:
            return failed
        if self._clients(pf):
            self.kernel.harm.append("%s was reset while it was in use" % pf.address)
        if self.kernel.faults.mig_reset_fails or pf.vfs:
            return Result(3, "Resetting GPU %s is not supported.\n" % self._long(pf))
        pf.mig, pf.instances = pf.mig_pending, []
        return Result(0, "GPU %s was successfully reset.\nAll done.\n" % self._long(pf))

    def _details(self, pf):
        load = self.host.load.get(pf.address, {})
        total = max(one.gib * 1024 for one in pf.model.types) if pf.model.types else 0
        held = sum(one.type.gib * 1024 for one in list(self.kernel.mdevs.values()) if one.parent.gpu is pf and self.kernel.used(one))
        reasons = "".join("        %-34s: %s\n" % (name, load.get(name, "Not Active")) for name in ("SW Power Cap", "HW Slowdown", "SW Thermal Slowdown"))
        errors = "".join("            %-30s: %d\n" % (name, load.get(name, 0)) for name in ("SRAM Correctable", "DRAM Correctable", "DRAM Uncorrectable"))
        return self._virtualization(pf) + (
            "    Clocks Event Reasons\n%s    FB Memory Usage\n        Total                             : %d MiB\n"
            "        Reserved                          : 480 MiB\n        Used                              : %d MiB\n"
            "        Free                              : %d MiB\n    Utilization\n%s    ECC Mode\n        Current                           : Enabled\n"
            "        Pending                           : Enabled\n    ECC Errors\n        Volatile\n%s        Aggregate\n            SRAM Correctable    : 7\n"
            "    Temperature\n        GPU Current Temp                  : %d C\n    GPU Power Readings\n        Average Power Draw                : %.2f W\n"
        ) % (reasons, total, held, max(total - held - 480, 0), self._engines(load, ("GPU", "Memory", "Encoder", "Decoder", "JPEG", "OFA"), 8), errors,
             load.get("celsius", 31), load.get("watts", 22))

    @staticmethod
    def _engines(load, names, depth):
        return "".join("%s%s: %s\n" % (" " * depth, name.ljust(42 - depth), "%d %%" % load.get(name.lower(), 0)) for name in names)

    def _virtualization(self, pf):
        sizes = "Supported" if pf.model.mixed else "Not Supported"
        mode = ("Enabled" if pf.mixed else "Disabled") if pf.model.mixed else "N/A"
        lives = "SR-IOV" if pf.model.vfs and pf.model.vf_device else "Non SR-IOV"
        host_mode = pf.host_mode or (lives if pf.model.types else "N/A")
        return (
            "GPU %s\n    vGPU Device Capability\n        Fractional Multi-vGPU             : Supported\n"
            "        Heterogeneous Time-Slice Profiles : Supported\n        Heterogeneous Time-Slice Sizes    : %s\n"
            "    GPU Virtualization Mode\n        Virtualization Mode               : Host VGPU\n"
            "        Host VGPU Mode                    : %s\n        vGPU Heterogeneous Mode           : %s\n"
            % (self._long(pf), sizes, host_mode, mode)
        )

    # --- subcommand vgpu

    def _vgpu(self, options, chosen):
        if "-shm" in options:
            return self._set_mixed(chosen[0], options["-shm"] == "1")
        if "-q" in options:
            return self._lost(chosen) or Result(0, "".join(self._running(pf) for pf in chosen))
        if self.kernel.faults.no_smi_types:
            return Result(0, "No supported devices in vGPU mode\n")
        text = ""
        for pf in chosen:
            text += "GPU %s\n" % self._long(pf)
            for one in pf.model.types:
                rows = (
                    ("Name", one.name),
                    ("Class", "Compute" if one.short.endswith("C") else "Quadro"),
                    ("GPU Instance Profile ID", one.profile.id if one.profile else "N/A"),
                    ("Max Instances", one.most),
                    ("Max Instances Per VM", 1),
                    ("Max Instances Per GI", one.per_gi if one.profile else "N/A"),
                    ("FB Memory", "%d MiB" % (one.gib * 1024)),
                )
                text += "    vGPU Type ID                          : %s\n" % hex(int(one.id))
                text += "".join("        %-34s: %s\n" % row for row in rows)
        return Result(0, text)

    def _vm_name(self, mdev):
        """Return the name of the VM that uses a vGPU. Return web1 if /proc does not show the VM."""
        users = self.kernel.users(mdev.group) + self.kernel.having(self.kernel.cdev_of(mdev))
        names = [word[len("guest="):].split(",")[0] for one in users for word in one.argv if word.startswith("guest=")]
        return names[0] if names else "web1"

    def _running(self, pf):
        running = [one for one in list(self.kernel.mdevs.values()) if one.parent.gpu is pf and self.kernel.used(one)]
        text = "GPU %s\n    Active vGPUs                          : %d\n" % (self._long(pf), len(running))
        for one in running:
            rows = (
                ("VM Name", self._vm_name(one)),
                ("vGPU Name", one.type.name),
                ("vGPU Type", one.type.id),
                ("MDEV UUID", "N/A" if one.parent.vendor else one.uuid),
                ("GPU Instance ID", one.gi.id if one.gi else "N/A"),
            )
            load = self.host.load.get(one.parent.address if one.parent.vendor else one.uuid, {})
            rows = (
                ("VM UUID", load.get("vm_uuid", "N/A")), *rows, ("Guest Driver Version", load.get("driver", "N/A")),
                ("License Status", load.get("license", "N/A (Expiry: N/A)")), ("Frame Rate Limit", load.get("frames", "N/A")),
            )
            text += "    vGPU ID                               : %d\n" % (3251634213 + list(self.kernel.mdevs).index(one.uuid))
            text += "".join("        %-34s: %s\n" % row for row in rows)
            text += "        FB Memory Usage\n            Total                         : %d MiB\n" % (one.type.gib * 1024)
            text += "            Used                          : %d MiB\n" % load.get("used", 0)
            text += "        Utilization\n" + self._engines(load, ("Gpu", "Memory", "Encoder", "Decoder"), 12)
        return text

    def _set_mixed(self, pf, enabled):
        failed = self._counted("shm %s" % enabled)
        if failed:
            return failed
        if any(one.parent.gpu is pf for one in list(self.kernel.mdevs.values())):
            return Result(19, "Failed to set vGPU heterogeneous mode for GPU %s: In use by another client\n" % self._long(pf))
        if not pf.model.mixed:
            return Result(3, "Failed to set vGPU heterogeneous mode for GPU %s: Not Supported\n" % self._long(pf))
        pf.mixed = enabled
        return Result(0, "vGPU heterogeneous mode set for GPU %s\n" % self._long(pf))

    # --- subcommand mig

    def _mig(self, options, gpus, chosen):
        number = {pf: index for index, pf in enumerate(gpus)}
        if "-lgip" in options:
            rows = "".join(self._profile(number[pf], pf, one) for pf in chosen for one in pf.model.profiles)
            return Result(0, rows) if rows else Result(6, "No MIG-supported devices found.\n")
        if "-lgipp" in options:
            rows = ""
            for pf in chosen:
                for one in pf.model.profiles:
                    placements = starts(pf.model, one)
                    words = "Placements:" if len(placements) > 1 else "Placement :"
                    rows += "GPU %2d Profile ID %2d %s {%s}:%d\n" % (number[pf], one.id, words, ",".join(map(str, placements)), one.memory)
            return Result(0, rows)
        chosen = [pf for pf in chosen if pf.mig]
        if not chosen:
            return Result(6, "No MIG-enabled devices found.\n")
        if "-lgi" in options or "-lci" in options:
            return self._list(chosen, number, "-lci" in options)
        if "-cgi" in options:
            return self._create(chosen[0], number[chosen[0]], options["-cgi"])
        found = [one for one in chosen[0].instances if one.id == int(options["-gi"])]
        if not found:
            return Result(6, "Unable to find GPU instance ID %s on GPU %2d: Not Found\n" % (options["-gi"], number[chosen[0]]))
        return self._change(chosen[0], found[0], options)

    @staticmethod
    def _profile(number, pf, one):
        free = one.total
        return "|%4d  %-18s %3d %6d/%-6d %8.2f       No     16     1     0   |\n| %62s |\n" % (
            number, "MIG " + one.name, one.id, free, one.total, one.gib, "1     1     0  ",
        )

    @staticmethod
    def _list(chosen, number, compute):
        rows = ""
        for pf in chosen:
            for one in pf.instances:
                name = one.profile.name
                for ci in one.compute if compute else ():
                    rows += "|%4d %6d       MIG %-14s %5d %9d          0:%d     |\n" % (number[pf], one.id, name, 0, ci, one.profile.slices)
                if not compute:
                    rows += "|%4d  MIG %-18s %3d %8d %10d:%d     |\n" % (number[pf], name, one.profile.id, one.id, one.start, one.profile.memory)
                rows += "+-------------------------------------------------------+\n" if rows else ""
        if not rows:
            return Result(6, "No %s instances found: Not Found\n" % ("compute" if compute else "GPU"))
        return Result(0, rows)

    def _create(self, pf, number, words):
        failed = self._counted("cgi %s" % words)
        if failed:
            return failed
        out = ""
        for count, word in enumerate(words.split(",")):
            match = re.match(r"^(\d+)(?::(\d+))?$", word)
            profile = next(one for one in pf.model.profiles if one.id == int(match.group(1)))
            start = free_placement(pf, profile, int(match.group(2)) if match.group(2) else None)
            if sum(one.profile is profile for one in pf.instances) >= profile.total:
                start = None
            if self.kernel.faults.mig_create_fails and count:
                self.kernel.faults.mig_create_fails -= 1
                start = None
            if start is None:
                return Result(19, out + "Unable to create a GPU instance on GPU %2d using profile %d: Insufficient Resources\n" % (number, profile.id))
            used = {one.id for one in pf.instances}
            one = GpuInstance(next(free for free in range(1, 30) if free not in used), profile, start)
            pf.instances.append(one)
            out += "Successfully created GPU instance ID %2d on GPU %2d using profile MIG %s (ID %2d)\n" % (one.id, number, profile.name, profile.id)
            out += "Successfully created compute instance ID  0 on GPU %2d GPU instance ID %2d using profile MIG %s\n" % (number, one.id, profile.name)
        return Result(0, out)

    def _change(self, pf, instance, options):
        what = next(word for word in ("-cci", "-dci", "-dgi") if word in options)
        failed = self._counted("%s %d" % (what, instance.id))
        if failed:
            return failed
        holders = [one for one in list(self.kernel.mdevs.values()) if one.gi is instance]
        if what != "-cci" and holders:
            if any(self.kernel.used(one) for one in holders):
                self.kernel.harm.append("the GPU instance of %s, which is in use, was to be destroyed" % holders[0].uuid)
            return Result(19, "Unable to destroy: In use by another client\n")
        if what == "-cci":
            instance.compute = [0]
        elif what == "-dci":
            instance.compute = []
        elif instance.compute:
            return Result(19, "Unable to destroy GPU instance ID %2d: In use by another client\n" % instance.id)
        else:
            pf.instances.remove(instance)
        return Result(0, "Successfully changed GPU instance ID %2d\n" % instance.id)
