/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The address of a control socket, for both of its ends. */

#include <sys/un.h>

#include "err.h"

/* 0, or -ENAMETOOLONG with @err. */
int ctlsock_addr(const char *path, struct sockaddr_un *ret, struct err *err);

/* Connect to whoever listens at @path. The descriptor, or -errno with @err. */
int ctlsock_connect(const char *path, struct err *err);
