// SPDX-License-Identifier: GPL-2.0
// SPDX-FileCopyrightText: The vgpu.kvm authors
/* vGPU types of each GPU model, and the rules of what still fits on a GPU. */
#include "nv.h"

#define T(i, n, fb, h, f, r, m) { #i, "NVIDIA A40-" n, fb, h, f, r, m }
static const struct nv_type a40[] = {
	T(555, "1B", 1, 4, 45, "5120x2880", 32), T(556, "2B", 2, 4, 45, "5120x2880", 24),
	T(557, "1Q", 1, 4, 60, "5120x2880", 32), T(558, "2Q", 2, 4, 60, "7680x4320", 24),
	T(559, "3Q", 3, 4, 60, "7680x4320", 16), T(560, "4Q", 4, 4, 60, "7680x4320", 12),
	T(561, "6Q", 6, 4, 60, "7680x4320", 8), T(562, "8Q", 8, 4, 60, "7680x4320", 6),
	T(563, "12Q", 12, 4, 60, "7680x4320", 4), T(564, "16Q", 16, 4, 60, "7680x4320", 3),
	T(565, "24Q", 24, 4, 60, "7680x4320", 2), T(566, "48Q", 48, 4, 60, "7680x4320", 1),
	T(567, "1A", 1, 1, 60, "1280x1024", 32), T(568, "2A", 2, 1, 60, "1280x1024", 24),
	T(569, "3A", 3, 1, 60, "1280x1024", 16), T(570, "4A", 4, 1, 60, "1280x1024", 12),
	T(571, "6A", 6, 1, 60, "1280x1024", 8), T(572, "8A", 8, 1, 60, "1280x1024", 6),
	T(573, "12A", 12, 1, 60, "1280x1024", 4), T(574, "16A", 16, 1, 60, "1280x1024", 3),
	T(575, "24A", 24, 1, 60, "1280x1024", 2), T(576, "48A", 48, 1, 60, "1280x1024", 1),
};

static const struct nv_model models[] = {
	{ 0x2235, "NVIDIA A40", 48, a40, ARRAY_SIZE(a40) },
	{ 0, "NVIDIA Graphics Device", 16, NULL, 0 },	/* any other: no vGPU */
};

const struct nv_model *nv_model_of(u16 device)
{
	const struct nv_model *m = models;

	while (m->device && m->device != device)
		m++;
	return m;
}

bool nv_fits(struct nv_gpu *g, const struct nv_type *t)
{
	if (g->count >= t->max || g->used + t->fb_gib > g->model->fb_gib)
		return false;
	return nv_heterogeneous || !g->count || g->size == t->fb_gib;
}

int nv_claim(struct nv_vf *v, const struct nv_type *t, const char *uuid)
{
	struct nv_gpu *g = v->gpu;
	int rc = 0;

	if (!nv_gpu_alive(g))
		return -EIO;
	mutex_lock(&g->lock);
	if (v->cur || !nv_fits(g, t)) {
		rc = -ENOSPC;
	} else {
		v->cur = t;
		strscpy(v->uuid, uuid, sizeof(v->uuid));
		g->used += t->fb_gib;
		g->size = t->fb_gib;
		g->count++;
	}
	mutex_unlock(&g->lock);
	return rc;
}

void nv_unclaim(struct nv_vf *v)
{
	struct nv_gpu *g = v->gpu;

	mutex_lock(&g->lock);
	if (v->cur) {
		g->used -= v->cur->fb_gib;
		g->count--;
		v->cur = NULL;
	}
	mutex_unlock(&g->lock);
}
