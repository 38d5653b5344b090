// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * A vGPU as a VM sees it: a PCI function with configuration space, BARs, and interrupts, which QEMU opens through VFIO.
 * The function has no GPU: BARs read as zeros, the driver never reads the VM's memory, and no interrupt occurs.
 */
#include <linux/eventfd.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>
#include "nv.h"

#define REGION_SHIFT	40		/* a region's offset in the device's file is its index, shifted by this number of bits */
#define CAP_MSI		0x68
#define CAP_FABRIC	0x80		/* exists only here and in twin_hw: shows the guest driver whether CUDA can start */
#define FABRIC_STATE	(CAP_FABRIC + 4)
#define SUBSYSTEM	0x1000		/* plus the type's ID, as in models.py: no public table lists NVIDIA's IDs */

/* Sizes and kinds of the VM's BARs. A 64-bit BAR occupies two entries. */
static const u64 bar_size[PCI_STD_NUM_BARS] = { SZ_16M, SZ_256M, 0, SZ_32M, 0, 0 };
static const u32 bar_flags[PCI_STD_NUM_BARS] = {
	0, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, 0, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, 0, 0,
};
static const struct { u32 count, flags; } irqs[VFIO_PCI_NUM_IRQS] = {
	[VFIO_PCI_INTX_IRQ_INDEX] = { 1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED },
	[VFIO_PCI_MSI_IRQ_INDEX] = { 1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE },
	/* no MSI-X, error events, or device release requests: a removal waits until the VM has stopped */
};

static struct nv_vgpu_pci *pci_of(struct vfio_device *vdev)
{
	return container_of(vdev, struct nv_vgpu_pci, vdev);
}

static void put(struct nv_vgpu_pci *p, int off, int len, u32 v, u32 wm)
{
	int i;

	for (i = 0; i < len; i++) {
		p->cfg[off + i] = v >> (8 * i);
		p->wm[off + i] = wm >> (8 * i);
	}
}

static void reset(struct nv_vgpu_pci *p)
{
	int i;

	mutex_lock(&p->lock);
	memset(p->cfg, 0, sizeof(p->cfg));
	memset(p->wm, 0, sizeof(p->wm));
	put(p, PCI_VENDOR_ID, 4, PCI_VENDOR_ID_NVIDIA | p->device << 16, 0);
	put(p, PCI_COMMAND, 2, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	put(p, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
	put(p, PCI_CLASS_REVISION, 4, PCI_CLASS_DISPLAY_3D << 16 | 0xa1, 0);
	put(p, PCI_CACHE_LINE_SIZE, 2, 0, 0xffff);
	put(p, PCI_SUBSYSTEM_VENDOR_ID, 4, PCI_VENDOR_ID_NVIDIA | p->subsystem << 16, 0);
	put(p, PCI_CAPABILITY_LIST, 1, CAP_MSI, 0);
	put(p, PCI_INTERRUPT_LINE, 2, 0x0100, 0x00ff);	/* interrupt pin A */
	put(p, CAP_MSI, 4, PCI_CAP_ID_MSI | PCI_MSI_FLAGS_64BIT << 16, PCI_MSI_FLAGS_ENABLE << 16);
	put(p, CAP_MSI + PCI_MSI_ADDRESS_LO, 4, 0, ~3);
	put(p, CAP_MSI + PCI_MSI_ADDRESS_HI, 4, 0, ~0);
	put(p, CAP_MSI + PCI_MSI_DATA_64, 2, 0, 0xffff);
	if (p->vf) {
		put(p, CAP_MSI + 1, 1, CAP_FABRIC, 0);
		put(p, CAP_FABRIC, 4, PCI_CAP_ID_VNDR | 8 << 16, 0);
	}
	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		u64 mask = ~(bar_size[i] - 1);

		if (!bar_size[i])
			continue;
		put(p, PCI_BASE_ADDRESS_0 + 4 * i, 4, bar_flags[i], mask);
		if (bar_flags[i] & PCI_BASE_ADDRESS_MEM_TYPE_64)
			put(p, PCI_BASE_ADDRESS_0 + 4 * i + 4, 4, 0, mask >> 32);
	}
	mutex_unlock(&p->lock);
}

int nv_vgpu_pci_init(struct vfio_device *vdev)
{
	mutex_init(&pci_of(vdev)->lock);
	return 0;
}

/* Reset the function for a VM that opens a vGPU of this type. */
void nv_vgpu_pci_start(struct nv_vgpu_pci *p, struct nv_vf *v, const struct nv_type *t)
{
	u16 id = 0;

	if (kstrtou16(t->id, 10, &id))
		pr_warn("nvidia: type %s is no number\n", t->id);
	p->device = pci_physfn(v->pdev)->device;
	p->subsystem = SUBSYSTEM + id;
	p->vf = nv_needs_partition(v, t) ? v : NULL;
	reset(p);
}

static u64 region_size(unsigned int region)
{
	if (region == VFIO_PCI_CONFIG_REGION_INDEX)
		return PCI_CFG_SPACE_SIZE;
	return region < PCI_STD_NUM_BARS ? bar_size[region] : 0;
}

/* Return the number of accessed bytes that are inside the region. 0: the access starts outside the region. */
static size_t inside(loff_t pos, size_t count, unsigned int *region, u64 *at)
{
	u64 size;

	*region = pos >> REGION_SHIFT;
	*at = pos & (BIT_ULL(REGION_SHIFT) - 1);
	size = region_size(*region);
	return *at < size ? min_t(u64, count, size - *at) : 0;
}

ssize_t nv_vgpu_pci_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
	struct nv_vgpu_pci *p = pci_of(vdev);
	unsigned int region;
	size_t left;
	u64 at;

	count = inside(*pos, count, &region, &at);
	if (!count)
		return -EINVAL;
	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		mutex_lock(&p->lock);
		if (p->vf)		/* 1: no partition is active; 2: a partition is active */
			p->cfg[FABRIC_STATE] = p->vf->partition < 0 ? 1 : 2;
		left = copy_to_user(buf, p->cfg + at, count);
		mutex_unlock(&p->lock);
	} else {
		left = clear_user(buf, count);
	}
	if (left)
		return -EFAULT;
	*pos += count;
	return count;
}

ssize_t nv_vgpu_pci_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *pos)
{
	struct nv_vgpu_pci *p = pci_of(vdev);
	u8 data[PCI_CFG_SPACE_SIZE];
	unsigned int region;
	size_t i;
	u64 at;

	count = inside(*pos, count, &region, &at);
	if (!count)
		return -EINVAL;
	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		if (copy_from_user(data, buf, count))
			return -EFAULT;
		mutex_lock(&p->lock);
		for (i = 0; i < count; i++)
			p->cfg[at + i] = (p->cfg[at + i] & ~p->wm[at + i]) | (data[i] & p->wm[at + i]);
		mutex_unlock(&p->lock);
	}
	*pos += count;
	return count;
}

static long get_info(void __user *arg)
{
	size_t size = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long get_region_info(void __user *arg)
{
	size_t size = offsetofend(struct vfio_region_info, offset);
	struct vfio_region_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size || info.index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	info.size = region_size(info.index);
	info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	info.offset = (u64)info.index << REGION_SHIFT;
	info.cap_offset = 0;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

static long get_irq_info(void __user *arg)
{
	size_t size = offsetofend(struct vfio_irq_info, count);
	struct vfio_irq_info info;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size || info.index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	info.count = irqs[info.index].count;
	info.flags = irqs[info.index].flags;
	return copy_to_user(arg, &info, size) ? -EFAULT : 0;
}

/* Check the eventfd, but do not store it, because no interrupt ever occurs. Each interrupt has at most one eventfd. */
static long set_irqs(void __user *arg)
{
	size_t size = offsetofend(struct vfio_irq_set, count), data = 0;
	struct vfio_irq_set set;
	struct eventfd_ctx *event;
	s32 fd;
	int rc;

	if (copy_from_user(&set, arg, size))
		return -EFAULT;
	rc = vfio_set_irqs_validate_and_prepare(&set, set.index < VFIO_PCI_NUM_IRQS ? irqs[set.index].count : 0, VFIO_PCI_NUM_IRQS, &data);
	if (rc || !data || !(set.flags & VFIO_IRQ_SET_DATA_EVENTFD))
		return rc;
	if (copy_from_user(&fd, arg + size, sizeof(fd)))
		return -EFAULT;
	if (fd < 0)
		return 0;		/* the caller removes the eventfd */
	event = eventfd_ctx_fdget(fd);
	if (IS_ERR(event))
		return PTR_ERR(event);
	eventfd_ctx_put(event);
	return 0;
}

long nv_vgpu_pci_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return get_info((void __user *)arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region_info((void __user *)arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq_info((void __user *)arg);
	case VFIO_DEVICE_SET_IRQS:
		return set_irqs((void __user *)arg);
	case VFIO_DEVICE_RESET:
		reset(pci_of(vdev));
		return 0;
	}
	return -ENOTTY;
}
