// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * nvidia - an emulation of NVIDIA's driver in a VM with a vGPU. The driver binds the vGPU, creates /dev/nvidia0 and
 * /dev/nvidiactl, and shows its state in /proc/driver/nvidia. It does not use a GPU and contains no code from NVIDIA. */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/version.h>
#include "version.h"

#define MAJOR_NUMBER 195	/* NVIDIA's major number */
#define CTL_MINOR 255
#define MOST 8

struct gpu {
	struct pci_dev *pdev;
	struct proc_dir_entry *proc;
};
static struct gpu gpus[MOST];
static struct class *class;
static struct proc_dir_entry *root, *gpus_dir, *nvswitch;
static DEFINE_MUTEX(lock);

static int version_show(struct seq_file *s, void *unused)
{
	seq_printf(s, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s\n", NV_VERSION);
	return 0;
}

static int permissions_show(struct seq_file *s, void *unused)
{
	seq_puts(s, "DeviceFileMode: 438\n");
	return 0;
}

static int information_show(struct seq_file *s, void *unused)
{
	struct gpu *g = s->private;
	unsigned int n = g - gpus;

	/* This file does not name the vGPU's type, because NVIDIA's nvidia-smi asks the GPU. */
	seq_printf(s, "Model: \t\t NVIDIA vGPU\nIRQ:   \t\t %d\n", g->pdev->irq);
	seq_printf(s, "GPU UUID: \t GPU-%08x-0000-11ef-8000-%04x%08x\n", pci_dev_id(g->pdev), g->pdev->subsystem_device, n);
	seq_printf(s, "Bus Type: \t PCI\nBus Location: \t %s\nDevice Minor: \t %u\nGPU Excluded:\t No\n", pci_name(g->pdev), n);
	return 0;
}

/*
 * The file exists only here, for the emulated nvidia-smi and cuInit. "fabric 0": CUDA requires no fabric partition;
 * 1: CUDA cannot start until a partition is active (802); 2: the partition is active.
 */
static int twin_show(struct seq_file *s, void *unused)
{
	struct gpu *g = s->private;
	int at = pci_find_capability(g->pdev, PCI_CAP_ID_VNDR);
	u8 state = 0;

	if (at)
		pci_read_config_byte(g->pdev, at + 4, &state);
	seq_printf(s, "fabric %d\n", state);
	return 0;
}

static int node_open(struct inode *inode, struct file *f)
{
	int rc;

	if (iminor(inode) == CTL_MINOR)
		return 0;
	mutex_lock(&lock);
	rc = iminor(inode) < MOST && gpus[iminor(inode)].pdev ? 0 : -ENODEV;
	mutex_unlock(&lock);
	return rc;
}

static const struct file_operations node_ops = { .owner = THIS_MODULE, .open = node_open };

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int rc = pci_enable_device(pdev), n;

	if (rc)
		return rc;
	mutex_lock(&lock);
	for (n = 0; n < MOST && gpus[n].pdev; n++)
		;
	if (n < MOST)
		gpus[n].pdev = pdev;
	mutex_unlock(&lock);
	if (n == MOST) {
		pci_disable_device(pdev);
		return -ENOSPC;
	}
	pci_set_drvdata(pdev, &gpus[n]);
	gpus[n].proc = proc_mkdir(pci_name(pdev), gpus_dir);
	if (gpus[n].proc) {
		proc_create_single_data("information", 0444, gpus[n].proc, information_show, &gpus[n]);
		proc_create_single_data("twin", 0444, gpus[n].proc, twin_show, &gpus[n]);
	}
	device_create(class, NULL, MKDEV(MAJOR_NUMBER, n), NULL, "nvidia%d", n);
	return 0;
}

static void leave(struct pci_dev *pdev)
{
	struct gpu *g = pci_get_drvdata(pdev);

	device_destroy(class, MKDEV(MAJOR_NUMBER, g - gpus));
	proc_remove(g->proc);
	mutex_lock(&lock);
	g->pdev = NULL;
	mutex_unlock(&lock);
	pci_disable_device(pdev);
}

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_VGA << 8, .class_mask = ~0 },
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_3D << 8, .class_mask = ~0 },
	{ }
};
MODULE_DEVICE_TABLE(pci, ids);

static struct pci_driver driver = { .name = "nvidia", .id_table = ids, .probe = probe, .remove = leave };

static char *node_mode(
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	const
#endif
	struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0666;
	return NULL;
}

static int __init nv_init(void)
{
	int rc = register_chrdev(MAJOR_NUMBER, "nvidia", &node_ops);

	if (rc)
		return rc;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	class = class_create("nvidia");
#else
	class = class_create(THIS_MODULE, "nvidia");
#endif
	if (IS_ERR(class)) {
		rc = PTR_ERR(class);
		goto chardev;
	}
	class->devnode = node_mode;
	rc = -ENOMEM;
	root = proc_mkdir("driver/nvidia", NULL);
	if (!root)
		goto class;
	gpus_dir = proc_mkdir("gpus", root);
	if (!gpus_dir)
		goto proc;
	proc_create_single("version", 0444, root, version_show);
	nvswitch = proc_mkdir("driver/nvidia-nvswitch", NULL);	/* the directory also exists without a switch, and a VM never has a switch */
	if (nvswitch) {
		proc_create_single("permissions", 0444, nvswitch, permissions_show);
		proc_mkdir("devices", nvswitch);
	}
	device_create(class, NULL, MKDEV(MAJOR_NUMBER, CTL_MINOR), NULL, "nvidiactl");
	rc = pci_register_driver(&driver);
	if (!rc) {
		pr_info("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  " NV_VERSION "\n");
		return 0;
	}
	device_destroy(class, MKDEV(MAJOR_NUMBER, CTL_MINOR));
	proc_remove(nvswitch);
proc:
	proc_remove(root);
class:
	class_destroy(class);
chardev:
	unregister_chrdev(MAJOR_NUMBER, "nvidia");
	return rc;
}

static void __exit nv_exit(void)
{
	pci_unregister_driver(&driver);
	device_destroy(class, MKDEV(MAJOR_NUMBER, CTL_MINOR));
	proc_remove(nvswitch);
	proc_remove(root);
	class_destroy(class);
	unregister_chrdev(MAJOR_NUMBER, "nvidia");
}
module_init(nv_init);
module_exit(nv_exit);
MODULE_LICENSE("GPL");
MODULE_VERSION(NV_VERSION);
MODULE_DESCRIPTION("Interfaces of NVIDIA's driver in a vGPU's VM, without a GPU");
