// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * The mdev framework. Each VF of a bound GPU is a parent. If the GPU does not support SR-IOV vGPUs, the PF is the
 * parent. Each vGPU is a VFIO device without GPU functions.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/vfio.h>
#include "nv.h"
#include "nv-compat.h"

static int fault_types_ms;
module_param(fault_types_ms, int, 0644);
MODULE_PARM_DESC(fault_types_ms, "delay in ms between the creation of VFs and of mdev_supported_types");
static int fault_vanish_ms;
module_param(fault_vanish_ms, int, 0644);
MODULE_PARM_DESC(fault_vanish_ms, "time in ms after which a created device disappears");
static int fault_remove_ms;
module_param(fault_remove_ms, int, 0644);
MODULE_PARM_DESC(fault_remove_ms, "time in ms for which the removal of a device blocks");

struct vgpu {
	struct nv_vgpu_pci pci;
	struct nv_vgpu own;
	char params[256];
};

static struct nv_vf *vf_of(struct mdev_type *mt)
{
	return container_of(mt->parent, struct nv_vf, parent);
}

static const struct nv_type *type_of(struct mdev_type *mt)
{
	return &vf_of(mt)->gpu->model->types[mt - vf_of(mt)->type];
}

static int vgpu_open(struct vfio_device *vdev)
{
	struct vgpu *u = container_of(vdev, struct vgpu, pci.vdev);
	int rc = nv_gpu_get(u->own.vf->gpu);

	if (rc)
		return rc;
	nv_vgpu_pci_start(&u->pci, u->own.vf, u->own.type);
	u->own.open++;
	return 0;
}

static void vgpu_close(struct vfio_device *vdev)
{
	struct vgpu *u = container_of(vdev, struct vgpu, pci.vdev);

	u->own.open--;
	nv_gpu_put(u->own.vf->gpu);
}

static const struct vfio_device_ops vgpu_ops = {
	.name = "nvidia-vgpu-vfio", .open_device = vgpu_open, .close_device = vgpu_close, NV_VGPU_PCI_OPS,
	NV_VFIO_EMULATED,
};

static int vgpu_probe(struct mdev_device *mdev)
{
	struct nv_vf *v = vf_of(mdev->type);
	struct vgpu *u;
	int rc;

	if (nv_fault_create)
		return -abs(nv_fault_create);
	u = vfio_alloc_device(vgpu, pci.vdev, &mdev->dev, &vgpu_ops);
	if (IS_ERR(u))
		return PTR_ERR(u);
	rc = nv_claim(&u->own, v, type_of(mdev->type), dev_name(&mdev->dev));
	if (rc)
		goto put;
	rc = vfio_register_emulated_iommu_dev(&u->pci.vdev);
	if (rc)
		goto unclaim;
	dev_set_drvdata(&mdev->dev, u);
	if (fault_vanish_ms)
		schedule_delayed_work(&v->vanish, msecs_to_jiffies(fault_vanish_ms));
	return 0;
unclaim:
	nv_unclaim(&u->own);
put:
	vfio_put_device(&u->pci.vdev);
	return rc;
}

static void vgpu_remove(struct mdev_device *mdev)
{
	struct vgpu *u = dev_get_drvdata(&mdev->dev);

	if (fault_remove_ms)
		msleep(fault_remove_ms);
	vfio_unregister_group_dev(&u->pci.vdev);	/* waits until no process has the device open */
	nv_unclaim(&u->own);
	vfio_put_device(&u->pci.vdev);
}

static unsigned int vgpu_available(struct mdev_type *mt)
{
	struct nv_vf *v = vf_of(mt);
	unsigned int n;

	mutex_lock(&v->gpu->lock);
	n = nv_room(v, type_of(mt));
	mutex_unlock(&v->gpu->lock);
	return n;
}

static ssize_t vgpu_description(struct mdev_type *mt, char *buf)
{
	const struct nv_type *t = type_of(mt);

	return sysfs_emit(buf, "num_heads=%d, frl_config=%d, framebuffer=%dM, max_resolution=%s, max_instance=%d\n",
			  t->heads, t->frl, t->fb_mib, t->res, t->max);
}

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct vgpu *u = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", u->params);
}

static ssize_t vgpu_params_store(struct device *dev, struct device_attribute *a, const char *buf, size_t n)
{
	struct vgpu *u = dev_get_drvdata(dev);

	if (n >= sizeof(u->params))
		return -EINVAL;
	strscpy(u->params, skip_spaces(buf), sizeof(u->params));	/* writing a space clears the parameters */
	strim(u->params);
	return n;
}
static DEVICE_ATTR_RW(vgpu_params);

static ssize_t vm_name_show(struct device *dev, struct device_attribute *a, char *buf)
{
	return sysfs_emit(buf, "\n");
}
static DEVICE_ATTR_RO(vm_name);

static struct attribute *vgpu_attrs[] = { &dev_attr_vgpu_params.attr, &dev_attr_vm_name.attr, NULL };
static const struct attribute_group vgpu_group = { .name = "nvidia", .attrs = vgpu_attrs };
static const struct attribute_group *vgpu_groups[] = { &vgpu_group, NULL };

static struct mdev_driver vgpu_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING, .probe = vgpu_probe, .remove = vgpu_remove,
	.get_available = vgpu_available, .show_description = vgpu_description,
	.driver = { .name = "nvidia-vgpu-vfio", .owner = THIS_MODULE, .mod_name = KBUILD_MODNAME, .dev_groups = vgpu_groups },
};

static void register_parent(struct nv_vf *v)	/* The caller holds nv_lock. */
{
	int i, n = v->gpu->model->ntypes;

	if (v->vendor || !n || v->registered || !v->gpu->bound)
		return;
	for (i = 0; i < n; i++) {
		/* another registration requires zeroed kobjects */
		memset(&v->type[i], 0, sizeof(v->type[i]));
		v->type[i].sysfs_name = v->gpu->model->types[i].id;
		v->type[i].pretty_name = v->gpu->model->types[i].name;
		v->types[i] = &v->type[i];
	}
	v->registered = !mdev_register_parent(&v->parent, &v->pdev->dev, &vgpu_driver, v->types, n);
}

void nv_mdev_unregister(struct nv_vf *v)
{
	if (v->registered)
		mdev_unregister_parent(&v->parent);
	v->registered = false;
}

static void reg_work(struct work_struct *w)
{
	struct nv_vf *v = container_of(w, struct nv_vf, reg.work);

	mutex_lock(&nv_lock);
	register_parent(v);
	mutex_unlock(&nv_lock);
}

/* Emulate a failure seen in the field: the driver registers the parent again, which removes all of its vGPUs. */
static void vanish_work(struct work_struct *w)
{
	struct nv_vf *v = container_of(w, struct nv_vf, vanish.work);

	mutex_lock(&nv_lock);
	if (v->registered) {
		nv_mdev_unregister(v);
		register_parent(v);
	}
	mutex_unlock(&nv_lock);
}

void nv_mdev_prepare(struct nv_vf *v)
{
	INIT_DELAYED_WORK(&v->reg, reg_work);
	INIT_DELAYED_WORK(&v->vanish, vanish_work);
}

void nv_mdev_want(struct nv_vf *v)
{
	if (fault_types_ms)
		schedule_delayed_work(&v->reg, msecs_to_jiffies(fault_types_ms));
	else
		register_parent(v);
}

/*
 * Emulate a creation that reports success but creates nothing: replace mdev_device_create() with this function.
 * The empty post_handler is required: without it, ftrace ignores the changed instruction pointer.
 */
static notrace noinline int create_nothing(void)
{
	return 0;
}

static int __kprobes silent_create(struct kprobe *p, struct pt_regs *regs)
{
	if (!nv_fault_create_silent)
		return 0;
	regs->ip = (unsigned long)create_nothing;
	return 1;
}

static void __kprobes silent_done(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}
static struct kprobe silent = { .symbol_name = "mdev_device_create", .pre_handler = silent_create, .post_handler = silent_done };

int nv_mdev_init(void)
{
	int rc = mdev_register_driver(&vgpu_driver);

	if (rc)
		return rc;
	if (register_kprobe(&silent)) {
		pr_warn("nvidia: no kprobe on mdev_device_create, fault_create_silent does nothing\n");
		silent.symbol_name = NULL;
	}
	return 0;
}

void nv_mdev_exit(void)
{
	if (silent.symbol_name)
		unregister_kprobe(&silent);
	mdev_unregister_driver(&vgpu_driver);
}
