// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * The state of MIG mode, GPU instances, compute instances, and mixed-size mode. The emulated nvidia-smi reads and
 * changes this state through gpus/<address>/twin. NVIDIA's nvidia-smi uses ioctls instead.
 */
#include <linux/kernel_read_file.h>
#include <linux/module.h>
#include <linux/vmalloc.h>
#include "nv.h"

/* Replaces a card's persistent memory, which an emulated card lacks. The emulated nvidia-smi writes this file. Lines: "<address> mig 1" */
#define INFOROM	"/var/lib/nvidia/twin-inforom"

static int mig_auto_reset;
module_param(mig_auto_reset, int, 0644);
MODULE_PARM_DESC(mig_auto_reset, "1: if a change of MIG mode requires a reset and the GPU is not in use, the driver resets the GPU");

static bool inforom_says(const char *bdf, const char *what)
{
	char line[48], *text;
	bool found = false;
	void *buf = NULL;
	ssize_t n = kernel_read_file_from_path(INFOROM, 0, &buf, SZ_64K, NULL, READING_UNKNOWN);

	if (n < 0)
		return false;
	text = kstrndup(buf, n, GFP_KERNEL);
	vfree(buf);
	snprintf(line, sizeof(line), "%s %s\n", bdf, what);
	found = text && strstr(text, line);
	kfree(text);
	return found;
}

void nv_mig_init(struct nv_gpu *g)
{
	INIT_LIST_HEAD(&g->gis);
	g->mig = g->mig_pending = g->model->mig_needs_reset && inforom_says(g->bdf, "mig 1");
}

void nv_mig_wipe(struct nv_gpu *g)
{
	struct nv_gi *gi, *next;

	list_for_each_entry_safe(gi, next, &g->gis, node) {
		list_del(&gi->node);
		kfree(gi);
	}
	g->mixed = false;
}

static int gi_room(struct nv_gpu *g, struct nv_gi *gi, const struct nv_type *t)
{
	struct nv_vgpu *u;
	int n = t->per_gi;

	list_for_each_entry(u, &g->vgpus, node)
		if (u->gi == gi) {
			if (u->type->fb_mib != t->fb_mib)
				return 0;
			n--;
		}
	return max(n, 0);
}

/* Return the GPU instance for the next vGPU of the type. If all suitable instances are full, return any of them; without one, NULL. */
struct nv_gi *nv_gi_for(struct nv_gpu *g, const struct nv_type *t, int *room)
{
	struct nv_gi *gi, *best = NULL;
	int n, best_n = 0;

	*room = 0;
	list_for_each_entry(gi, &g->gis, node) {
		if (gi->profile->id != t->profile)
			continue;
		n = gi_room(g, gi, t);
		*room += n;
		if (!best || (!best_n && n)) {
			best = gi;
			best_n = n;
		}
	}
	return best;
}

static bool gi_used(struct nv_gpu *g, struct nv_gi *gi)
{
	struct nv_vgpu *u;

	list_for_each_entry(u, &g->vgpus, node)
		if (u->gi == gi)
			return true;
	return false;
}

static const struct nv_profile *profile_of(struct nv_gpu *g, int id)
{
	int i;

	for (i = 0; i < g->model->nprofiles; i++)
		if (g->model->profiles[i].id == id)
			return &g->model->profiles[i];
	return NULL;
}

static u32 slices(int start, int n)
{
	return GENMASK(start + n - 1, start);
}

/* Return the memory slices in use. *compute: compute slices in use; *same: number of GPU instances with the profile. */
static u32 in_use(struct nv_gpu *g, const struct nv_profile *p, int *compute, int *same)
{
	struct nv_gi *gi;
	u32 used = 0;

	*compute = *same = 0;
	list_for_each_entry(gi, &g->gis, node) {
		used |= slices(gi->start, gi->profile->memory_slices);
		*compute += gi->profile->compute_slices;
		*same += gi->profile == p;
	}
	return used;
}

static int free_instances(struct nv_gpu *g, const struct nv_profile *p)
{
	int compute, same, i, n = 0;
	u32 used = in_use(g, p, &compute, &same), m;

	for (i = 0; i < p->nstarts; i++) {
		m = slices(p->starts[i], p->memory_slices);
		if (!(used & m)) {
			used |= m;
			n++;
		}
	}
	n = min(n, (g->model->compute_slices - compute) / p->compute_slices);
	return max(0, min(n, p->max - same));
}

/* IDs from public logs, with eight slices: all 0, half 1 or 2, quarter 3 to 6, eighth 7 to 14; with four: all 0, half 1 or 2, quarter 3 to 6 */
static int gi_id(struct nv_gpu *g, const struct nv_profile *p, int start)
{
	return g->model->memory_slices / p->memory_slices - 1 + start / p->memory_slices;
}

static struct nv_gi *find_gi(struct nv_gpu *g, int id)
{
	struct nv_gi *gi;

	list_for_each_entry(gi, &g->gis, node)
		if (gi->id == id)
			return gi;
	return NULL;
}

static int create_gi(struct nv_gpu *g, int profile, int start)
{
	const struct nv_profile *p = profile_of(g, profile);
	int compute, same, i, at = -1;
	struct nv_gi *gi, *behind;
	u32 used;

	if (!g->mig)
		return -EOPNOTSUPP;
	if (!p)
		return -EINVAL;
	used = in_use(g, p, &compute, &same);
	for (i = 0; i < p->nstarts; i++)	/* use the last free position first, which leaves room for large instances at the start */
		if (!(used & slices(p->starts[i], p->memory_slices)) && (start < 0 || start == p->starts[i]))
			at = p->starts[i];
	if (at < 0 || same >= p->max || compute + p->compute_slices > g->model->compute_slices)
		return -ENOSPC;
	gi = kzalloc(sizeof(*gi), GFP_KERNEL);
	if (!gi)
		return -ENOMEM;
	gi->profile = p;
	gi->start = at;
	gi->id = gi_id(g, p, at);
	list_for_each_entry(behind, &g->gis, node)
		if (behind->id > gi->id)
			break;
	list_add_tail(&gi->node, &behind->node);
	return 0;
}

static int destroy_gi(struct nv_gpu *g, int id)
{
	struct nv_gi *gi = find_gi(g, id);

	if (!gi)
		return -ENOENT;
	if (gi_used(g, gi) || memchr_inv(gi->ci, 0, sizeof(gi->ci)))
		return -EBUSY;
	list_del(&gi->node);
	kfree(gi);
	return 0;
}

/* Return the profile of a compute instance: 0 to 4 for 1, 2, 3, 4, and 7 slices */
static const u8 ci_slices[] = { 1, 2, 3, 4, 7 };

static int create_ci(struct nv_gpu *g, int id, int profile)
{
	struct nv_gi *gi = find_gi(g, id);
	int i, n, ci, start;
	u32 used = 0;

	if (!gi)
		return -ENOENT;
	if (profile < 0 || profile >= ARRAY_SIZE(ci_slices) || ci_slices[profile] > gi->profile->compute_slices)
		return -EINVAL;
	n = ci_slices[profile];
	for (i = 0; i < NV_MAX_SLICES; i++)
		if (gi->ci[i])
			used |= slices(gi->ci_start[i], gi->ci[i]);
	for (start = 0; start + n <= gi->profile->compute_slices && used & slices(start, n); start++)
		;
	for (ci = 0; ci < NV_MAX_SLICES && gi->ci[ci]; ci++)
		;
	if (start + n > gi->profile->compute_slices || ci == NV_MAX_SLICES)
		return -ENOSPC;
	gi->ci[ci] = n;
	gi->ci_start[ci] = start;
	return 0;
}

static int destroy_ci(struct nv_gpu *g, int id, int ci)
{
	struct nv_gi *gi = find_gi(g, id);

	if (!gi || ci < 0 || ci >= NV_MAX_SLICES || !gi->ci[ci])
		return -ENOENT;
	if (gi_used(g, gi))
		return -EBUSY;
	gi->ci[ci] = 0;
	return 0;
}

static bool busy(struct nv_gpu *g)
{
	return pci_num_vf(g->pdev) || !list_empty(&g->vgpus);
}

static int set_mode(struct nv_gpu *g, bool on)
{
	if (!g->model->nprofiles)
		return -EOPNOTSUPP;
	if (on == g->mig) {
		g->mig_pending = on;
		return 0;
	}
	if (busy(g) || !list_empty(&g->gis))
		return -EBUSY;
	g->mig_pending = on;
	if (!g->usage && (!g->model->mig_needs_reset || mig_auto_reset)) {
		nv_mig_wipe(g);
		g->mig = on;
	}
	return 0;
}

static int reset(struct nv_gpu *g)
{
	if (busy(g) || g->usage)
		return -EBUSY;
	nv_mig_wipe(g);
	g->mig = g->mig_pending;
	return 0;
}

static int set_mixed(struct nv_gpu *g, bool on)
{
	if (!g->model->mixed_sizes || g->mig)
		return -EOPNOTSUPP;
	if (!pci_num_vf(g->pdev))
		return -ENOENT;
	if (!list_empty(&g->vgpus))
		return -EBUSY;
	g->mixed = on;
	return 0;
}

int nv_mig_command(struct nv_gpu *g, char *line)
{
	int a = -1, b = -1, n, rc = -EINVAL;
	char verb[8];

	n = sscanf(line, "%7s %d %d", verb, &a, &b);
	if (n < 1)
		return -EINVAL;
	mutex_lock(&g->lock);
	if (!g->bound)
		rc = -ENODEV;
	else if (!strcmp(verb, "mig") && n == 2)
		rc = set_mode(g, a);
	else if (!strcmp(verb, "reset"))
		rc = reset(g);
	else if (!strcmp(verb, "cgi") && n >= 2)
		rc = create_gi(g, a, b);
	else if (!strcmp(verb, "dgi") && n == 2)
		rc = destroy_gi(g, a);
	else if (!strcmp(verb, "cci") && n == 3)
		rc = create_ci(g, a, b);
	else if (!strcmp(verb, "dci") && n == 3)
		rc = destroy_ci(g, a, b);
	else if (!strcmp(verb, "mixed") && n == 2)
		rc = set_mixed(g, a);
	mutex_unlock(&g->lock);
	return rc;
}

/* Each line contains a word and its values. A name is the last value. */
void nv_mig_show(struct seq_file *s, struct nv_gpu *g)
{
	const struct nv_model *m = g->model;
	const struct nv_profile *p;
	struct nv_vgpu *u;
	struct nv_gi *gi;
	int i, k;

	seq_printf(s, "memory %d\nwatts %d\narchitecture %s\nvbios %s\nsriov_vgpu %d\n", m->memory_mib, m->watts, m->architecture, m->vbios, m->sriov_vgpu);
	mutex_lock(&g->lock);
	seq_printf(s, "usage %d\n", g->usage);
	seq_printf(s, "mixed %d %d\n", m->mixed_sizes && !g->mig, nv_mixed(g));
	seq_printf(s, "mig %d %d %d %d\n", m->nprofiles > 0, g->mig, g->mig_pending, m->mig_needs_reset);
	for (p = m->profiles; p < m->profiles + m->nprofiles; p++) {
		seq_printf(s, "profile %d %d %d %s", p->id, free_instances(g, p), p->max, p->gib);
		for (i = 0; i < ARRAY_SIZE(p->units); i++)
			seq_printf(s, " %d", p->units[i]);
		seq_printf(s, " %d %d ", p->memory_slices, p->compute_slices);
		for (i = 0; i < p->nstarts; i++)
			seq_printf(s, "%s%d", i ? "," : "", p->starts[i]);
		seq_printf(s, " %s\n", p->name);
	}
	list_for_each_entry(gi, &g->gis, node)
		seq_printf(s, "gi %d %d %d %d\n", gi->id, gi->profile->id, gi->start, gi->profile->memory_slices);
	list_for_each_entry(gi, &g->gis, node)
		for (i = 0; i < NV_MAX_SLICES; i++)
			for (k = 0; gi->ci[i] && k < ARRAY_SIZE(ci_slices); k++)
				if (ci_slices[k] == gi->ci[i])
					seq_printf(s, "ci %d %d %d %d %d\n", gi->id, i, k, gi->ci_start[i], gi->ci[i]);
	list_for_each_entry(u, &g->vgpus, node)
		seq_printf(s, "vgpu %s %s %s %d %d %d\n", pci_name(u->vf->pdev), u->uuid, u->type->id, u->open, u->gi ? u->gi->id : -1, u->start / 1024);
	mutex_unlock(&g->lock);
}
