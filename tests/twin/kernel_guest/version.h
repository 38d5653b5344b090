/* SPDX-License-Identifier: GPL-2.0 */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/* build_bundle.py replaces this file for other versions. */
#define NV_VERSION "550.163.01"
