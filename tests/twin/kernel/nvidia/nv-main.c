// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * nvidia - an emulation of NVIDIA's vGPU host driver: the same name and interfaces, on the
 * kernel's real PCI, mdev, and VFIO cores, but without a GPU.
 *
 * The driver is modeled on public sources: the published kernel interface layer, vendor
 * documentation, and logs from the field. It contains no code from NVIDIA.
 */
#include <linux/dmi.h>
#include <linux/module.h>
#include <linux/version.h>
#include "nv.h"

DEFINE_MUTEX(nv_lock);
LIST_HEAD(nv_gpus);
LIST_HEAD(nv_vfs);

char *nv_registry_dwords = "";
module_param_named(NVreg_RegistryDwords, nv_registry_dwords, charp, 0444);
MODULE_PARM_DESC(NVreg_RegistryDwords, "shown in /proc/driver/nvidia/params, as with NVIDIA's driver; no effect");

/* variants of the driver */
int nv_sriov_sysfs;
module_param_named(sriov_sysfs, nv_sriov_sysfs, int, 0444);
MODULE_PARM_DESC(sriov_sysfs, "0: no .sriov_configure, as in the published driver, so VFs are enabled through pci-pf-stub; 1: writes to sriov_numvfs work");
int nv_vendor_vfio = -1;
module_param_named(vendor_vfio, nv_vendor_vfio, int, 0444);
MODULE_PARM_DESC(vendor_vfio, "1: VFs have nvidia/creatable_vgpu_types and current_vgpu_type instead of mdev; -1: only from kernel 6.8 on");
int nv_creatable_format;
module_param_named(creatable_format, nv_creatable_format, int, 0644);
MODULE_PARM_DESC(creatable_format, "format of creatable_vgpu_types: 0 '557   : NVIDIA A40-1Q' with a header, 1 'NVIDIA A40-1Q 557'");
int nv_heterogeneous;
module_param_named(heterogeneous, nv_heterogeneous, int, 0644);
MODULE_PARM_DESC(heterogeneous, "1: mixed-size mode on all GPUs that support it, regardless of nvidia-smi vgpu -shm");
int nv_foreign_parents;
module_param_named(foreign_parents, nv_foreign_parents, int, 0644);
MODULE_PARM_DESC(foreign_parents, "1: VFs that are bound to another driver also become mdev parents, with directories such as vfio-pci-575");

/* faults on both frameworks */
int nv_fault_create;
module_param_named(fault_create, nv_fault_create, int, 0644);
MODULE_PARM_DESC(fault_create, "errno of each creation, such as 5 for EIO");
int nv_fault_create_silent;
module_param_named(fault_create_silent, nv_fault_create_silent, int, 0644);
MODULE_PARM_DESC(fault_create_silent, "1: a creation reports success, but no vGPU appears");

/* Settings of the machine from the SMBIOS OEM strings "nvidia.NAME=NUMBER". Module parameters override these settings. */
static int __init read_machine(void)
{
	const struct dmi_device *d = NULL;
	int vendor = LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0);

	while ((d = dmi_find_device(DMI_DEV_TYPE_OEM_STRING, NULL, d))) {
		if (strncmp(d->name, "nvidia.", 7))
			continue;
		if (sscanf(d->name, "nvidia.vendor_vfio=%d", &vendor) != 1 &&
		    sscanf(d->name, "nvidia.creatable_format=%d", &nv_creatable_format) != 1) {
			pr_err("nvidia: the machine's setting \"%s\" is not understood\n", d->name);
			return -EINVAL;
		}
	}
	if (nv_vendor_vfio < 0)
		nv_vendor_vfio = vendor;
	return 0;
}

static int __init nv_init(void)
{
	int rc = read_machine() ?: nv_procfs_init();

	if (rc)
		return rc;
	rc = nv_chardev_init();
	if (rc)
		goto procfs;
	rc = nv_mdev_init();
	if (rc)
		goto chardev;
	rc = nv_foreign_init();
	if (rc)
		goto mdev;
	rc = nv_nvswitch_init();
	if (rc)
		goto foreign;
	if (nv_sriov_sysfs)
		nv_driver.sriov_configure = nv_sriov_configure;
	rc = pci_register_driver(&nv_driver);
	if (rc)
		goto nvswitch;
	pr_info("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  " NV_VERSION "\n");
	return 0;
nvswitch:
	nv_nvswitch_exit();
foreign:
	nv_foreign_exit();
mdev:
	nv_mdev_exit();
chardev:
	nv_chardev_exit();
procfs:
	nv_procfs_exit();
	return rc;
}

static void __exit nv_exit(void)
{
	pci_unregister_driver(&nv_driver);
	nv_nvswitch_exit();
	nv_foreign_exit();
	nv_mdev_exit();
	nv_chardev_exit();
	nv_procfs_exit();
	nv_gpus_free();
}
module_init(nv_init);
module_exit(nv_exit);
MODULE_LICENSE("GPL");	/* the mdev and VFIO cores export symbols only to GPL modules */
MODULE_VERSION(NV_VERSION);
MODULE_ALIAS("nvidia_vgpu_vfio");
MODULE_DESCRIPTION("Interfaces of the NVIDIA vGPU host driver, without a GPU");
