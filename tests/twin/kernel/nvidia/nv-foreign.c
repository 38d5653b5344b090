// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * With foreign_parents=1, VFs that are bound to another driver, such as vfio-pci, also become mdev parents.
 * The mdev core names type directories after the parent's driver, so their names become "vfio-pci-575".
 */
#include "nv.h"

static void adopt(struct pci_dev *vf)	/* The caller holds device_lock(vf). */
{
	struct nv_gpu *g;
	bool want;

	mutex_lock(&nv_lock);
	g = nv_gpu_of(pci_physfn(vf));
	want = nv_foreign_parents && g->bound && vf->dev.driver && vf->dev.driver != &nv_driver.driver;
	mutex_unlock(&nv_lock);
	if (want)
		nv_vf_add(vf, true);
}

static void abandon(struct pci_dev *vf)
{
	struct nv_vf *v, *found = NULL;

	mutex_lock(&nv_lock);
	list_for_each_entry(v, &nv_vfs, node)
		if (v->foreign && v->pdev == vf)
			found = v;
	mutex_unlock(&nv_lock);
	if (found)
		nv_vf_del(found);
}

/* Runs while the PF is being bound. Lock order: the PF before its VFs, as in the kernel's SR-IOV code. */
void nv_foreign_scan(struct pci_dev *pf)
{
	struct pci_dev *vf = NULL;

	while ((vf = pci_get_device(pf->vendor, PCI_ANY_ID, vf)))
		if (vf->is_virtfn && pci_physfn(vf) == pf) {
			device_lock(&vf->dev);
			adopt(vf);
			device_unlock(&vf->dev);
		}
}

static int on_pci_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (!pdev->is_virtfn || pdev->vendor != PCI_VENDOR_ID_NVIDIA)
		return NOTIFY_DONE;
	if (event == BUS_NOTIFY_BOUND_DRIVER)
		adopt(pdev);
	else if (event == BUS_NOTIFY_UNBIND_DRIVER || event == BUS_NOTIFY_DEL_DEVICE)
		abandon(pdev);
	return NOTIFY_OK;
}
static struct notifier_block pci_events = { .notifier_call = on_pci_event };

int nv_foreign_init(void)
{
	return bus_register_notifier(&pci_bus_type, &pci_events);
}

void nv_foreign_exit(void)
{
	struct nv_vf *v, *n;

	bus_unregister_notifier(&pci_bus_type, &pci_events);
	list_for_each_entry_safe(v, n, &nv_vfs, node)	/* unregistering the driver has already removed its own VFs */
		nv_vf_del(v);
}
