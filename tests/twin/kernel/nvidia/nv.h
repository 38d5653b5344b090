/* SPDX-License-Identifier: GPL-2.0 */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/*
 * What the parts of the driver share.
 *
 * Locks: device_lock(PF) > device_lock(VF) > nv_lock > mdev core > gpu->lock.
 * Nothing that runs below the mdev core's create takes nv_lock.
 */
#ifndef NV_H
#define NV_H

#include <linux/device.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/workqueue.h>

#define NV_VERSION	"550.163.02"
#define NV_MAX_TYPES	32

struct nv_type {
	const char *id, *name;
	u8 fb_gib, heads, frl;
	const char *res;
	u8 max;			/* vGPUs of this type on one GPU */
};

struct nv_model {
	u16 device;		/* PCI id of the PF */
	const char *name;
	u8 fb_gib;
	const struct nv_type *types;
	int ntypes;
};

struct nv_gpu {			/* one per PF address ever seen; lives until the module goes */
	struct list_head node;
	char bdf[16];
	int minor;
	const struct nv_model *model;
	struct pci_dev *pdev;	/* valid while bound */
	bool bound;
	struct mutex lock;	/* everything below */
	int usage;		/* open device nodes and open vGPUs */
	bool unbind_locked;
	int used, count, size;	/* GiB in use, vGPUs, their common size in equal-size mode */
	struct proc_dir_entry *proc;
	struct delayed_work enable;	/* fault_sriov_async_ms */
	int enable_n;
};

struct nv_vf {
	struct list_head node;
	struct pci_dev *pdev;
	struct nv_gpu *gpu;
	bool foreign;		/* bound to another driver than this one */
	bool registered;
	const struct nv_type *cur;	/* the one vGPU of this VF */
	char uuid[40];
	int open;
	char params[256];	/* vendor-specific VFIO only */
	struct mdev_parent parent;
	struct mdev_type type[NV_MAX_TYPES], *types[NV_MAX_TYPES];
	struct delayed_work reg, vanish;
};

extern struct mutex nv_lock;	/* the lists, and (un)registration of mdev parents */
extern struct list_head nv_gpus, nv_vfs;

/* nv-main.c: parameters that several parts read */
extern int nv_sriov_sysfs, nv_vendor_vfio, nv_heterogeneous, nv_foreign_parents;
extern int nv_fault_create, nv_fault_create_silent;
extern char *nv_registry_dwords;

/* nv-gpu.c */
struct nv_gpu *nv_gpu_of(struct pci_dev *pf);	/* nv_lock held */
bool nv_gpu_alive(struct nv_gpu *g);
int nv_gpu_get(struct nv_gpu *g);
void nv_gpu_put(struct nv_gpu *g);
void nv_gpu_drain(struct nv_gpu *g);
void nv_gpu_request_lock(struct nv_gpu *g, bool lock);
int nv_chardev_init(void);
void nv_chardev_exit(void);
void nv_chardev_add(struct nv_gpu *g);
void nv_chardev_del(struct nv_gpu *g);
void nv_gpus_free(void);

/* nv-types.c */
const struct nv_model *nv_model_of(u16 device);
bool nv_fits(struct nv_gpu *g, const struct nv_type *t);	/* gpu->lock held */
int nv_claim(struct nv_vf *v, const struct nv_type *t, const char *uuid);
void nv_unclaim(struct nv_vf *v);

/* nv-mdev.c */
int nv_mdev_init(void);
void nv_mdev_exit(void);
void nv_mdev_prepare(struct nv_vf *v);
void nv_mdev_want(struct nv_vf *v);		/* nv_lock held */
void nv_mdev_unregister(struct nv_vf *v);	/* nv_lock held */

/* nv-pci.c */
extern struct pci_driver nv_driver;
int nv_sriov_configure(struct pci_dev *pdev, int n);
struct nv_vf *nv_vf_add(struct pci_dev *pdev, bool foreign);
void nv_vf_del(struct nv_vf *v);

/* nv-foreign.c */
int nv_foreign_init(void);
void nv_foreign_exit(void);
void nv_foreign_scan(struct pci_dev *pf);

/* nv-vendor-vfio.c */
extern const struct attribute_group nv_vendor_group;

/* nv-procfs.c */
int nv_procfs_init(void);
void nv_procfs_exit(void);
void nv_procfs_add(struct nv_gpu *g);
void nv_procfs_del(struct nv_gpu *g);
void nv_gpu_uuid(struct nv_gpu *g, char *buf, size_t n);

#endif
