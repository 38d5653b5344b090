// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * The vendor-specific VFIO framework: attributes in <VF>/nvidia/. The VF itself is the VFIO device. This driver
 * registers the device, so a process can open it.
 */
#include "nv.h"
#include "nv-compat.h"

struct nv_vf_vfio {
	struct nv_vgpu_pci pci;
	struct nv_vf *vf;
};

static int vf_open(struct vfio_device *vdev)
{
	struct nv_vf_vfio *d = container_of(vdev, struct nv_vf_vfio, pci.vdev);
	struct nv_vf *v = d->vf;
	int rc = nv_gpu_get(v->gpu);

	if (rc)
		return rc;
	mutex_lock(&v->gpu->lock);
	if (v->own.type) {
		nv_vgpu_pci_start(&d->pci, v, v->own.type);
		v->own.open++;
	} else {
		rc = -ENODEV;		/* a VF without a vGPU type */
	}
	mutex_unlock(&v->gpu->lock);
	if (rc)
		nv_gpu_put(v->gpu);
	return rc;
}

static void vf_close(struct vfio_device *vdev)
{
	struct nv_vf *v = container_of(vdev, struct nv_vf_vfio, pci.vdev)->vf;

	mutex_lock(&v->gpu->lock);
	v->own.open--;
	mutex_unlock(&v->gpu->lock);
	nv_gpu_put(v->gpu);
}

static const struct vfio_device_ops vf_ops = {
	.name = "nvidia-vgpu-vfio", .open_device = vf_open, .close_device = vf_close, NV_VGPU_PCI_OPS,
	NV_VFIO_PHYSICAL,
};

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	const struct nv_model *m = v->gpu->model;
	int i, n = nv_creatable_format ? 0 : sysfs_emit(buf, "ID    : vGPU Name\n");

	mutex_lock(&v->gpu->lock);
	for (i = 0; i < m->ntypes; i++) {
		if (!nv_room(v, &m->types[i]))
			continue;
		if (nv_creatable_format)
			n += sysfs_emit_at(buf, n, "%s %s\n", m->types[i].name, m->types[i].id);
		else
			n += sysfs_emit_at(buf, n, "%-6s: %s\n", m->types[i].id, m->types[i].name);
	}
	mutex_unlock(&v->gpu->lock);
	return n;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	ssize_t n;

	mutex_lock(&v->gpu->lock);
	n = sysfs_emit(buf, "%s\n", v->own.type ? v->own.type->id : "0");
	mutex_unlock(&v->gpu->lock);
	return n;
}

static int clear_type(struct nv_vf *v)
{
	int open;

	mutex_lock(&v->gpu->lock);
	open = v->own.type ? v->own.open : 0;
	mutex_unlock(&v->gpu->lock);
	if (open)
		return -EPERM;
	nv_unclaim(&v->own);
	return 0;
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *a, const char *buf, size_t n)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	const struct nv_model *m = v->gpu->model;
	int i;

	if (sysfs_streq(buf, "0"))
		return clear_type(v) ?: n;
	if (nv_fault_create)
		return -abs(nv_fault_create);
	if (nv_fault_create_silent)
		return n;
	if (v->own.type)
		return -EINVAL;		/* before another type, 0 must be written */
	for (i = 0; i < m->ntypes; i++)
		if (sysfs_streq(buf, m->types[i].id))
			return nv_claim(&v->own, v, &m->types[i], "-") ?: n;
	return -EINVAL;
}
static DEVICE_ATTR_RW(current_vgpu_type);

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", v->params);
}

static ssize_t vgpu_params_store(struct device *dev, struct device_attribute *a, const char *buf, size_t n)
{
	struct nv_vf *v = dev_get_drvdata(dev);

	if (n >= sizeof(v->params))
		return -EINVAL;
	strscpy(v->params, skip_spaces(buf), sizeof(v->params));
	strim(v->params);
	return n;
}
static DEVICE_ATTR_RW(vgpu_params);

/* A VF without a type has neither a GPU instance nor a placement. */
static ssize_t gpu_instance_id_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	ssize_t n = -ENXIO;

	mutex_lock(&v->gpu->lock);
	if (v->own.type)
		n = sysfs_emit(buf, "%d\n", v->own.gi ? v->own.gi->id : 0);
	mutex_unlock(&v->gpu->lock);
	return n;
}
static DEVICE_ATTR_RO(gpu_instance_id);

static ssize_t placement_id_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	ssize_t n = -ENXIO;

	mutex_lock(&v->gpu->lock);
	if (v->own.type)
		n = sysfs_emit(buf, "%d\n", v->own.start / 1024);
	mutex_unlock(&v->gpu->lock);
	return n;
}
static DEVICE_ATTR_RO(placement_id);

static struct attribute *vf_attrs[] = {
	&dev_attr_creatable_vgpu_types.attr, &dev_attr_current_vgpu_type.attr, &dev_attr_vgpu_params.attr,
	&dev_attr_gpu_instance_id.attr, &dev_attr_placement_id.attr, NULL
};
static const struct attribute_group vf_group = { .name = "nvidia", .attrs = vf_attrs };

int nv_vendor_add(struct nv_vf *v)
{
	struct nv_vf_vfio *d = vfio_alloc_device(nv_vf_vfio, pci.vdev, &v->pdev->dev, &vf_ops);
	int rc;

	if (IS_ERR(d))
		return PTR_ERR(d);
	d->vf = v;
	rc = vfio_register_group_dev(&d->pci.vdev);
	if (rc)
		goto put;
	v->vfio = d;
	rc = device_add_group(&v->pdev->dev, &vf_group);
	if (!rc)
		return 0;
	vfio_unregister_group_dev(&d->pci.vdev);
put:
	vfio_put_device(&d->pci.vdev);
	return rc;
}

void nv_vendor_del(struct nv_vf *v)
{
	device_remove_group(&v->pdev->dev, &vf_group);
	vfio_unregister_group_dev(&v->vfio->pci.vdev);	/* waits until no process has the device open */
	vfio_put_device(&v->vfio->pci.vdev);
}
