#ifndef WIN32SIM_WINTERNL_H
#define WIN32SIM_WINTERNL_H

#include "windows.h"

typedef struct IO_STATUS_BLOCK {
    NTSTATUS Status;
    ULONG_PTR Information;
} IO_STATUS_BLOCK;

#endif
