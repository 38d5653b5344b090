// SPDX-License-Identifier: GPL-3.0-or-later
// SPDX-FileCopyrightText: The vgpu.kvm authors
/*
 * An emulation of libnvfm.so.1 with the public ABI.  The protocol with the emulated nv-fabricmanager is not NVIDIA's: a
 * request is one line of text, and a response has the return code, the lines of the result, and a line with a dot.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "nv_fm_agent.h"

#define MAX_CONNECTIONS 16

struct connection {
	FILE *in;
	int fd;
};

static bool initialized;
static struct connection *connections[MAX_CONNECTIONS];

static void close_connection(int n)
{
	fclose(connections[n]->in);
	free(connections[n]);
	connections[n] = NULL;
}

fmReturn_t fmLibInit(void)
{
	if (initialized)
		return FM_ST_IN_USE;
	initialized = true;
	return FM_ST_SUCCESS;
}

fmReturn_t fmLibShutdown(void)
{
	int n;

	if (!initialized)
		return FM_ST_UNINITIALIZED;
	for (n = 0; n < MAX_CONNECTIONS; n++)
		if (connections[n])
			close_connection(n);
	initialized = false;
	return FM_ST_SUCCESS;
}

/* Return a connected socket, or -1. */
static int connect_to(const struct sockaddr *address, socklen_t length, int ms)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = 0;
	socklen_t size = sizeof(error);
	struct pollfd ready = { .fd = fd, .events = POLLOUT };

	if (fd < 0)
		return -1;
	if (!connect(fd, address, length) ||
	    (errno == EINPROGRESS && poll(&ready, 1, ms) == 1 && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && !error)) {
		fcntl(fd, F_SETFL, 0);
		return fd;
	}
	close(fd);
	return -1;
}

static fmReturn_t open_unix(const char *path, int ms, int *fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return FM_ST_BADPARAM;
	strcpy(address.sun_path, path);
	*fd = connect_to((struct sockaddr *)&address, sizeof(address), ms);
	return *fd < 0 ? FM_ST_CONNECTION_NOT_VALID : FM_ST_SUCCESS;
}

/* Connect to a.b.c.d or a.b.c.d:port. */
static fmReturn_t open_inet(const char *text, int ms, int *fd)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(FM_CMD_PORT_NUMBER) };
	char host[FM_MAX_STR_LENGTH], *colon, *end;
	unsigned long port;

	strcpy(host, text);
	colon = strchr(host, ':');
	if (colon) {
		*colon = 0;
		port = strtoul(colon + 1, &end, 10);
		if (*end || end == colon + 1 || port > 65535)
			return FM_ST_BADPARAM;
		address.sin_port = htons(port);
	}
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		return FM_ST_BADPARAM;
	*fd = connect_to((struct sockaddr *)&address, sizeof(address), ms);
	return *fd < 0 ? FM_ST_CONNECTION_NOT_VALID : FM_ST_SUCCESS;
}

static bool is_unix(const fmConnectParams_t *params)
{
#if defined(FM_BRANCH) && FM_BRANCH < 570
	return params->addressIsUnixSocket;
#else
	if (params->addressType == NV_FM_API_ADDR_TYPE_UNKNOWN)
		return params->addressIsUnixSocket;
	return params->addressType == NV_FM_API_ADDR_TYPE_UNIX;
#endif
}

fmReturn_t fmConnect(fmConnectParams_t *params, fmHandle_t *handle)
{
	struct connection *c;
	fmReturn_t rc;
	int n, fd;

	if (!initialized)
		return FM_ST_UNINITIALIZED;
	if (!params || !handle)
		return FM_ST_BADPARAM;
	if (params->version != fmConnectParams_version)
		return FM_ST_VERSION_MISMATCH;
	if (!memchr(params->addressInfo, 0, sizeof(params->addressInfo)))
		return FM_ST_BADPARAM;
	for (n = 0; n < MAX_CONNECTIONS && connections[n]; n++)
		;
	if (n == MAX_CONNECTIONS)
		return FM_ST_GENERIC_ERROR;
	rc = is_unix(params) ? open_unix(params->addressInfo, params->timeoutMs, &fd) : open_inet(params->addressInfo, params->timeoutMs, &fd);
	if (rc)
		return rc;
	c = malloc(sizeof(*c));
	if (c) {
		c->fd = fd;
		c->in = fdopen(fd, "r");
	}
	if (!c || !c->in) {
		free(c);
		close(fd);
		return FM_ST_GENERIC_ERROR;
	}
	connections[n] = c;
	*handle = c;
	return FM_ST_SUCCESS;
}

/* Return the connection's number, or -1 for an invalid handle. */
static int number_of(fmHandle_t handle)
{
	int n;

	for (n = 0; n < MAX_CONNECTIONS; n++)
		if (handle && connections[n] == handle)
			return n;
	return -1;
}

fmReturn_t fmDisconnect(fmHandle_t handle)
{
	if (!initialized)
		return FM_ST_UNINITIALIZED;
	if (number_of(handle) < 0)
		return FM_ST_BADPARAM;
	close_connection(number_of(handle));
	return FM_ST_SUCCESS;
}

/* Check a call's conditions: an initialized library, a handle, and a structure of this library's version. */
static fmReturn_t check(fmHandle_t handle, const unsigned int *version, unsigned int known)
{
	if (!initialized)
		return FM_ST_UNINITIALIZED;
	if (number_of(handle) < 0 || !version)
		return FM_ST_BADPARAM;
	return *version == known ? FM_ST_SUCCESS : FM_ST_VERSION_MISMATCH;
}

/* Send a line, and pass each line of the result to take(). */
static fmReturn_t ask(fmHandle_t handle, bool (*take)(const char *line, void *result), void *result, const char *request)
{
	struct connection *c = handle;
	size_t left = strlen(request);
	bool understood = true;
	char line[512];
	ssize_t sent;
	int rc;

	for (; left; request += sent, left -= sent) {
		sent = send(c->fd, request, left, MSG_NOSIGNAL);
		if (sent < 0)
			return FM_ST_CONNECTION_NOT_VALID;
	}
	if (!fgets(line, sizeof(line), c->in))
		return FM_ST_CONNECTION_NOT_VALID;
	if (sscanf(line, "%d", &rc) != 1)
		return FM_ST_GENERIC_ERROR;
	while (fgets(line, sizeof(line), c->in)) {
		if (!strcmp(line, ".\n"))
			return rc ? (fmReturn_t)rc : understood ? FM_ST_SUCCESS : FM_ST_GENERIC_ERROR;
		understood = understood && take && take(line, result);
	}
	return FM_ST_CONNECTION_NOT_VALID;
}

/* Lines: "max N"; "partition ID ACTIVE GPUS"; "gpu MODULE LINKS MAX RATE [UUID BUSID]" for each GPU of the preceding partition */
static bool take_partition(const char *line, void *result)
{
	fmFabricPartitionList_t *list = result;
	fmFabricPartitionInfo_t *p = &list->partitionInfo[list->numPartitions ? list->numPartitions - 1 : 0];
	fmFabricPartitionGpuInfo_t *g;
	unsigned int announced;

	if (sscanf(line, "max %u", &list->maxNumPartitions) == 1)
		return true;
	if (!strncmp(line, "partition ", 10)) {
		if (list->numPartitions == FM_MAX_FABRIC_PARTITIONS)
			return false;
		p = &list->partitionInfo[list->numPartitions++];
		return sscanf(line, "partition %u %u %u", &p->partitionId, &p->isActive, &announced) == 3 && announced <= FM_MAX_NUM_GPUS;
	}
	if (!list->numPartitions || p->numGpus == FM_MAX_NUM_GPUS)
		return false;
	g = &p->gpuInfo[p->numGpus++];
	return sscanf(line, "gpu %u %u %u %u %79s %31s", &g->physicalId, &g->numNvLinksAvailable, &g->maxNumNvLinks, &g->nvlinkLineRateMBps,
		      g->uuid, g->pciBusId) >= 4;
}

fmReturn_t fmGetSupportedFabricPartitions(fmHandle_t handle, fmFabricPartitionList_t *list)
{
	fmReturn_t rc = check(handle, list ? &list->version : NULL, fmFabricPartitionList_version);

	if (rc)
		return rc;
	memset(&list->numPartitions, 0, sizeof(*list) - sizeof(list->version));
	return ask(handle, take_partition, list, "list\n");
}

static fmReturn_t command(fmHandle_t handle, const char *format, ...)
{
	static const unsigned int none;
	fmReturn_t rc = check(handle, &none, none);
	char request[4096];
	va_list arguments;

	if (rc)
		return rc;
	va_start(arguments, format);
	vsnprintf(request, sizeof(request), format, arguments);
	va_end(arguments);
	return ask(handle, NULL, NULL, request);
}

fmReturn_t fmActivateFabricPartition(fmHandle_t handle, fmFabricPartitionId_t id)
{
	return command(handle, "activate %u\n", id);
}

fmReturn_t fmActivateFabricPartitionWithVFs(fmHandle_t handle, fmFabricPartitionId_t id, fmPciDevice_t *vfs, unsigned int count)
{
	char text[FM_MAX_NUM_GPUS * 40] = "";
	unsigned int i, at = 0;

	if (!initialized)
		return FM_ST_UNINITIALIZED;
	if (!vfs || !count || count > FM_MAX_NUM_GPUS)
		return FM_ST_BADPARAM;
	for (i = 0; i < count; i++)
		at += snprintf(text + at, sizeof(text) - at, " %04x:%02x:%02x.%x", vfs[i].domain, vfs[i].bus, vfs[i].device, vfs[i].function);
	return command(handle, "activate-vfs %u%s\n", id, text);
}

fmReturn_t fmDeactivateFabricPartition(fmHandle_t handle, fmFabricPartitionId_t id)
{
	return command(handle, "deactivate %u\n", id);
}

fmReturn_t fmSetActivatedFabricPartitions(fmHandle_t handle, fmActivatedFabricPartitionList_t *list)
{
	fmReturn_t rc = check(handle, list ? &list->version : NULL, fmActivatedFabricPartitionList_version);
	char text[FM_MAX_FABRIC_PARTITIONS * 12] = "";
	unsigned int i, at = 0;

	if (rc)
		return rc;
	if (list->numPartitions > FM_MAX_FABRIC_PARTITIONS)
		return FM_ST_BADPARAM;
	for (i = 0; i < list->numPartitions; i++)
		at += snprintf(text + at, sizeof(text) - at, " %u", list->partitionIds[i]);
	return command(handle, "set%s\n", text);
}

/* The list is always empty on boards with H100 or later GPUs, and the emulated nv-fabricmanager supports no other boards. */
fmReturn_t fmGetNvlinkFailedDevices(fmHandle_t handle, fmNvlinkFailedDevices_t *devices)
{
	fmReturn_t rc = check(handle, devices ? &devices->version : NULL, fmNvlinkFailedDevices_version);

	if (rc)
		return rc;
	memset(&devices->numGpus, 0, sizeof(*devices) - sizeof(devices->version));
	return ask(handle, NULL, NULL, "failed\n");
}

fmReturn_t fmGetUnsupportedFabricPartitions(fmHandle_t handle, fmUnsupportedFabricPartitionList_t *list)
{
	fmReturn_t rc = check(handle, list ? &list->version : NULL, fmUnsupportedFabricPartitionList_version);

	if (rc)
		return rc;
	memset(&list->numPartitions, 0, sizeof(*list) - sizeof(list->version));
	return ask(handle, NULL, NULL, "unsupported\n");
}
