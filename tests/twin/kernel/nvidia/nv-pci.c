// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/* The PCI driver "nvidia": PFs, VFs, and the creation of VFs. */
#include <linux/delay.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include "nv.h"

static int fault_probe;
module_param(fault_probe, int, 0644);
MODULE_PARM_DESC(fault_probe, "errno of the probe of each PF");
static int fault_sriov;
module_param(fault_sriov, int, 0644);
MODULE_PARM_DESC(fault_sriov, "with sriov_sysfs=1: errno of a write to sriov_numvfs");
static int fault_sriov_fewer;
module_param(fault_sriov_fewer, int, 0644);
MODULE_PARM_DESC(fault_sriov_fewer, "with sriov_sysfs=1: number of requested VFs that are not created");
static int fault_sriov_ms;
module_param(fault_sriov_ms, int, 0644);
MODULE_PARM_DESC(fault_sriov_ms, "with sriov_sysfs=1: time in ms for which the write to sriov_numvfs blocks");
static int fault_sriov_async_ms;
module_param(fault_sriov_async_ms, int, 0644);
MODULE_PARM_DESC(fault_sriov_async_ms, "with sriov_sysfs=1: delay in ms between the write, which returns immediately, and the creation of VFs");

/* Add a VF to the driver. If the driver already manages the VF, only offer its types again. */
struct nv_vf *nv_vf_add(struct pci_dev *pdev, bool foreign)
{
	struct nv_vf *v;

	mutex_lock(&nv_lock);
	list_for_each_entry(v, &nv_vfs, node)
		if (v->pdev == pdev)
			goto known;
	v = kzalloc(sizeof(*v), GFP_KERNEL);
	if (!v) {
		mutex_unlock(&nv_lock);
		return NULL;
	}
	v->pdev = pdev;
	v->foreign = foreign;
	v->partition = -1;
	v->gpu = nv_gpu_of(pci_physfn(pdev));
	v->vendor = nv_vendor_vfio && v->gpu->model->sriov_vgpu;
	nv_mdev_prepare(v);
	list_add_tail(&v->node, &nv_vfs);
known:
	nv_mdev_want(v);
	mutex_unlock(&nv_lock);
	return v;
}

void nv_vf_del(struct nv_vf *v)
{
	cancel_delayed_work_sync(&v->reg);
	cancel_delayed_work_sync(&v->vanish);
	mutex_lock(&nv_lock);
	nv_mdev_unregister(v);
	list_del(&v->node);
	mutex_unlock(&nv_lock);
	nv_unclaim(&v->own);
	kfree(v);
}

static int vf_probe(struct pci_dev *pdev)
{
	struct iommu_group *group;
	struct nv_vf *v;
	int rc;

	if (!nv_model_of(pci_physfn(pdev))->sriov_vgpu && nv_model_of(pci_physfn(pdev))->ntypes)
		return -ENODEV;
	group = iommu_group_get(&pdev->dev);
	if (!group) {
		pr_err("NVRM: Aborting probe for VF %s since IOMMU is not present on the system.\n", pci_name(pdev));
		return -1;
	}
	iommu_group_put(group);
	v = nv_vf_add(pdev, false);
	if (!v)
		return -ENOMEM;
	pci_set_drvdata(pdev, v);
	rc = v->vendor ? nv_vendor_add(v) : 0;
	if (rc)
		nv_vf_del(v);
	return rc;
}

static void vf_remove(struct pci_dev *pdev)
{
	struct nv_vf *v = pci_get_drvdata(pdev);

	if (v->vendor)
		nv_vendor_del(v);
	nv_vf_del(v);
}

static int pf_probe(struct pci_dev *pdev)
{
	struct nv_gpu *g;
	struct nv_vf *v;
	u32 id;
	int rc;

	if (fault_probe)
		return -abs(fault_probe);
	pci_read_config_dword(pdev, PCI_VENDOR_ID, &id);
	if (id == ~0U) {
		pr_err("NVRM: The NVIDIA GPU %s has fallen off the bus and is not responding to commands.\n", pci_name(pdev));
		return -ENODEV;
	}
	rc = pci_enable_device(pdev);
	if (rc)
		return rc;
	mutex_lock(&nv_lock);
	g = nv_gpu_of(pdev);
	g->pdev = pdev;
	g->bound = true;
	pci_set_drvdata(pdev, g);
	list_for_each_entry(v, &nv_vfs, node)	/* VFs that pci-pf-stub has enabled */
		if (v->gpu == g)
			nv_mdev_want(v);
	mutex_unlock(&nv_lock);
	if (!g->model->sriov_vgpu && g->model->ntypes)
		nv_vf_add(pdev, false);		/* vGPUs are created on the PF */
	nv_procfs_add(g);
	nv_chardev_add(g);
	nv_foreign_scan(pdev);
	return 0;
}

/* Unbinding the GPU, as sriov-manage does, destroys its GPU instances and disables mixed-size mode. */
static void wipe(struct nv_gpu *g)
{
	mutex_lock(&g->lock);
	nv_mig_wipe(g);
	mutex_unlock(&g->lock);
}

static void pf_remove(struct pci_dev *pdev)
{
	struct nv_gpu *g = pci_get_drvdata(pdev);
	struct nv_vf *v, *own = NULL;

	cancel_delayed_work(&g->enable);
	nv_gpu_drain(g);
	nv_chardev_del(g);
	nv_procfs_del(g);
	mutex_lock(&nv_lock);
	list_for_each_entry(v, &nv_vfs, node)
		if (v->gpu == g) {
			nv_mdev_unregister(v);
			nv_unclaim(&v->own);
			if (v->pdev == pdev)
				own = v;
		}
	nv_fabric_wipe(g);
	mutex_unlock(&nv_lock);
	if (own)
		nv_vf_del(own);
	wipe(g);
	pci_disable_device(pdev);
}

static int nv_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return pdev->is_virtfn ? vf_probe(pdev) : pf_probe(pdev);
}

static void nv_remove(struct pci_dev *pdev)
{
	if (pdev->is_virtfn)
		vf_remove(pdev);
	else
		pf_remove(pdev);
}

/* Used only with sriov_sysfs=1. Otherwise, writes to sriov_numvfs fail in the PCI core, as with NVIDIA's driver. */
int nv_sriov_configure(struct pci_dev *pdev, int n)
{
	struct nv_gpu *g = pci_get_drvdata(pdev);
	int rc;

	if (fault_sriov)
		return -abs(fault_sriov);
	if (fault_sriov_ms)
		msleep(fault_sriov_ms);
	if (!n) {
		if (!list_empty(&g->vgpus)) {
			pci_err(pdev, "NVRM: vGPUs are in use, VFs stay enabled\n");
			return -EBUSY;
		}
		pci_disable_sriov(pdev);
		wipe(g);
		return 0;
	}
	n -= min(n - 1, fault_sriov_fewer);
	if (fault_sriov_async_ms) {
		g->enable_n = n;
		schedule_delayed_work(&g->enable, msecs_to_jiffies(fault_sriov_async_ms));
		return n;
	}
	rc = pci_enable_sriov(pdev, n);
	return rc ?: n;
}

static const struct pci_device_id nv_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_3D << 8, .class_mask = ~0 },
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_VGA << 8, .class_mask = ~0 },
	{ }
};
MODULE_DEVICE_TABLE(pci, nv_ids);

struct pci_driver nv_driver = {
	.name = "nvidia", .id_table = nv_ids, .probe = nv_probe, .remove = nv_remove,
	.driver_managed_dma = true,	/* VFIO requires this setting from a driver that provides VFIO devices */
};
