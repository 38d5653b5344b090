/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/* A stand-in for libnvfm.so.1 with the layouts that NVIDIA documents. The "address" to connect to is a file: lines "id active module module ...".
 * CONNECT is the version of fmConnect's parameters that it takes. A file whose first line is "status N" answers N; "hang" never answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef CONNECT
#define CONNECT 2
#endif

typedef struct { unsigned version; char address[256]; unsigned timeout, is_socket; } connect_1;
typedef struct { unsigned version; char address[256]; unsigned timeout, is_socket, kind; } connect_2;
typedef struct { unsigned domain, bus, device, function; } pci;
typedef struct { unsigned module; char uuid[80], address[32]; unsigned links, most, rate; } gpu;
typedef struct { unsigned id, active, count; gpu gpus[16]; } partition;
typedef struct { unsigned version, count, most; partition partitions[64]; } list;
typedef struct { unsigned version, count, ids[64]; } activated;
typedef struct { char uuid[80], address[32]; unsigned count, ports[64]; } failed_device;
typedef struct { unsigned version, gpus, switches; failed_device gpu[16], nvswitch[12]; } failed;

static char path[256];
static int initialized;
static list state;

static int load(void)
{
	char line[512];
	int status = 0;
	FILE *file = fopen(path, "r");
	memset(&state, 0, sizeof(state));
	if (!file)
		return -9;
	while (fgets(line, sizeof(line), file)) {
		partition *one = &state.partitions[state.count];
		char *word = strtok(line, " \n");
		if (!word)
			continue;
		if (!strcmp(word, "hang"))
			sleep(30);
		if (!strcmp(word, "status")) {
			status = atoi(strtok(NULL, " \n"));
			break;
		}
		one->id = atoi(word);
		one->active = atoi(strtok(NULL, " \n"));
		while ((word = strtok(NULL, " \n")))
			one->gpus[one->count++].module = atoi(word);
		state.count++;
	}
	fclose(file);
	return status;
}

static void store(const char *what)
{
	FILE *file = fopen(path, "w");
	char log[300];
	for (unsigned i = 0; i < state.count; i++) {
		fprintf(file, "%u %u", state.partitions[i].id, state.partitions[i].active);
		for (unsigned j = 0; j < state.partitions[i].count; j++)
			fprintf(file, " %u", state.partitions[i].gpus[j].module);
		fprintf(file, "\n");
	}
	fclose(file);
	snprintf(log, sizeof(log), "%s.log", path);
	file = fopen(log, "a");
	fprintf(file, "%s\n", what);
	fclose(file);
}

static partition *find(unsigned id)
{
	for (unsigned i = 0; i < state.count; i++)
		if (state.partitions[i].id == id)
			return &state.partitions[i];
	return NULL;
}

int fmLibInit(void) { initialized = 1; return 0; }
int fmLibShutdown(void) { return initialized ? 0 : -4; }
int fmDisconnect(void *handle) { return handle ? 0 : -1; }

int fmConnect(void *parameters, void **handle)
{
	connect_1 *one = parameters;
	unsigned expected = CONNECT == 2 ? sizeof(connect_2) | 2 << 24 : sizeof(connect_1) | 1 << 24;
	if (one->version != expected)
		return -6;
	if (CONNECT == 2 && ((connect_2 *)parameters)->kind != (one->is_socket ? 2 : 1))
		return -1;
	memcpy(path, one->address, sizeof(path));
	*handle = path;
	return access(path, F_OK) ? -9 : 0;
}

int fmGetSupportedFabricPartitions(void *handle, list *found)
{
	int status = load();
	if (!handle || found->version != (sizeof(list) | 1 << 24))
		return handle ? -6 : -1;
	if (status)
		return status;
	state.version = found->version;
	*found = state;
	return 0;
}

int fmActivateFabricPartitionWithVFs(void *handle, unsigned id, pci *vfs, unsigned count)
{
	char what[512];
	int status = load(), end = 0;
	partition *one = find(id);
	if (status)
		return status;
	if (!handle || !one || count != one->count)
		return -1;
	for (unsigned i = 0; i < state.count; i++)
		for (unsigned j = 0; state.partitions[i].active && j < state.partitions[i].count; j++)
			for (unsigned k = 0; k < one->count; k++)
				if (state.partitions[i].gpus[j].module == one->gpus[k].module)
					return -7;
	one->active = 1;
	end = snprintf(what, sizeof(what), "activate %u", id);
	for (unsigned i = 0; i < count; i++)
		end += snprintf(what + end, sizeof(what) - end, " %04x:%02x:%02x.%x", vfs[i].domain, vfs[i].bus, vfs[i].device, vfs[i].function);
	store(what);
	return 0;
}

int fmDeactivateFabricPartition(void *handle, unsigned id)
{
	char what[40];
	int status = load();
	partition *one = find(id);
	if (status)
		return status;
	if (!handle || !one)
		return -1;
	if (!one->active)
		return -4;
	one->active = 0;
	snprintf(what, sizeof(what), "deactivate %u", id);
	store(what);
	return 0;
}

int fmSetActivatedFabricPartitions(void *handle, activated *ids)
{
	char what[40];
	if (!handle || ids->version != (sizeof(activated) | 1 << 24))
		return -6;
	load();
	for (unsigned i = 0; i < ids->count; i++)
		if (find(ids->ids[i]))
			find(ids->ids[i])->active = 1;
	snprintf(what, sizeof(what), "set %u", ids->count);
	store(what);
	return 0;
}

int fmGetNvlinkFailedDevices(void *handle, failed *found)
{
	if (!handle || found->version != (sizeof(failed) | 1 << 24))
		return -6;
	found->gpus = 1;
	found->switches = 0;
	strcpy(found->gpu[0].address, "00000000:1B:00.0");
	found->gpu[0].count = 2;
	found->gpu[0].ports[0] = 4;
	found->gpu[0].ports[1] = 17;
	return 0;
}
