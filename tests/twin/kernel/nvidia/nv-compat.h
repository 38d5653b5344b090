/* SPDX-License-Identifier: GPL-2.0 */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/* Differences between the kernels for which the driver is built: 6.1 (Debian 12) to 6.12 (Debian 13). */
#ifndef NV_COMPAT_H
#define NV_COMPAT_H

#include <linux/device/class.h>
#include <linux/version.h>
#include <linux/vfio.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define nv_class_create(name)	class_create(THIS_MODULE, name)
#else
#define nv_class_create(name)	class_create(name)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define NV_DEVNODE_CONST
/* On this kernel, the driver must free its VFIO device. Later kernels free the device. */
static inline void nv_vfio_release(struct vfio_device *vdev)
{
	vfio_free_device(vdev);
}
#define NV_VFIO_EMULATED	.release = nv_vfio_release
#define NV_VFIO_PHYSICAL	.release = nv_vfio_release
#else
#define NV_DEVNODE_CONST	const
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define NV_VFIO_DETACH(kind)
#else
#define NV_VFIO_DETACH(kind)	.detach_ioas = vfio_iommufd_ ## kind ## _detach_ioas,
#endif
#define NV_VFIO_IOMMUFD(kind)						\
	NV_VFIO_DETACH(kind)						\
	.bind_iommufd = vfio_iommufd_ ## kind ## _bind,			\
	.unbind_iommufd = vfio_iommufd_ ## kind ## _unbind,		\
	.attach_ioas = vfio_iommufd_ ## kind ## _attach_ioas
#define NV_VFIO_EMULATED	NV_VFIO_IOMMUFD(emulated)
#define NV_VFIO_PHYSICAL	NV_VFIO_IOMMUFD(physical)
#endif

#endif
