// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/* vendor_vfio=1: the vendor-specific VFIO framework's attributes in <VF>/nvidia/.  No VFIO device is behind them. */
#include "nv.h"

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	const struct nv_model *m = v->gpu->model;
	int i, n = sysfs_emit(buf, "ID    : vGPU Name\n");

	mutex_lock(&v->gpu->lock);
	for (i = 0; i < m->ntypes; i++)
		if (!v->cur && nv_fits(v->gpu, &m->types[i]))
			n += sysfs_emit_at(buf, n, "%-6s: %s\n", m->types[i].id, m->types[i].name);
	mutex_unlock(&v->gpu->lock);
	return n;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	ssize_t n;

	mutex_lock(&v->gpu->lock);
	n = sysfs_emit(buf, "%s\n", v->cur ? v->cur->id : "0");
	mutex_unlock(&v->gpu->lock);
	return n;
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *a, const char *buf, size_t n)
{
	struct nv_vf *v = dev_get_drvdata(dev);
	const struct nv_model *m = v->gpu->model;
	int i;

	if (nv_fault_create)
		return -abs(nv_fault_create);
	if (nv_fault_create_silent)
		return n;
	if (sysfs_streq(buf, "0")) {
		nv_unclaim(v);
		return n;
	}
	for (i = 0; i < m->ntypes; i++)
		if (sysfs_streq(buf, m->types[i].id))
			return nv_claim(v, &m->types[i], "-") ? -EPERM : n;
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

/* Without a type the VF has neither; without MIG and placement there is nothing to tell but 0. */
static ssize_t zero_with_type(struct device *dev, struct device_attribute *a, char *buf)
{
	struct nv_vf *v = dev_get_drvdata(dev);

	return v->cur ? sysfs_emit(buf, "0\n") : -ENXIO;
}
static struct device_attribute dev_attr_gpu_instance_id = __ATTR(gpu_instance_id, 0444, zero_with_type, NULL);
static struct device_attribute dev_attr_placement_id = __ATTR(placement_id, 0444, zero_with_type, NULL);

static struct attribute *vf_attrs[] = {
	&dev_attr_creatable_vgpu_types.attr, &dev_attr_current_vgpu_type.attr, &dev_attr_vgpu_params.attr,
	&dev_attr_gpu_instance_id.attr, &dev_attr_placement_id.attr, NULL
};
const struct attribute_group nv_vendor_group = { .name = "nvidia", .attrs = vf_attrs };
