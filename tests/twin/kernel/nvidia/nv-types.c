// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/* The rules that determine how many more vGPUs fit on a GPU. The tables of types are in nv-models.c. */
#include "nv.h"

const struct nv_model *nv_model_of(struct pci_dev *pf)
{
	const struct nv_model *m = nv_models;

	while (m->device && (m->device != pf->device || (m->subsystem && m->subsystem != pf->subsystem_device)))
		m++;
	return m;
}

bool nv_mixed(struct nv_gpu *g)
{
	return g->model->mixed_sizes && !g->mig && (g->mixed || nv_heterogeneous);
}

/* Return the start of the first sufficient free framebuffer range, or -1. @room: number of vGPUs of this size that fit in all ranges. */
static int first_stretch(struct nv_gpu *g, int size, int *room)
{
	int at = 0, first = -1, next;
	struct nv_vgpu *u, *nearest;

	*room = 0;
	do {
		nearest = NULL;
		list_for_each_entry(u, &g->vgpus, node)
			if (!u->gi && u->start >= at && (!nearest || u->start < nearest->start))
				nearest = u;
		next = nearest ? nearest->start : g->model->fb_mib;
		if (next - at >= size && first < 0)
			first = at;
		*room += (next - at) / size;
		if (nearest)
			at = nearest->start + nearest->type->fb_mib;
	} while (nearest);
	return first;
}

/* Return how many more vGPUs of the type fit. @gi and @start: position of the next vGPU. */
static int find_place(struct nv_gpu *g, const struct nv_type *t, struct nv_gi **gi, int *start)
{
	int room, same = 0, all = 0;
	struct nv_vgpu *u;
	bool other = false;

	list_for_each_entry(u, &g->vgpus, node) {
		all++;
		same += u->type == t;
		other |= u->type->fb_mib != t->fb_mib;
	}
	*gi = NULL;
	*start = 0;
	if ((t->profile >= 0) != g->mig)
		return 0;
	if (g->mig)
		*gi = nv_gi_for(g, t, &room);
	else if (other && !nv_mixed(g))
		return 0;
	else
		*start = first_stretch(g, t->fb_mib, &room);
	return max(0, min(room, t->max - (g->mig || nv_mixed(g) ? same : all)));
}

static int on_function(struct nv_vf *v)
{
	struct nv_vgpu *u;
	int n = 0;

	list_for_each_entry(u, &v->gpu->vgpus, node)
		n += u->vf == v;
	return n;
}

int nv_room(struct nv_vf *v, const struct nv_type *t)
{
	struct nv_gi *gi;
	int start, n;

	if (v->pdev->is_virtfn && on_function(v))
		return 0;
	n = find_place(v->gpu, t, &gi, &start);
	return v->pdev->is_virtfn ? min(n, 1) : n;
}

int nv_claim(struct nv_vgpu *u, struct nv_vf *v, const struct nv_type *t, const char *uuid)
{
	struct nv_gpu *g = v->gpu;
	int rc = 0, room;

	if (!nv_gpu_alive(g))
		return -EIO;
	mutex_lock(&g->lock);
	if ((t->profile >= 0) != g->mig || (g->mig && !nv_gi_for(g, t, &room))) {
		pr_err("NVRM: Failed to add vgpu create request: 0x38\n");	/* no suitable GPU instance exists */
		rc = -EIO;
	} else if (!nv_room(v, t)) {
		rc = -ENOSPC;
	} else {
		find_place(g, t, &u->gi, &u->start);
		u->vf = v;
		u->type = t;
		u->open = 0;
		strscpy(u->uuid, uuid, sizeof(u->uuid));
		list_add_tail(&u->node, &g->vgpus);
	}
	mutex_unlock(&g->lock);
	return rc;
}

void nv_unclaim(struct nv_vgpu *u)
{
	struct nv_gpu *g;

	if (!u->vf)
		return;
	g = u->vf->gpu;
	mutex_lock(&g->lock);
	if (u->type)
		list_del(&u->node);
	u->type = NULL;
	u->gi = NULL;
	mutex_unlock(&g->lock);
}
