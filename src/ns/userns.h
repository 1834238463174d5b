/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* User namespaces of our own making (user_namespaces(7)). */

#include <sys/types.h>

#include "err.h"

/*
 * Move the caller, which must have one thread, to a new user namespace, and to the
 * other new namespaces of @flags (CLONE_NEW*). There its effective ids are @uid and
 * @gid, and no other id exists. 0 or -errno with @err.
 */
int userns_unshare(int flags, uid_t uid, gid_t gid, struct err *err);
