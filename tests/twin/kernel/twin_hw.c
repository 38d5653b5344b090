// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * twin_hw - emulated NVIDIA data center GPUs for the unmodified Linux PCI core.
 *
 * The GPUs are behind emulated root ports of emulated root complexes. Each high nibble of the GPUs' bus numbers
 * has one root complex: the buses e5 to e8 are below root bus e0. The module's pci_ops read and write a
 * configuration space in memory. The buses are in the machine's PCI segment, so the driver of the (emulated) IOMMU
 * assigns IOMMU groups. All functions above configuration space are those of the stock kernel: enumeration,
 * SR-IOV, sysfs, driver binding, IOMMU groups, vfio-pci, and pci-pf-stub.
 *
 * Settings are module parameters, or SMBIOS OEM strings "twin_hw.NAME=VALUE" (qemu -smbios type=11,value=...).
 * The strings take precedence, so machines with different hardware share one disk image. "twin_hw.N.NAME=VALUE"
 * sets a value only for GPU N.
 *
 * An NVSwitch board (nvswitches=) has the bridges of its switches on the buses from 71 upward. A vendor-specific
 * capability of each GPU contains the GPU's module ID on the board, which the emulated drivers read. */
#include <linux/dmi.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define MAX_GPUS	16
#define MAX_VFS		64
#define CFG		4096
#define CAP_PM		0x60
#define CAP_EXP		0x78
#define CAP_FABRIC	0xb4		/* exists only here: length, module ID, partition state */
#define FABRIC_STATE	(CAP_FABRIC + 4)
#define ECAP_VSEC	0x100		/* first extended capability */
#define ECAP_SRIOV	0xbcc		/* same offset as on the A40 */
#define ECAP_ARI	0xc14
#define BUSES		16		/* buses of one root complex */
#define SWITCH_BUS	0x71		/* bus of the first NVSwitch */
#define MAX_SWITCHES	8
#define MMIO_BASE	0x8000000000ULL
#define MMIO_32		SZ_64M		/* size per GPU; bus addresses are below 4 GiB */

static int gpus = 8;
module_param(gpus, int, 0444);
MODULE_PARM_DESC(gpus, "number of GPUs, which are on the last buses in bus=");
static uint bus[MAX_GPUS] = { 0x67, 0x68, 0x6a, 0x6b, 0xe5, 0xe6, 0xe7, 0xe8 };
static int nbus = 8;
module_param_array(bus, uint, &nbus, 0444);
MODULE_PARM_DESC(bus, "bus number of each GPU in ascending order; multiples of 16 are invalid");
/* Settings that can differ between GPUs. The module parameters apply to all GPUs. */
struct hw {
	int device, vf_device, subsystem, totalvfs, vf_offset, vf_stride, sriov, vf_bar1_mb;
	int module_id;		/* module ID on an NVSwitch board; 0: on no board */
	int partition;		/* 1: the vGPU of a guest, which requires a fabric partition */
};
static struct hw all = {	/* A40 */
	.device = 0x2235, .vf_device = -1, .subsystem = 0x145a, .totalvfs = 32, .vf_offset = 4, .vf_stride = 1, .sriov = 1, .vf_bar1_mb = 2,
};
module_param_named(device, all.device, int, 0444);
MODULE_PARM_DESC(device, "PCI device ID of the PF");
module_param_named(vf_device, all.vf_device, int, 0444);
MODULE_PARM_DESC(vf_device, "PCI device ID of the VFs (-1: the PF's ID)");
module_param_named(subsystem, all.subsystem, int, 0444);
MODULE_PARM_DESC(subsystem, "PCI subsystem ID");
module_param_named(totalvfs, all.totalvfs, int, 0444);
MODULE_PARM_DESC(totalvfs, "TotalVFs of each GPU");
module_param_named(vf_offset, all.vf_offset, int, 0444);
MODULE_PARM_DESC(vf_offset, "routing ID of the first VF, relative to the PF");
module_param_named(vf_stride, all.vf_stride, int, 0444);
MODULE_PARM_DESC(vf_stride, "distance between the routing IDs of VFs");
module_param_named(sriov, all.sriov, int, 0444);
MODULE_PARM_DESC(sriov, "0: no SR-IOV capability, as if the firmware disabled SR-IOV");
module_param_named(vf_bar1_mb, all.vf_bar1_mb, int, 0444);
MODULE_PARM_DESC(vf_bar1_mb, "size of the VFs' BAR1 in MiB; with 4096, MMIO is insufficient, and writes to sriov_numvfs fail with ENOMEM");
module_param_named(module_id, all.module_id, int, 0444);
MODULE_PARM_DESC(module_id, "module ID on an NVSwitch board; 0: on no board");
module_param_named(partition, all.partition, int, 0444);
MODULE_PARM_DESC(partition, "1: the vGPU of a guest, which requires a fabric partition (see fault_partition)");
static int nvswitches;
module_param(nvswitches, int, 0444);
MODULE_PARM_DESC(nvswitches, "number of NVSwitches");
static int nvswitch_device = 0x22a3;
module_param(nvswitch_device, int, 0444);
MODULE_PARM_DESC(nvswitch_device, "PCI device ID of the NVSwitches");
static int mmio_mb = 4096;
module_param(mmio_mb, int, 0444);
MODULE_PARM_DESC(mmio_mb, "size of the 64-bit MMIO window per GPU in MiB");

/* Faults, which can be set at run time. "GPU n" counts from 0 in address order. */
static int fault_dead;
module_param(fault_dead, int, 0644);
MODULE_PARM_DESC(fault_dead, "bit n: GPU n has fallen off the bus; its configuration space reads as ff");
static int fault_partition;
module_param(fault_partition, int, 0644);
MODULE_PARM_DESC(fault_partition, "bit n, in a guest: the fabric partition of vGPU n is not active, and cuInit returns 802");
static int fault_numvfs;
module_param(fault_numvfs, int, 0644);
MODULE_PARM_DESC(fault_numvfs, "bit n: enabling VFs of GPU n fails with EIO, with any driver");
static int fault_vf_fewer;
module_param(fault_vf_fewer, int, 0644);
MODULE_PARM_DESC(fault_vf_fewer, "number of requested VFs that are not created, with any driver; the write to sriov_numvfs succeeds");

struct fn { u8 cfg[CFG], wm[CFG]; };	/* values and write masks */
struct gpu {
	int idx;
	u8 bus;
	struct hw hw;
	struct fn pf, *vf, port;
};
struct complex {
	struct pci_sysdata sd;		/* must be the first member: x86 code casts bus->sysdata to this type */
	u8 first;			/* number of the root bus */
	struct pci_bus *root;
	struct resource mem32, mem64, busn;
	struct gpu *gpu[BUSES];		/* index: low nibble of the bus number */
};
static struct complex *complexes[256 / BUSES];
static int windows;			/* number of assigned MMIO windows, which are adjacent and below 1 TiB */

static void put(struct fn *f, int off, int len, u32 v, u32 wm)
{
	int i;

	for (i = 0; i < len; i++) {
		f->cfg[off + i] = v >> (8 * i);
		f->wm[off + i] = wm >> (8 * i);
	}
}

static u32 get(struct fn *f, int off, int len)
{
	u32 v = 0;

	memcpy(&v, f->cfg + off, len);
	return v;
}

static void bar32(struct fn *f, int off, u32 size, u32 flags)
{
	put(f, off, 4, flags, ~(size - 1));
}

static void bar64(struct fn *f, int off, u64 size, u32 flags)
{
	u64 m = ~(size - 1);

	put(f, off, 4, flags | PCI_BASE_ADDRESS_MEM_TYPE_64, m);
	put(f, off + 4, 4, 0, m >> 32);
}

static void init_common(struct fn *f, const struct hw *hw)
{
	put(f, PCI_COMMAND, 2, 0, 0x0547);
	put(f, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
	put(f, PCI_CLASS_REVISION, 4, 0x030200a1, 0);
	put(f, PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
	put(f, PCI_SUBSYSTEM_VENDOR_ID, 4, PCI_VENDOR_ID_NVIDIA | hw->subsystem << 16, 0);
	put(f, PCI_CAPABILITY_LIST, 1, CAP_PM, 0);
	put(f, PCI_INTERRUPT_LINE, 1, 0, 0xff);
	put(f, CAP_PM, 4, PCI_CAP_ID_PM | CAP_EXP << 8 | 0x0003 << 16, 0);
	put(f, CAP_PM + 4, 2, PCI_PM_CTRL_NO_SOFT_RESET, PCI_PM_CTRL_STATE_MASK);
	put(f, CAP_EXP, 4, PCI_CAP_ID_EXP | (2 | PCI_EXP_TYPE_ENDPOINT << 4) << 16, 0);
	put(f, CAP_EXP + PCI_EXP_DEVCAP, 4, 0x1 | PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR, 0);
	put(f, CAP_EXP + PCI_EXP_DEVCTL, 2, 0x2810, 0x7fff);		/* writes of BCR_FLR are ignored */
	put(f, CAP_EXP + PCI_EXP_LNKCAP, 4, 0x00000104, 0);		/* 16 GT/s x16 */
	put(f, CAP_EXP + PCI_EXP_LNKCTL, 2, 0, 0x0fff);
	put(f, CAP_EXP + PCI_EXP_LNKSTA, 2, 0x1104, 0);
	put(f, CAP_EXP + PCI_EXP_DEVCTL2, 2, 0, 0xffff);
	put(f, CAP_EXP + PCI_EXP_LNKCTL2, 2, 4, 0xffff);
	put(f, ECAP_VSEC, 4, PCI_EXT_CAP_ID_VNDR | 1 << 16 | ECAP_ARI << 20, 0);
	put(f, ECAP_VSEC + 4, 4, 0x0100001, 0);
	put(f, ECAP_ARI, 4, PCI_EXT_CAP_ID_ARI | 1 << 16, 0);
}

/* The capability with the module ID, which only the emulated drivers read. Machines without NVSwitch do not have it. */
static void init_fabric(struct fn *f, const struct hw *hw)
{
	if (!hw->module_id && !hw->partition)
		return;
	put(f, CAP_EXP + 1, 1, CAP_FABRIC, 0);
	put(f, CAP_FABRIC, 4, PCI_CAP_ID_VNDR | 8 << 16 | hw->module_id << 24, 0);
}

static void init_switch(struct gpu *g)
{
	init_common(&g->pf, &g->hw);
	put(&g->pf, PCI_VENDOR_ID, 4, PCI_VENDOR_ID_NVIDIA | g->hw.device << 16, 0);
	put(&g->pf, PCI_CLASS_REVISION, 4, PCI_CLASS_BRIDGE_OTHER << 16 | 0xa1, 0);
	put(&g->pf, ECAP_VSEC, 4, PCI_EXT_CAP_ID_VNDR | 1 << 16, 0);
	bar64(&g->pf, PCI_BASE_ADDRESS_0, SZ_32M, 0);
}

static void init_gpu(struct gpu *g)
{
	const struct hw *hw = &g->hw;
	struct fn *p = &g->pf;
	int i, s = ECAP_SRIOV;

	init_common(p, hw);
	put(p, PCI_VENDOR_ID, 4, PCI_VENDOR_ID_NVIDIA | hw->device << 16, 0);
	bar32(p, PCI_BASE_ADDRESS_0, SZ_16M, 0);
	bar64(p, PCI_BASE_ADDRESS_1, SZ_256M, PCI_BASE_ADDRESS_MEM_PREFETCH);
	bar64(p, PCI_BASE_ADDRESS_3, SZ_32M, PCI_BASE_ADDRESS_MEM_PREFETCH);
	init_fabric(p, hw);
	if (!hw->sriov)
		return;
	put(p, ECAP_VSEC, 4, PCI_EXT_CAP_ID_VNDR | 1 << 16 | ECAP_SRIOV << 20, 0);
	put(p, s, 4, PCI_EXT_CAP_ID_SRIOV | 1 << 16 | ECAP_ARI << 20, 0);
	put(p, s + PCI_SRIOV_CTRL, 2, 0, 0x001f);
	put(p, s + PCI_SRIOV_INITIAL_VF, 2, hw->totalvfs, 0);
	put(p, s + PCI_SRIOV_TOTAL_VF, 2, hw->totalvfs, 0);
	put(p, s + PCI_SRIOV_NUM_VF, 2, 0, 0xffff);
	put(p, s + PCI_SRIOV_VF_OFFSET, 2, hw->vf_offset, 0);
	put(p, s + PCI_SRIOV_VF_STRIDE, 2, hw->vf_stride, 0);
	put(p, s + PCI_SRIOV_VF_DID, 2, hw->vf_device < 0 ? hw->device : hw->vf_device, 0);
	put(p, s + PCI_SRIOV_SUP_PGSIZE, 4, 0x553, 0);
	put(p, s + PCI_SRIOV_SYS_PGSIZE, 4, 1, ~0);
	bar32(p, s + PCI_SRIOV_BAR, SZ_256K, 0);
	bar64(p, s + PCI_SRIOV_BAR + 4, (u64)hw->vf_bar1_mb << 20, PCI_BASE_ADDRESS_MEM_PREFETCH);
	bar64(p, s + PCI_SRIOV_BAR + 12, SZ_1M, PCI_BASE_ADDRESS_MEM_PREFETCH);
	for (i = 0; i < hw->totalvfs; i++) {
		init_common(&g->vf[i], hw);
		put(&g->vf[i], PCI_VENDOR_ID, 4, ~0, 0);	/* the SR-IOV specification requires ffff:ffff for VFs */
	}
}

static void init_port(struct fn *p, u8 prim, u8 sec)
{
	put(p, PCI_VENDOR_ID, 4, PCI_VENDOR_ID_INTEL | 0x347a << 16, 0);
	put(p, PCI_COMMAND, 2, 0, 0x0547);
	put(p, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
	put(p, PCI_CLASS_REVISION, 4, PCI_CLASS_BRIDGE_PCI << 16, 0);
	put(p, PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
	put(p, PCI_HEADER_TYPE, 1, PCI_HEADER_TYPE_BRIDGE, 0);
	put(p, PCI_PRIMARY_BUS, 4, prim | sec << 8 | sec << 16, 0x00ffffff);
	put(p, PCI_MEMORY_BASE, 4, 0x0000fff0, 0xfff0fff0);
	put(p, PCI_PREF_MEMORY_BASE, 4, 0x0001fff1, 0xfff0fff0);
	put(p, PCI_PREF_BASE_UPPER32, 4, 0, ~0);
	put(p, PCI_PREF_LIMIT_UPPER32, 4, 0, ~0);
	put(p, PCI_CAPABILITY_LIST, 1, CAP_EXP, 0);
	put(p, PCI_BRIDGE_CONTROL, 2, 0, 0x005f);
	put(p, CAP_EXP, 4, PCI_CAP_ID_EXP | (2 | PCI_EXP_TYPE_ROOT_PORT << 4) << 16, 0);
	put(p, CAP_EXP + PCI_EXP_DEVCAP, 4, 0x2 | PCI_EXP_DEVCAP_RBER, 0);
	put(p, CAP_EXP + PCI_EXP_DEVCTL, 2, 0x2810, 0x7fff);
	put(p, CAP_EXP + PCI_EXP_LNKCAP, 4, 0x00000104, 0);
	put(p, CAP_EXP + PCI_EXP_LNKCTL, 2, 0, 0x0fff);
	put(p, CAP_EXP + PCI_EXP_LNKSTA, 2, 0x1104, 0);
	put(p, CAP_EXP + PCI_EXP_DEVCAP2, 4, PCI_EXP_DEVCAP2_ARI, 0);
	put(p, CAP_EXP + PCI_EXP_DEVCTL2, 2, 0, 0xffff);
	put(p, 0x100, 4, PCI_EXT_CAP_ID_ACS | 1 << 16, 0);
	put(p, 0x104, 2, PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF, 0);
	put(p, 0x106, 2, 0, PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF);
}

/* Return the function at bus/devfn. NULL: no function responds (master abort). */
static struct fn *route(struct pci_bus *b, unsigned int devfn)
{
	struct complex *c = b->sysdata;
	struct gpu *g;
	int n;

	if (b->number == c->first) {	/* the root port of bus e5 is e0:05.0 */
		g = PCI_FUNC(devfn) || PCI_SLOT(devfn) >= BUSES ? NULL : c->gpu[PCI_SLOT(devfn)];
		return g ? &g->port : NULL;
	}
	g = c->gpu[b->number - c->first];
	if (!g || fault_dead & BIT(g->idx))
		return NULL;
	if (!devfn)
		return &g->pf;
	if (!g->hw.sriov || !(get(&g->pf, ECAP_SRIOV + PCI_SRIOV_CTRL, 2) & PCI_SRIOV_CTRL_VFE))
		return NULL;
	n = devfn - g->hw.vf_offset;
	if (n < 0 || n % g->hw.vf_stride)
		return NULL;
	n /= g->hw.vf_stride;
	return n < g->hw.totalvfs && n < get(&g->pf, ECAP_SRIOV + PCI_SRIOV_NUM_VF, 2) ? &g->vf[n] : NULL;
}

static int cfg_read(struct pci_bus *b, unsigned int devfn, int where, int size, u32 *val)
{
	struct complex *c = b->sysdata;
	struct fn *f = route(b, devfn);
	struct gpu *g;

	*val = ~0;
	if (!f)
		return PCIBIOS_DEVICE_NOT_FOUND;
	*val = get(f, where, size);
	if (b->number != c->first && !devfn && where <= FABRIC_STATE && where + size > FABRIC_STATE) {
		g = c->gpu[b->number - c->first];
		if (g->hw.partition)	/* 1: the partition is not active; 2: active */
			*val |= (fault_partition & BIT(g->idx) ? 1 : 2) << 8 * (FABRIC_STATE - where);
	}
	if (!fault_numvfs || b->number == c->first || devfn || where != ECAP_SRIOV + PCI_SRIOV_INITIAL_VF)
		return PCIBIOS_SUCCESSFUL;
	/* The kernel does not enable VFs if InitialVFs is greater than TotalVFs. */
	g = c->gpu[b->number - c->first];
	if (g->hw.sriov && fault_numvfs & BIT(g->idx))
		*val = g->hw.totalvfs + 1;
	return PCIBIOS_SUCCESSFUL;
}

static int cfg_write(struct pci_bus *b, unsigned int devfn, int where, int size, u32 val)
{
	struct fn *f = route(b, devfn);
	int i;

	if (!f)
		return PCIBIOS_DEVICE_NOT_FOUND;
	for (i = 0; i < size; i++) {
		u8 m = f->wm[where + i];

		f->cfg[where + i] = (f->cfg[where + i] & ~m) | ((val >> (8 * i)) & m);
	}
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops twin_ops = { .read = cfg_read, .write = cfg_write };

/* Reduce the argument nr of sriov_enable(dev, nr). The caller assumes that all requested VFs were enabled. */
static int __kprobes fewer_vfs(struct kprobe *p, struct pt_regs *regs)
{
	struct pci_dev *pf = (struct pci_dev *)regs->di;

	if (fault_vf_fewer > 0 && pf->bus->ops == &twin_ops)
		regs->si = max_t(int, 1, (int)regs->si - fault_vf_fewer);
	return 0;
}
static struct kprobe fewer = { .symbol_name = "sriov_enable", .pre_handler = fewer_vfs };

static struct complex *complex_of(u8 b)
{
	struct complex *c = complexes[b / BUSES];
	u64 each = (u64)mmio_mb << 20, base;

	if (c)
		return c;
	c = vzalloc(sizeof(*c));
	if (!c)
		return NULL;
	c->first = b / BUSES * BUSES;
	c->sd.node = NUMA_NO_NODE;
	c->busn = (struct resource){ .start = c->first, .end = c->first + BUSES - 1, .flags = IORESOURCE_BUS, .name = "twin bus" };
	base = MMIO_BASE + windows++ * BUSES * each;
	/* 32-bit BARs require bus addresses below 4 GiB: CPU address - offset = bus address */
	c->mem32 = (struct resource){ .start = base, .end = base + (u64)BUSES * MMIO_32 - 1, .flags = IORESOURCE_MEM, .name = "twin MMIO" };
	c->mem64 = (struct resource){ .start = base + (u64)BUSES * MMIO_32, .end = base + BUSES * each - 1,
		.flags = IORESOURCE_MEM | IORESOURCE_MEM_64 | IORESOURCE_PREFETCH, .name = "twin MMIO 64" };
	complexes[b / BUSES] = c;
	return c;
}

static bool hw_valid(const struct hw *hw)
{
	return hw->totalvfs >= 1 && hw->totalvfs <= MAX_VFS && hw->vf_offset >= 1 && hw->vf_stride >= 1 &&
	       hw->vf_offset + hw->vf_stride * (hw->totalvfs - 1) <= 255 && hw->module_id >= 0 && hw->module_id <= 255;
}

static int add_gpu(int idx, u8 b, const struct hw *hw)
{
	struct complex *c = complex_of(b);
	struct gpu *g = vzalloc(sizeof(*g));

	if (!c || !g || !(g->vf = vzalloc(array_size(sizeof(*g->vf), hw->totalvfs)))) {
		vfree(g);
		return -ENOMEM;
	}
	g->idx = idx;
	g->bus = b;
	g->hw = *hw;
	if (idx < MAX_GPUS)
		init_gpu(g);
	else
		init_switch(g);
	init_port(&g->port, c->first, b);
	c->gpu[b - c->first] = g;
	return 0;
}

static int add_complex(struct complex *c)
{
	LIST_HEAD(res);

	if (insert_resource(&iomem_resource, &c->mem32) || insert_resource(&iomem_resource, &c->mem64))
		pr_warn("twin_hw: MMIO window %pR is in use\n", &c->mem32);
	pci_add_resource_offset(&res, &c->mem32, c->mem32.start - 0x40000000);
	pci_add_resource(&res, &c->mem64);
	pci_add_resource(&res, &c->busn);
	pci_lock_rescan_remove();
	c->root = pci_create_root_bus(NULL, c->first, &twin_ops, c, &res);
	if (!c->root) {
		pci_unlock_rescan_remove();
		pci_free_resource_list(&res);
		return -ENODEV;
	}
	pci_scan_child_bus(c->root);
	pci_bus_size_bridges(c->root);
	pci_bus_assign_resources(c->root);
	pci_bus_add_devices(c->root);
	pci_unlock_rescan_remove();
	return 0;
}

static void del_complex(struct complex *c)
{
	struct pci_dev *pf;
	int i;

	if (c->root) {
		pci_lock_rescan_remove();
		for (i = 0; i < BUSES; i++) {
			pf = c->gpu[i] ? pci_get_domain_bus_and_slot(0, c->gpu[i]->bus, 0) : NULL;
			if (pf && pci_num_vf(pf))
				pci_disable_sriov(pf);		/* VFs must be removed before their PF */
			pci_dev_put(pf);
		}
		pci_stop_root_bus(c->root);
		pci_remove_root_bus(c->root);
		pci_unlock_rescan_remove();
	}
	if (c->mem32.parent)
		remove_resource(&c->mem32);
	if (c->mem64.parent)
		remove_resource(&c->mem64);
	for (i = 0; i < BUSES; i++)
		if (c->gpu[i]) {
			vfree(c->gpu[i]->vf);
			vfree(c->gpu[i]);
		}
	vfree(c);
}

static void twin_exit(void)
{
	int i;

	if (fewer.symbol_name)
		unregister_kprobe(&fewer);
	for (i = 0; i < ARRAY_SIZE(complexes); i++)
		if (complexes[i])
			del_complex(complexes[i]);
}

/* SMBIOS OEM strings "twin_hw.NAME=VALUE" and "twin_hw.N.NAME=VALUE" */
static const struct { const char *name; size_t offset; } hw_settings[] __initconst = {
#define HW(member) { #member, offsetof(struct hw, member) }
	HW(device), HW(vf_device), HW(subsystem), HW(totalvfs), HW(vf_offset), HW(vf_stride), HW(sriov), HW(vf_bar1_mb),
	HW(module_id), HW(partition),
};

static int __init set(struct hw *hw, const char *name, size_t len, int value)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(hw_settings); i++)
		if (strlen(hw_settings[i].name) == len && !strncmp(name, hw_settings[i].name, len)) {
			*(int *)((void *)hw + hw_settings[i].offset) = value;
			return 0;
		}
	return -EINVAL;
}

/* @each: second pass, in which settings of single GPUs override settings of all GPUs */
static int __init read_setting(const char *s, struct hw *hw, bool each)
{
	const char *value = strchr(s, '='), *dot = strchr(s, '.');
	int v, n = 0;

	if (!value || kstrtoint(value + 1, 0, &v))
		return -EINVAL;
	if (dot && dot < value) {
		if (sscanf(s, "%d.", &n) != 1 || n < 0 || n >= MAX_GPUS)
			return -EINVAL;
		return each ? set(&hw[n], dot + 1, value - dot - 1, v) : 0;
	}
	if (each)
		return 0;
	if (!strncmp(s, "gpus=", 5)) {
		gpus = v;
		return 0;
	}
	if (!strncmp(s, "nvswitches=", 11)) {
		nvswitches = v;
		return 0;
	}
	if (!strncmp(s, "nvswitch_device=", 16)) {
		nvswitch_device = v;
		return 0;
	}
	if (!strncmp(s, "mmio_mb=", 8)) {
		mmio_mb = v;
		return 0;
	}
	return set(&all, s, value - s, v);
}

static int __init read_machine(struct hw *hw, bool each)
{
	const struct dmi_device *d = NULL;

	while ((d = dmi_find_device(DMI_DEV_TYPE_OEM_STRING, NULL, d)))
		if (!strncmp(d->name, "twin_hw.", 8) && read_setting(d->name + 8, hw, each)) {
			pr_err("twin_hw: the machine's setting \"%s\" is not understood\n", d->name);
			return -EINVAL;
		}
	return 0;
}

static int __init twin_init(void)
{
	struct hw hw[MAX_GPUS], bridge;
	int i, rc = read_machine(hw, false);

	for (i = 0; i < MAX_GPUS; i++)
		hw[i] = all;
	rc = rc ?: read_machine(hw, true);
	if (rc)
		return rc;
	if (gpus < 1 || gpus > nbus || mmio_mb < 128 || nvswitches < 0 || nvswitches > MAX_SWITCHES)
		rc = -EINVAL;
	for (i = 0; i < gpus && !rc; i++)
		rc = hw_valid(&hw[i]) ? 0 : -EINVAL;
	if (rc) {
		pr_err("twin_hw: gpus, totalvfs, vf_offset, vf_stride, module_id, nvswitches or mmio_mb out of range\n");
		return rc;
	}
	for (i = nbus - gpus; i < nbus && !rc; i++)
		rc = bus[i] > 255 || !(bus[i] % BUSES) ? -EINVAL : add_gpu(i - (nbus - gpus), bus[i], &hw[i - (nbus - gpus)]);
	bridge = (struct hw){ .device = nvswitch_device, .subsystem = 0x1796, .totalvfs = 1 };
	for (i = 0; i < nvswitches && !rc; i++)		/* in fault_dead, the switches follow all GPUs */
		rc = add_gpu(MAX_GPUS + i, SWITCH_BUS + i, &bridge);
	if (rc || register_kprobe(&fewer)) {
		if (!rc)
			pr_warn("twin_hw: no kprobe on sriov_enable, fault_vf_fewer does nothing\n");
		fewer.symbol_name = NULL;
	}
	for (i = 0; i < ARRAY_SIZE(complexes) && !rc; i++)
		if (complexes[i])
			rc = add_complex(complexes[i]);
	if (rc)
		twin_exit();
	return rc;
}
module_init(twin_init);
module_exit(twin_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("NVIDIA GPUs without hardware, on synthetic PCI root complexes");
