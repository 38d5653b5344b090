# SPDX-FileCopyrightText: The vgpu.kvm authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of GPUs that NVIDIA sells for vGPU, as text that hardware/catalog.py parses on demand.

The table is only a hint, and values that the driver reports take precedence. To add a GPU, add a row to BOARDS. tests/tools/gpu_tables.py updates
PROFILES, LIMITS, and the BOARDS columns whose values NVIDIA publishes.
"""

from __future__ import annotations

# The columns in BOARDS:
# PCI device ID, with a subsystem device ID if needed | model | product name | architecture | size of the framebuffer that vGPUs share, in GiB |
# VF if vGPUs are created on VFs | first word in the names of the GPU's vGPU types, if known | key of the PROFILES row (slices x GiB) for MIG.
# Among rows with the same device ID, rows with a subsystem device ID come first.
BOARDS = """\
13bd | M10 | Tesla M10 | Maxwell | 8 |  | M10 |
13f2 | M60 | Tesla M60 | Maxwell | 8 |  | M60 |
13f3 | M6 | Tesla M6 | Maxwell | 8 |  | M6 |
1bb3 | P4 | Tesla P4 | Pascal | 8 |  | P4 |
1bb4 | P6 | Tesla P6 | Pascal | 16 |  | P6 |
1b38 | P40 | Tesla P40 | Pascal | 24 |  | P40 |
15f7 | P100 | Tesla P100-PCIE-12GB | Pascal | 12 |  | P100C |
15f8 | P100 | Tesla P100-PCIE-16GB | Pascal | 16 |  | P100 |
15f9 | P100 | Tesla P100-SXM2-16GB | Pascal | 16 |  | P100X |
1db1 | V100 | Tesla V100-SXM2-16GB | Volta | 16 |  | V100X |
1db3 | V100 | Tesla V100-FHHL-16GB | Volta | 16 |  | V100L |
1db4 | V100 | Tesla V100-PCIE-16GB | Volta | 16 |  | V100 |
1db5 | V100 | Tesla V100-SXM2-32GB | Volta | 32 |  | V100DX |
1db6 | V100 | Tesla V100-PCIE-32GB | Volta | 32 |  | V100D |
1df6 | V100S | Tesla V100S-PCIE-32GB | Volta | 32 |  | V100S |
1e30:12ba | RTX 6000 | Quadro RTX 6000 | Turing | 24 |  | RTX6000 |
1e30:129e | RTX 8000 | Quadro RTX 8000 | Turing | 48 |  | RTX8000 |
1e30 | RTX 6000 | Quadro RTX 6000 | Turing | 24 |  | RTX6000 |
1e36 | RTX 6000 | Quadro RTX 6000 | Turing | 24 |  | RTX6000 |
1e78:13d8 | RTX 8000 | Quadro RTX 8000 | Turing | 48 |  | RTX8000P |
1e78:13d9 | RTX 6000 | Quadro RTX 6000 | Turing | 24 |  | RTX6000P |
1e78 | RTX 8000 | Quadro RTX 8000 | Turing | 48 |  | RTX8000P |
1e37 | T10 | GRID RTX T10 | Turing | 16 |  | T10 |
1eb8 | T4 | Tesla T4 | Turing | 16 |  | T4 |
20b0 | A100 | NVIDIA A100-SXM4-40GB | Ampere | 40 | VF | A100X | 7x40
20b1 | A100 | NVIDIA A100-PCIE-40GB | Ampere | 40 | VF | A100 | 7x40
20b2 | A100 | NVIDIA A100-SXM4-80GB | Ampere | 80 | VF | A100DX | 7x80
20b5 | A100 | NVIDIA A100 80GB PCIe | Ampere | 80 | VF | A100D | 7x80
20b7 | A30 | NVIDIA A30 | Ampere | 24 | VF | A30 | 4x24
20b8 | A100X | NVIDIA A100X | Ampere | 80 | VF |  | 7x80
20b9 | A30X | NVIDIA A30X | Ampere | 24 | VF |  | 4x24
20bd | A800 | NVIDIA A800-SXM4-40GB | Ampere | 40 | VF |  | 7x40
20f1 | A100 | NVIDIA A100-PCIE-40GB | Ampere | 40 | VF | A100 | 7x40
20f3 | A800 | NVIDIA A800-SXM4-80GB | Ampere | 80 | VF | A800DX | 7x80
20f5:179a | A800 | NVIDIA A800 80GB PCIe LC | Ampere | 80 | VF | A800D | 7x80
20f5 | A800 | NVIDIA A800 80GB PCIe | Ampere | 80 | VF | A800D | 7x80
20f6 | A800 | NVIDIA A800 40GB Active | Ampere | 40 | VF | A800 | 7x40
20fd | AX800 | NVIDIA AX800 | Ampere | 80 | VF |  | 7x80
2230 | RTX A6000 | NVIDIA RTX A6000 | Ampere | 48 | VF | RTXA6000 |
2231 | RTX A5000 | NVIDIA RTX A5000 | Ampere | 24 | VF | RTXA5000 |
2233 | RTX A5500 | NVIDIA RTX A5500 | Ampere | 24 | VF | RTXA5500 |
2235 | A40 | NVIDIA A40 | Ampere | 48 | VF | A40 |
2236 | A10 | NVIDIA A10 | Ampere | 24 | VF | A10 |
2237 | A10G | NVIDIA A10G | Ampere | 24 | VF | A10G |
2238 | A10M | NVIDIA A10M | Ampere | 20 | VF | A10M |
25b6:157e | A2 | NVIDIA A2 | Ampere | 16 | VF | A2 |
25b6:14a9 | A16 | NVIDIA A16 | Ampere | 16 | VF | A16 |
25b6 | A16 | NVIDIA A16 | Ampere | 16 | VF | A16 |
26b1 | RTX 6000 Ada | NVIDIA RTX 6000 Ada Generation | Ada | 48 | VF | RTX6000-Ada |
26b2 | RTX 5000 Ada | NVIDIA RTX 5000 Ada Generation | Ada | 32 | VF | RTX5000-Ada |
26b3 | RTX 5880 Ada | NVIDIA RTX 5880 Ada Generation | Ada | 48 | VF | RTX5880-Ada |
26b5 | L40 | NVIDIA L40 | Ada | 48 | VF | L40 |
26b8 | L40G | NVIDIA L40G | Ada | 24 | VF | L40G |
26b9 | L40S | NVIDIA L40S | Ada | 48 | VF | L40S |
26ba | L20 | NVIDIA L20 | Ada | 48 | VF | L20 |
27b6 | L2 | NVIDIA L2 | Ada | 24 | VF | L2 |
27b8 | L4 | NVIDIA L4 | Ada | 24 | VF | L4 |
230e | H20 | NVIDIA H20 NVL16 | Hopper | 96 | VF |  | 7x96
2321 | H100 | NVIDIA H100 NVL | Hopper | 94 | VF | H100L | 7x94
2322 | H800 | NVIDIA H800 PCIe | Hopper | 80 | VF | H800 | 7x80
2324 | H800 | NVIDIA H800 | Hopper | 80 | VF | H800XM | 7x80
2329 | H20 | NVIDIA H20 | Hopper | 96 | VF | H20 | 7x96
232c | H20 | NVIDIA H20-3e | Hopper | 141 | VF | H20X | 7x141
2330 | H100 | NVIDIA H100 80GB HBM3 | Hopper | 80 | VF | H100XM | 7x80
2331 | H100 | NVIDIA H100 PCIe | Hopper | 80 | VF | H100 | 7x80
2335 | H200 | NVIDIA H200 | Hopper | 141 | VF | H200X | 7x141
2336 | H100 | NVIDIA H100 | Hopper | 80 | VF |  | 7x80
2337 | H100 | NVIDIA H100 SXM5 64GB | Hopper | 64 | VF | H100XS | 7x64
2339 | H100 | NVIDIA H100 | Hopper | 94 | VF | H100XL | 7x94
233a | H800 | NVIDIA H800 NVL | Hopper | 94 | VF | H800L | 7x94
233b | H200 | NVIDIA H200 NVL | Hopper | 141 | VF | H200 | 7x141
2342:1809 | GH200 | NVIDIA GH200 480GB | Hopper | 96 | VF | GH200 | 7x96
2342 | GH200 | NVIDIA GH200 120GB | Hopper | 96 | VF | GH200 | 7x96
2348 | GH200 | NVIDIA GH200 144G HBM3e | Hopper | 144 | VF | GH200L | 7x144
2901 | B200 | NVIDIA B200 | Blackwell | 180 | VF | B200X | 7x180
2941 | GB200 | NVIDIA GB200 | Blackwell | 189 | VF | GB200 | 7x189
2bb5 | RTX PRO 6000 Blackwell SE | NVIDIA RTX PRO 6000 Blackwell Server Edition | Blackwell | 96 | VF | DC | 4x96
2bb9 | RTX 6000D | NVIDIA RTX 6000D | Blackwell | 84 | VF | 6000D | 2x84
2c3a | RTX PRO 4500 Blackwell SE | NVIDIA RTX PRO 4500 Blackwell Server Edition | Blackwell | 32 | VF |  |
3182 | B300 | NVIDIA B300 SXM6 AC | Blackwell | 269 | VF | B300X | 7x269
31c2 | GB300 | NVIDIA GB300 | Blackwell | 269 | VF |  | 7x269
"""

# The GPU instance profiles for vGPUs. The number after * is the maximum number of GPU instances per GPU. For profiles with +me, vGPU type names
# end with ME. For profiles with +gfx, vGPU type names have the suffix GFX or no suffix.
PROFILES = """\
2x84: 1g.42gb+gfx*2 2g.84gb+gfx*1
4x24: 1g.6gb*4 1g.6gb+me*1 2g.12gb*2 2g.12gb+me*1 4g.24gb*1
4x96: 1g.24gb+gfx*4 2g.48gb+gfx*2 4g.96gb+gfx*1
7x40: 1g.5gb*7 1g.5gb+me*1 1g.10gb*4 2g.10gb*3 3g.20gb*2 4g.20gb*1 7g.40gb*1
7x64: 1g.8gb*7 1g.8gb+me*1 1g.16gb*4 2g.16gb*3 3g.32gb*2 4g.32gb*1 7g.64gb*1
7x80: 1g.10gb*7 1g.10gb+me*1 1g.20gb*4 2g.20gb*3 3g.40gb*2 4g.40gb*1 7g.80gb*1
7x94: 1g.12gb*7 1g.12gb+me*1 1g.24gb*4 2g.24gb*3 3g.47gb*2 4g.47gb*1 7g.94gb*1
7x96: 1g.12gb*7 1g.12gb+me*1 1g.24gb*4 2g.24gb*3 3g.48gb*2 4g.48gb*1 7g.96gb*1
7x141: 1g.18gb*7 1g.18gb+me*1 1g.35gb*4 2g.35gb*3 3g.71gb*2 4g.71gb*1 7g.141gb*1
7x144: 1g.18gb*7 1g.18gb+me*1 1g.36gb*4 2g.36gb*3 3g.72gb*2 4g.72gb*1 7g.144gb*1
7x180: 1g.23gb*7 1g.23gb+me*1 1g.45gb*4 2g.45gb*3 3g.90gb*2 4g.90gb*1 7g.180gb*1
7x189: 1g.24gb*7 1g.24gb+me*1 1g.47gb*4 2g.47gb*3 3g.95gb*2 4g.95gb*1 7g.189gb*1
7x269: 1g.34gb*7 1g.34gb+me*1 1g.67gb*4 2g.67gb*3 3g.135gb*2 4g.135gb*1 7g.269gb*1
"""

# The time-sliced types whose maximum number of vGPUs per GPU is lower than the number that fits into the framebuffer. The maximum follows the
# asterisk.
LIMITS = """\
H20X-8C*16
H200X-8C*16
H200-8C*16
RTX8000P-4C*8
"""
