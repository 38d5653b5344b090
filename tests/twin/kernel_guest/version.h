/* SPDX-License-Identifier: GPL-2.0 */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/* Written anew by build_bundle.py for other versions. */
#define NV_VERSION "550.163.01"
