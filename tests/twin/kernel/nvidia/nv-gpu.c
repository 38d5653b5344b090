// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/* The use count and the unbindLock of each GPU, and the device nodes /dev/nvidiaN and /dev/nvidiactl. */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/module.h>
#include "nv.h"
#include "nv-compat.h"

#define NV_MAJOR	195
#define NV_CTL_MINOR	255

static int fault_unbind_lock;
module_param(fault_unbind_lock, int, 0644);
MODULE_PARM_DESC(fault_unbind_lock, "bit n: the unbindLock of the GPU with device minor number n is never granted");

struct class *nv_class;

static void enable_vfs(struct work_struct *w)
{
	struct nv_gpu *g = container_of(w, struct nv_gpu, enable.work);

	device_lock(&g->pdev->dev);
	pci_lock_rescan_remove();
	if (g->bound)
		pci_enable_sriov(g->pdev, g->enable_n);
	pci_unlock_rescan_remove();
	device_unlock(&g->pdev->dev);
}

struct nv_gpu *nv_gpu_of(struct pci_dev *pf)
{
	struct nv_gpu *g;
	int minor = 0;

	list_for_each_entry(g, &nv_gpus, node) {
		if (!strcmp(g->bdf, pci_name(pf)))
			return g;
		minor = max(minor, g->minor + 1);
	}
	g = kzalloc(sizeof(*g), GFP_KERNEL | __GFP_NOFAIL);
	strscpy(g->bdf, pci_name(pf), sizeof(g->bdf));
	g->minor = minor;
	g->model = nv_model_of(pf);
	mutex_init(&g->lock);
	INIT_LIST_HEAD(&g->vgpus);
	nv_mig_init(g);
	nv_fabric_init(g, pf);
	INIT_DELAYED_WORK(&g->enable, enable_vfs);
	list_add_tail(&g->node, &nv_gpus);
	return g;
}

void nv_gpus_free(void)
{
	struct nv_gpu *g, *n;

	list_for_each_entry_safe(g, n, &nv_gpus, node) {
		cancel_delayed_work_sync(&g->enable);
		nv_mig_wipe(g);
		kfree(g);
	}
}

bool nv_gpu_alive(struct nv_gpu *g)
{
	u32 id = ~0;

	if (g->bound)
		pci_read_config_dword(g->pdev, PCI_VENDOR_ID, &id);
	if (id != ~0U)
		return true;
	pr_err("NVRM: Xid (PCI:%.7s): 79, GPU has fallen off the bus.\n", g->bdf);
	return false;
}

/* Add one user. The call fails while the unbindLock is held. */
int nv_gpu_get(struct nv_gpu *g)
{
	int rc = 0;

	mutex_lock(&g->lock);
	if (!g->bound)
		rc = -ENODEV;
	else if (g->unbind_locked)
		rc = -EBUSY;
	else
		g->usage++;
	mutex_unlock(&g->lock);
	return rc;
}

void nv_gpu_put(struct nv_gpu *g)
{
	mutex_lock(&g->lock);
	g->usage--;
	mutex_unlock(&g->lock);
}

/* Wait for the last user. A driver cannot refuse an unbind, so an unbind without the unbindLock blocks here. */
void nv_gpu_drain(struct nv_gpu *g)
{
	mutex_lock(&g->lock);
	if (g->usage)
		pr_err("NVRM: Attempting to remove device %s with non-zero usage count!\n", g->bdf);
	while (g->usage) {
		mutex_unlock(&g->lock);
		msleep(100);
		mutex_lock(&g->lock);
	}
	g->bound = false;
	g->unbind_locked = false;
	mutex_unlock(&g->lock);
}

/* Set or release the lock. No error is returned, so the caller must read the lock back. */
void nv_gpu_request_lock(struct nv_gpu *g, bool lock)
{
	mutex_lock(&g->lock);
	if (!lock)
		g->unbind_locked = false;
	else if (!g->usage && !(fault_unbind_lock & BIT(g->minor)))
		g->unbind_locked = true;
	mutex_unlock(&g->lock);
}

static int node_open(struct inode *inode, struct file *f)
{
	struct nv_gpu *g;
	int rc = -ENODEV;

	if (iminor(inode) == NV_CTL_MINOR)
		return 0;
	mutex_lock(&nv_lock);
	list_for_each_entry(g, &nv_gpus, node)
		if (g->minor == iminor(inode)) {
			rc = nv_gpu_get(g);
			if (!rc && !nv_gpu_alive(g)) {
				nv_gpu_put(g);
				rc = -EIO;
			}
			if (!rc)
				f->private_data = g;
			break;
		}
	mutex_unlock(&nv_lock);
	return rc;
}

static int node_release(struct inode *inode, struct file *f)
{
	if (f->private_data)
		nv_gpu_put(f->private_data);
	return 0;
}

static const struct file_operations node_ops = { .owner = THIS_MODULE, .open = node_open, .release = node_release };

static char *node_mode(NV_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0666;
	return NULL;
}

int nv_chardev_init(void)
{
	int rc = register_chrdev(NV_MAJOR, "nvidia", &node_ops);

	if (rc)
		return rc;
	nv_class = nv_class_create("nvidia");
	if (IS_ERR(nv_class)) {
		unregister_chrdev(NV_MAJOR, "nvidia");
		return PTR_ERR(nv_class);
	}
	nv_class->devnode = node_mode;
	device_create(nv_class, NULL, MKDEV(NV_MAJOR, NV_CTL_MINOR), NULL, "nvidiactl");
	return 0;
}

void nv_chardev_exit(void)
{
	device_destroy(nv_class, MKDEV(NV_MAJOR, NV_CTL_MINOR));
	class_destroy(nv_class);
	unregister_chrdev(NV_MAJOR, "nvidia");
}

void nv_chardev_add(struct nv_gpu *g)
{
	device_create(nv_class, NULL, MKDEV(NV_MAJOR, g->minor), NULL, "nvidia%d", g->minor);
}

void nv_chardev_del(struct nv_gpu *g)
{
	device_destroy(nv_class, MKDEV(NV_MAJOR, g->minor));
}
