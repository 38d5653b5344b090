/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/*
 * Types of the Fabric Manager library's public ABI: names, values, and layouts.
 * This file was written for this project from the vendor's guide. It contains no text from the vendor's header. */
#ifndef NV_FM_TYPES_H
#define NV_FM_TYPES_H

typedef enum fmReturn_enum {
	FM_ST_SUCCESS = 0,
	FM_ST_BADPARAM = -1,
	FM_ST_GENERIC_ERROR = -2,
	FM_ST_NOT_SUPPORTED = -3,
	FM_ST_UNINITIALIZED = -4,
	FM_ST_TIMEOUT = -5,
	FM_ST_VERSION_MISMATCH = -6,
	FM_ST_IN_USE = -7,
	FM_ST_NOT_CONFIGURED = -8,
	FM_ST_CONNECTION_NOT_VALID = -9,
	FM_ST_NVLINK_ERROR = -10,
} fmReturn_t;

#define FM_MAX_STR_LENGTH			256
#define FM_UUID_BUFFER_SIZE			80
#define FM_DEVICE_PCI_BUS_ID_BUFFER_SIZE	32
#define FM_CMD_PORT_NUMBER			6666
#define FM_MAX_NUM_GPUS				16
#define FM_MAX_NUM_NVSWITCHES			12
#define FM_MAX_FABRIC_PARTITIONS		64
#define FM_MAX_NUM_NVLINK_PORTS			64

/* The version is the first member of each structure that a caller passes. */
#define MAKE_FM_PARAM_VERSION(type, number)	((unsigned int)(sizeof(type) | ((number) << 24)))

typedef void *fmHandle_t;
typedef unsigned int fmFabricPartitionId_t;

typedef struct {
	unsigned int version;
	char addressInfo[FM_MAX_STR_LENGTH];
	unsigned int timeoutMs;
	unsigned int addressIsUnixSocket;
} fmConnectParams_v1;

enum nvFmApiAddrTypes {
	NV_FM_API_ADDR_TYPE_UNKNOWN = 0,
	NV_FM_API_ADDR_TYPE_INET = 1,
	NV_FM_API_ADDR_TYPE_UNIX = 2,
	NV_FM_API_ADDR_TYPE_VSOCK = 3,
};

typedef struct {
	unsigned int version;
	char addressInfo[FM_MAX_STR_LENGTH];
	unsigned int timeoutMs;
	unsigned int addressIsUnixSocket;
	enum nvFmApiAddrTypes addressType;
} fmConnectParams_v2;

#define fmConnectV1Params_version1	MAKE_FM_PARAM_VERSION(fmConnectParams_v1, 1)
#define fmConnectV2Params_version2	MAKE_FM_PARAM_VERSION(fmConnectParams_v2, 2)

/* Branches before 570 support only the first layout. */
#if defined(FM_BRANCH) && FM_BRANCH < 570
typedef fmConnectParams_v1 fmConnectParams_t;
#define fmConnectParams_version		fmConnectV1Params_version1
#else
typedef fmConnectParams_v2 fmConnectParams_t;
#define fmConnectParams_version		fmConnectV2Params_version2
#endif

typedef struct {
	unsigned int domain, bus, device, function;
} fmPciDevice_t;

typedef struct {
	unsigned int physicalId;	/* module ID */
	char uuid[FM_UUID_BUFFER_SIZE];
	char pciBusId[FM_DEVICE_PCI_BUS_ID_BUFFER_SIZE];
	unsigned int numNvLinksAvailable, maxNumNvLinks, nvlinkLineRateMBps;
} fmFabricPartitionGpuInfo_t;

typedef struct {
	fmFabricPartitionId_t partitionId;
	unsigned int isActive, numGpus;
	fmFabricPartitionGpuInfo_t gpuInfo[FM_MAX_NUM_GPUS];
} fmFabricPartitionInfo_t;

typedef struct {
	unsigned int version, numPartitions, maxNumPartitions;
	fmFabricPartitionInfo_t partitionInfo[FM_MAX_FABRIC_PARTITIONS];
} fmFabricPartitionList_v2;
typedef fmFabricPartitionList_v2 fmFabricPartitionList_t;
#define fmFabricPartitionList_version	MAKE_FM_PARAM_VERSION(fmFabricPartitionList_v2, 1)

typedef struct {
	unsigned int version, numPartitions;
	fmFabricPartitionId_t partitionIds[FM_MAX_FABRIC_PARTITIONS];
} fmActivatedFabricPartitionList_v1;
typedef fmActivatedFabricPartitionList_v1 fmActivatedFabricPartitionList_t;
#define fmActivatedFabricPartitionList_version	MAKE_FM_PARAM_VERSION(fmActivatedFabricPartitionList_v1, 1)

typedef struct {
	char uuid[FM_UUID_BUFFER_SIZE];
	char pciBusId[FM_DEVICE_PCI_BUS_ID_BUFFER_SIZE];
	unsigned int numPorts, portNum[FM_MAX_NUM_NVLINK_PORTS];
} fmNvlinkFailedDeviceInfo_t;

typedef struct {
	unsigned int version, numGpus, numSwitches;
	fmNvlinkFailedDeviceInfo_t gpuInfo[FM_MAX_NUM_GPUS], switchInfo[FM_MAX_NUM_NVSWITCHES];
} fmNvlinkFailedDevices_v1;
typedef fmNvlinkFailedDevices_v1 fmNvlinkFailedDevices_t;
#define fmNvlinkFailedDevices_version	MAKE_FM_PARAM_VERSION(fmNvlinkFailedDevices_v1, 1)

typedef struct {
	fmFabricPartitionId_t partitionId;
	unsigned int numGpus, gpuPhysicalIds[FM_MAX_NUM_GPUS];
} fmUnsupportedFabricPartitionInfo_t;

typedef struct {
	unsigned int version, numPartitions;
	fmUnsupportedFabricPartitionInfo_t partitionInfo[FM_MAX_FABRIC_PARTITIONS];
} fmUnsupportedFabricPartitionList_v1;
typedef fmUnsupportedFabricPartitionList_v1 fmUnsupportedFabricPartitionList_t;
#define fmUnsupportedFabricPartitionList_version	MAKE_FM_PARAM_VERSION(fmUnsupportedFabricPartitionList_v1, 1)

#endif
