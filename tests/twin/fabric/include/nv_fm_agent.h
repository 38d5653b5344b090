/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SPDX-FileCopyrightText: The vgpu.kvm authors */
/* Functions of the Fabric Manager library's public ABI. See nv_fm_types.h. */
#ifndef NV_FM_AGENT_H
#define NV_FM_AGENT_H

#include "nv_fm_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FM_LIB_API __attribute__((visibility("default")))

FM_LIB_API fmReturn_t fmLibInit(void);
FM_LIB_API fmReturn_t fmLibShutdown(void);
FM_LIB_API fmReturn_t fmConnect(fmConnectParams_t *params, fmHandle_t *handle);
FM_LIB_API fmReturn_t fmDisconnect(fmHandle_t handle);
FM_LIB_API fmReturn_t fmGetSupportedFabricPartitions(fmHandle_t handle, fmFabricPartitionList_t *list);
FM_LIB_API fmReturn_t fmActivateFabricPartition(fmHandle_t handle, fmFabricPartitionId_t id);
FM_LIB_API fmReturn_t fmActivateFabricPartitionWithVFs(fmHandle_t handle, fmFabricPartitionId_t id, fmPciDevice_t *vfs, unsigned int count);
FM_LIB_API fmReturn_t fmDeactivateFabricPartition(fmHandle_t handle, fmFabricPartitionId_t id);
FM_LIB_API fmReturn_t fmSetActivatedFabricPartitions(fmHandle_t handle, fmActivatedFabricPartitionList_t *list);
FM_LIB_API fmReturn_t fmGetNvlinkFailedDevices(fmHandle_t handle, fmNvlinkFailedDevices_t *devices);
FM_LIB_API fmReturn_t fmGetUnsupportedFabricPartitions(fmHandle_t handle, fmUnsupportedFabricPartitionList_t *list);

#ifdef __cplusplus
}
#endif

#endif
