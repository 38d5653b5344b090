/* SPDX-License-Identifier: GPL-2.0 */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/*
 * Declarations that all parts of the driver share.
 *
 * Lock order: device_lock(PF) > device_lock(VF) > nv_lock > mdev core > gpu->lock.
 * Functions that the mdev core calls during a creation must not take nv_lock.
 */
#ifndef NV_H
#define NV_H

#include <linux/device.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>

#define NV_VERSION	"550.163.02"
#define NV_MAX_TYPES	48
#define NV_MAX_SLICES	8

struct nv_type {
	const char *id, *name;
	int fb_mib;
	u8 heads, frl;
	const char *res;
	int max;		/* maximum number of vGPUs of this type on one GPU */
	int profile;		/* profile of the required GPU instance; -1: time-sliced type */
	int per_gi;
};

struct nv_profile {		/* a profile of GPU instances */
	int id;
	const char *name, *gib;
	int units[6];		/* SM, CE, DEC, ENC, JPEG, OFA */
	int memory_slices, compute_slices, max;
	int nstarts, starts[NV_MAX_SLICES];
};

struct nv_model {
	u16 device;		/* PCI device ID of the PF; 0: any other device, without vGPU support */
	u16 subsystem;		/* 0: any subsystem ID */
	const char *name;
	int fb_mib;		/* memory that vGPUs share */
	int memory_mib, watts;	/* values that nvidia-smi shows */
	const char *architecture, *vbios;
	bool sriov_vgpu;	/* false: vGPUs are mdevs whose parent is the PF */
	bool mixed_sizes;
	const struct nv_type *types;
	int ntypes;
	const struct nv_profile *profiles;
	int nprofiles;		/* 0: the model does not support MIG */
	bool mig_needs_reset;
	int memory_slices, compute_slices;
};

struct nv_gi {			/* a GPU instance */
	struct list_head node;
	int id;
	const struct nv_profile *profile;
	int start;
	u8 ci[NV_MAX_SLICES];	/* compute slices by compute instance ID; 0: no such instance */
	u8 ci_start[NV_MAX_SLICES];
};

struct nv_gpu {			/* one per PF address; freed when the module is unloaded */
	struct list_head node;
	char bdf[16];
	int minor;
	const struct nv_model *model;
	struct pci_dev *pdev;	/* valid only while the GPU is bound */
	bool bound;
	struct mutex lock;	/* protects all following members */
	int usage;		/* number of open device nodes and open vGPUs */
	bool unbind_locked;
	struct list_head vgpus, gis;
	bool mig, mig_pending, mixed;
	u8 module_id;		/* module ID on an NVSwitch board; 0: on no board */
	bool registered;	/* registered with the fabric; protected by nv_lock */
	struct proc_dir_entry *proc;
	struct delayed_work enable;	/* enables VFs later (fault_sriov_async_ms) */
	int enable_n;
};

struct nv_vgpu {		/* type is NULL while the vGPU does not exist */
	struct list_head node;
	struct nv_vf *vf;
	const struct nv_type *type;
	struct nv_gi *gi;
	int start;		/* offset (MiB) in the framebuffer of the GPU instance or, without one, of the GPU */
	char uuid[40];
	int open;
};

struct nv_vf {			/* a function with vGPUs: a VF, or a PF without SR-IOV vGPUs */
	struct list_head node;
	struct pci_dev *pdev;
	struct nv_gpu *gpu;
	bool foreign;		/* bound to another driver */
	bool registered;
	int partition;		/* active fabric partition of the VF, or -1; protected by nv_lock */
	struct mdev_parent parent;
	struct mdev_type type[NV_MAX_TYPES], *types[NV_MAX_TYPES];
	struct delayed_work reg, vanish;
	/* members for vendor-specific VFIO */
	bool vendor;
	struct nv_vgpu own;
	char params[256];
	struct nv_vf_vfio *vfio;
};

struct nv_vgpu_pci {		/* the PCI function of a vGPU that a VM opens */
	struct vfio_device vdev;	/* must be the first member, as VFIO requires */
	struct mutex lock;	/* protects cfg */
	u16 device, subsystem;
	struct nv_vf *vf;	/* set while the vGPU is open and CUDA requires a fabric partition */
	u8 cfg[PCI_CFG_SPACE_SIZE], wm[PCI_CFG_SPACE_SIZE];	/* values and write masks */
};

extern struct mutex nv_lock;	/* protects the lists and the registration of mdev parents */
extern struct list_head nv_gpus, nv_vfs;
extern struct class *nv_class;

/* nv-main.c: parameters that several files read */
extern int nv_sriov_sysfs, nv_vendor_vfio, nv_heterogeneous, nv_foreign_parents, nv_creatable_format;
extern int nv_fault_create, nv_fault_create_silent;
extern char *nv_registry_dwords;

/* nv-gpu.c */
struct nv_gpu *nv_gpu_of(struct pci_dev *pf);	/* the caller holds nv_lock */
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

/* nv-models.c, generated from tests/twin/models */
extern const struct nv_model nv_models[];

/* nv-types.c */
const struct nv_model *nv_model_of(struct pci_dev *pf);
int nv_room(struct nv_vf *v, const struct nv_type *t);	/* the caller holds gpu->lock */
bool nv_mixed(struct nv_gpu *g);
int nv_claim(struct nv_vgpu *u, struct nv_vf *v, const struct nv_type *t, const char *uuid);
void nv_unclaim(struct nv_vgpu *u);

/* nv-mig.c */
void nv_mig_init(struct nv_gpu *g);
void nv_mig_wipe(struct nv_gpu *g);		/* the caller holds gpu->lock */
struct nv_gi *nv_gi_for(struct nv_gpu *g, const struct nv_type *t, int *room);	/* the caller holds gpu->lock */
void nv_mig_show(struct seq_file *s, struct nv_gpu *g);
int nv_mig_command(struct nv_gpu *g, char *line);

/* nv-mdev.c */
int nv_mdev_init(void);
void nv_mdev_exit(void);
void nv_mdev_prepare(struct nv_vf *v);
void nv_mdev_want(struct nv_vf *v);		/* the caller holds nv_lock */
void nv_mdev_unregister(struct nv_vf *v);	/* the caller holds nv_lock */

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
int nv_vendor_add(struct nv_vf *v);
void nv_vendor_del(struct nv_vf *v);

/* nv-vgpu-pci.c */
int nv_vgpu_pci_init(struct vfio_device *vdev);
void nv_vgpu_pci_start(struct nv_vgpu_pci *p, struct nv_vf *v, const struct nv_type *t);
ssize_t nv_vgpu_pci_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos);
ssize_t nv_vgpu_pci_write(struct vfio_device *vdev, const char __user *buf, size_t count, loff_t *pos);
long nv_vgpu_pci_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg);
#define NV_VGPU_PCI_OPS .init = nv_vgpu_pci_init, .read = nv_vgpu_pci_read, .write = nv_vgpu_pci_write, .ioctl = nv_vgpu_pci_ioctl

/* nv-nvswitch.c */
int nv_nvswitch_init(void);
void nv_nvswitch_exit(void);
void nv_fabric_init(struct nv_gpu *g, struct pci_dev *pf);
bool nv_needs_partition(struct nv_vf *v, const struct nv_type *t);
void nv_fabric_show(struct seq_file *s, struct nv_gpu *g);
void nv_fabric_wipe(struct nv_gpu *g);		/* the caller holds nv_lock */
int nv_fabric_command(struct nv_gpu *g, const char *line);

/* nv-procfs.c */
int nv_procfs_init(void);
void nv_procfs_exit(void);
void nv_procfs_add(struct nv_gpu *g);
void nv_procfs_del(struct nv_gpu *g);
void nv_gpu_uuid(struct nv_gpu *g, char *buf, size_t n);

#endif
