// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * NVSwitch: the driver of the switches, its /proc directory and device nodes, and the fabric state of GPUs and VFs:
 * whether a GPU is registered with the fabric, and which partition a VF has. The emulated nv-fabricmanager writes
 * this state to gpus/<address>/twin. NVIDIA's nv-fabricmanager programs the switches instead.
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include "nv.h"

#define CTL_MINOR	255
#define MAX_SWITCHES	8

/* Faults of the emulated nv-fabricmanager, which reads these parameters whenever it needs them. */
static int fault_fm_configure_ms, fault_fm_query, fault_fm_activate, fault_fm_deactivate, fault_fm_crash;
module_param(fault_fm_configure_ms, int, 0644);
MODULE_PARM_DESC(fault_fm_configure_ms, "time in ms after its start during which nv-fabricmanager returns FM_ST_NOT_CONFIGURED");
module_param(fault_fm_query, int, 0644);
MODULE_PARM_DESC(fault_fm_query, "return code of nv-fabricmanager for each query of the partitions, such as -6 for FM_ST_VERSION_MISMATCH");
module_param(fault_fm_activate, int, 0644);
MODULE_PARM_DESC(fault_fm_activate, "return code of nv-fabricmanager for each activation, such as -7 for FM_ST_IN_USE");
module_param(fault_fm_deactivate, int, 0644);
MODULE_PARM_DESC(fault_fm_deactivate, "return code of nv-fabricmanager for each deactivation, such as -2 for FM_ST_GENERIC_ERROR");
module_param(fault_fm_crash, int, 0644);
MODULE_PARM_DESC(fault_fm_crash, "nv-fabricmanager is killed (SIGKILL): 1 at the next query, 2 before the next activation, 3 after the next activation");

static struct proc_dir_entry *root, *devices;
static struct pci_dev *switches[MAX_SWITCHES];
static struct proc_dir_entry *dirs[MAX_SWITCHES];
static DEFINE_MUTEX(lock);
static int major;
static bool has_ctl;		/* nvidia-nvswitchctl exists only on hosts with a switch, as with nvidia-modprobe */

static int permissions_show(struct seq_file *s, void *unused)
{
	seq_puts(s, "DeviceFileMode: 438\n");
	return 0;
}

static int switch_information_show(struct seq_file *s, void *unused)
{
	seq_puts(s, "BIOS Version: 96.10.57.00.01\n");
	return 0;
}

/* An open node prevents the driver from being unloaded. The real Fabric Manager also keeps nodes open. */
static int node_open(struct inode *inode, struct file *f)
{
	return iminor(inode) == CTL_MINOR || (iminor(inode) < MAX_SWITCHES && switches[iminor(inode)]) ? 0 : -ENODEV;
}

static const struct file_operations node_ops = { .owner = THIS_MODULE, .open = node_open };

static int switch_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int rc = pci_enable_device(pdev), n;

	if (rc)
		return rc;
	mutex_lock(&lock);
	for (n = 0; n < MAX_SWITCHES && switches[n]; n++)
		;
	if (n < MAX_SWITCHES) {
		switches[n] = pdev;
		if (!has_ctl)
			device_create(nv_class, NULL, MKDEV(major, CTL_MINOR), NULL, "nvidia-nvswitchctl");
		has_ctl = true;
	}
	mutex_unlock(&lock);
	if (n == MAX_SWITCHES) {
		pci_disable_device(pdev);
		return -ENOSPC;
	}
	pci_set_drvdata(pdev, (void *)(long)n);
	dirs[n] = proc_mkdir(pci_name(pdev), devices);
	if (dirs[n])
		proc_create_single("information", 0444, dirs[n], switch_information_show);
	device_create(nv_class, NULL, MKDEV(major, n), NULL, "nvidia-nvswitch%d", n);
	pr_info("nvidia-nvswitch: Probing device %s, Vendor Id = 0x%x, Device Id = 0x%x, Class = 0x%x\n",
		pci_name(pdev), pdev->vendor, pdev->device, pdev->class);
	return 0;
}

static void switch_remove(struct pci_dev *pdev)
{
	int n = (long)pci_get_drvdata(pdev);

	device_destroy(nv_class, MKDEV(major, n));
	proc_remove(dirs[n]);
	mutex_lock(&lock);
	switches[n] = NULL;
	mutex_unlock(&lock);
	pci_disable_device(pdev);
}

static const struct pci_device_id switch_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_BRIDGE_OTHER << 8, .class_mask = ~0 },
	{ }
};
MODULE_DEVICE_TABLE(pci, switch_ids);

static struct pci_driver switch_driver = {
	.name = "nvidia-nvswitch", .id_table = switch_ids, .probe = switch_probe, .remove = switch_remove,
};

/* Read the GPU's module ID on the board from twin_hw's capability. 0: the GPU is on no board. */
void nv_fabric_init(struct nv_gpu *g, struct pci_dev *pf)
{
	int at = pci_find_capability(pf, PCI_CAP_ID_VNDR);

	if (at)
		pci_read_config_byte(pf, at + 3, &g->module_id);
	g->registered = false;
}

/* Only a VF whose vGPU uses the whole card has NVLink. CUDA in its VM requires an active partition. */
bool nv_needs_partition(struct nv_vf *v, const struct nv_type *t)
{
	return v->gpu->module_id && v->pdev->is_virtfn && t->profile < 0 && t->max == 1;
}

void nv_fabric_show(struct seq_file *s, struct nv_gpu *g)
{
	struct nv_vf *v;

	if (!g->module_id)
		return;
	seq_printf(s, "fabric %d %d\n", g->module_id, g->registered);
	mutex_lock(&nv_lock);
	list_for_each_entry(v, &nv_vfs, node)
		if (v->gpu == g && v->partition >= 0)
			seq_printf(s, "partition %s %d\n", pci_name(v->pdev), v->partition);
	mutex_unlock(&nv_lock);
}

/* Discard the partitions of the GPU's VFs. The GPU stays registered when sriov-manage unbinds and rebinds the GPU. */
void nv_fabric_wipe(struct nv_gpu *g)	/* The caller holds nv_lock. */
{
	struct nv_vf *v;

	list_for_each_entry(v, &nv_vfs, node)
		if (v->gpu == g)
			v->partition = -1;
}

/* "fabric 0": initialization of the switches starts; "fabric 1": initialization is complete; "partition <VF> <ID, or -1>" */
int nv_fabric_command(struct nv_gpu *g, const char *line)
{
	int n, rc = -EINVAL;
	struct nv_vf *v;
	char bdf[16];

	if (!g->module_id)
		return -EOPNOTSUPP;
	mutex_lock(&nv_lock);
	if (!g->bound) {
		rc = -ENODEV;
	} else if (sscanf(line, "fabric %d", &n) == 1) {
		g->registered = n;
		if (!n)
			nv_fabric_wipe(g);
		rc = 0;
	} else if (sscanf(line, "partition %15s %d", bdf, &n) == 2) {
		rc = -ENOENT;
		list_for_each_entry(v, &nv_vfs, node)
			if (v->gpu == g && !strcmp(pci_name(v->pdev), bdf)) {
				v->partition = max(n, -1);
				rc = 0;
			}
	}
	mutex_unlock(&nv_lock);
	return rc;
}

int nv_nvswitch_init(void)
{
	int rc = register_chrdev(0, "nvidia-nvswitch", &node_ops);

	if (rc < 0)
		return rc;
	major = rc;
	rc = -ENOMEM;
	root = proc_mkdir("driver/nvidia-nvswitch", NULL);	/* the directory also exists on hosts without a switch */
	if (!root)
		goto chrdev;
	proc_create_single("permissions", 0444, root, permissions_show);
	devices = proc_mkdir("devices", root);
	if (!devices)
		goto proc;
	rc = pci_register_driver(&switch_driver);
	if (rc)
		goto proc;
	return 0;
proc:
	proc_remove(root);
chrdev:
	unregister_chrdev(major, "nvidia-nvswitch");
	return rc;
}

void nv_nvswitch_exit(void)
{
	if (has_ctl)
		device_destroy(nv_class, MKDEV(major, CTL_MINOR));
	pci_unregister_driver(&switch_driver);
	proc_remove(root);
	unregister_chrdev(major, "nvidia-nvswitch");
}
