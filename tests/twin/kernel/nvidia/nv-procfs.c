// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * /proc/driver/nvidia: version, params, and gpus/<address>/{information,unbindLock}, as in NVIDIA's driver. The files
 * gpus/<address>/{vgpus,twin} exist only here: the emulated nvidia-smi reads the driver's state from them. NVIDIA's
 * nvidia-smi uses ioctls instead.
 */
#include <linux/crc32.h>
#include <linux/ctype.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include "nv.h"

static struct proc_dir_entry *root, *gpus_dir;

static int version_show(struct seq_file *s, void *unused)
{
	seq_printf(s, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  Wed Apr  9 01:30:21 UTC 2025\n", NV_VERSION);
	seq_printf(s, "GCC version:  %s\n", CONFIG_CC_VERSION_TEXT);
	return 0;
}

static int params_show(struct seq_file *s, void *unused)
{
	seq_printf(s, "RegistryDwords: \"%s\"\n", nv_registry_dwords);
	return 0;
}

/* Return a UUID that depends only on the GPU's address. */
void nv_gpu_uuid(struct nv_gpu *g, char *buf, size_t n)
{
	u32 a = crc32(1, g->bdf, strlen(g->bdf)), b = crc32(a, g->bdf, strlen(g->bdf)), c = crc32(b, g->bdf, strlen(g->bdf)), d = crc32(c, g->bdf, strlen(g->bdf));

	snprintf(buf, n, "GPU-%08x-%04x-%04x-%04x-%04x%08x", a, b >> 16, b & 0xffff, c >> 16, c & 0xffff, d);
}

static int information_show(struct seq_file *s, void *unused)
{
	struct nv_gpu *g = s->private;
	char uuid[48], lower[24];
	int i;

	nv_gpu_uuid(g, uuid, sizeof(uuid));
	seq_printf(s, "Model: \t\t %s\n", g->model->name);
	seq_printf(s, "IRQ:   \t\t %d\n", g->pdev->irq);
	seq_printf(s, "GPU UUID: \t %s\n", uuid);
	for (i = 0; i < sizeof(lower) - 1 && g->model->vbios[i]; i++)
		lower[i] = tolower(g->model->vbios[i]);
	lower[i] = 0;
	seq_printf(s, "Video BIOS: \t %s\n", lower);
	seq_puts(s, "Bus Type: \t PCIe\n");
	seq_puts(s, "DMA Size: \t 47 bits\n");
	seq_puts(s, "DMA Mask: \t 0x7fffffffffff\n");
	seq_printf(s, "Bus Location: \t %s\n", g->bdf);
	seq_printf(s, "Device Minor: \t %d\n", g->minor);
	seq_puts(s, "GPU Firmware: \t N/A\n");
	seq_puts(s, "GPU Excluded:\t No\n");
	return 0;
}

/* one line per vGPU: "<function> <UUID, or - for vendor-specific VFIO> <type ID> <open count>" */
static int vgpus_show(struct seq_file *s, void *unused)
{
	struct nv_gpu *g = s->private;
	struct nv_vgpu *u;

	mutex_lock(&g->lock);
	list_for_each_entry(u, &g->vgpus, node)
		seq_printf(s, "%s %s %s %d\n", pci_name(u->vf->pdev), u->uuid, u->type->id, u->open);
	mutex_unlock(&g->lock);
	return 0;
}

static int twin_show(struct seq_file *s, void *unused)
{
	nv_mig_show(s, s->private);
	nv_fabric_show(s, s->private);
	return 0;
}

static int twin_open(struct inode *inode, struct file *f)
{
	return single_open(f, twin_show, pde_data(inode));
}

static ssize_t twin_write(struct file *f, const char __user *ubuf, size_t n, loff_t *pos)
{
	char line[64];
	int rc;

	if (n >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, ubuf, n))
		return -EFAULT;
	line[n] = 0;
	if (!strncmp(line, "fabric ", 7) || !strncmp(line, "partition ", 10))
		rc = nv_fabric_command(pde_data(file_inode(f)), line);
	else
		rc = nv_mig_command(pde_data(file_inode(f)), line);
	return rc ?: n;
}

static const struct proc_ops twin_ops = {
	.proc_open = twin_open, .proc_read = seq_read, .proc_lseek = seq_lseek, .proc_write = twin_write, .proc_release = single_release,
};

/* The open file stores the written value. The value takes effect when the file is closed. */
enum { ASKED_NOTHING, ASKED_UNLOCK, ASKED_LOCK };
struct lock_file { struct nv_gpu *gpu; int asked; };

static int unbind_lock_show(struct seq_file *s, void *unused)
{
	struct lock_file *l = s->private;

	seq_printf(s, "%d\n", l->gpu->unbind_locked);
	return 0;
}

static int unbind_lock_open(struct inode *inode, struct file *f)
{
	struct lock_file *l = kzalloc(sizeof(*l), GFP_KERNEL);
	int rc;

	if (!l)
		return -ENOMEM;
	l->gpu = pde_data(inode);
	rc = single_open(f, unbind_lock_show, l);
	if (rc)
		kfree(l);
	return rc;
}

static ssize_t unbind_lock_write(struct file *f, const char __user *ubuf, size_t n, loff_t *pos)
{
	struct lock_file *l = ((struct seq_file *)f->private_data)->private;
	unsigned int value;
	int rc = kstrtouint_from_user(ubuf, n, 10, &value);

	if (rc)
		return rc;
	l->asked = value == 1 ? ASKED_LOCK : ASKED_UNLOCK;
	return n;
}

static int unbind_lock_release(struct inode *inode, struct file *f)
{
	struct lock_file *l = ((struct seq_file *)f->private_data)->private;

	if (l->asked)
		nv_gpu_request_lock(l->gpu, l->asked == ASKED_LOCK);
	kfree(l);
	return single_release(inode, f);
}

static const struct proc_ops unbind_lock_ops = {
	.proc_open = unbind_lock_open, .proc_read = seq_read, .proc_lseek = seq_lseek,
	.proc_write = unbind_lock_write, .proc_release = unbind_lock_release,
};

void nv_procfs_add(struct nv_gpu *g)
{
	g->proc = proc_mkdir(g->bdf, gpus_dir);
	if (!g->proc)
		return;
	proc_create_single_data("information", 0444, g->proc, information_show, g);
	proc_create_single_data("vgpus", 0444, g->proc, vgpus_show, g);
	proc_create_data("twin", 0644, g->proc, &twin_ops, g);
	proc_create_data("unbindLock", 0644, g->proc, &unbind_lock_ops, g);
}

void nv_procfs_del(struct nv_gpu *g)
{
	proc_remove(g->proc);
	g->proc = NULL;
}

int nv_procfs_init(void)
{
	root = proc_mkdir("driver/nvidia", NULL);
	if (!root)
		return -ENOMEM;
	proc_create_single("version", 0444, root, version_show);
	proc_create_single("params", 0444, root, params_show);
	gpus_dir = proc_mkdir("gpus", root);
	if (gpus_dir)
		return 0;
	proc_remove(root);
	return -ENOMEM;
}

void nv_procfs_exit(void)
{
	proc_remove(root);
}
