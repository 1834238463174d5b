/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userns.c - user namespaces of our own making
 */
#include "ns/userns.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util.h"

/* A mapping of one id needs no privilege. */
static int userns_map(const char *path, unsigned inside, unsigned outside)
{
	char map[64];

	snprintf(map, sizeof(map), "%u %u 1\n", inside, outside);
	return write_file(path, map);
}

int userns_unshare(int flags, uid_t uid, gid_t gid, struct err *err)
{
	uid_t outer_uid = geteuid();
	gid_t outer_gid = getegid();
	int ret;

	if (unshare(CLONE_NEWUSER | flags) != 0) {
		if (errno == EPERM || errno == ENOSPC)
			return err_set(
				err, errno,
				"cannot make a user namespace: %s: see user.max_user_namespaces "
				"and kernel.apparmor_restrict_unprivileged_userns",
				strerror(errno));
		return err_sys(err, errno, "make a user namespace");
	}
	/* Absent before Linux 3.19, and needed before gid_map. */
	ret = write_file("/proc/self/setgroups", "deny");
	if (ret == 0 || ret == -ENOENT)
		ret = userns_map("/proc/self/uid_map", uid, outer_uid);
	if (ret == 0)
		ret = userns_map("/proc/self/gid_map", gid, outer_gid);
	/* Without capabilities in there: AppArmor's way, where a profile is missing. */
	if (ret == -EPERM || ret == -EACCES)
		return err_set(err, -ret,
			       "cannot map ids into the new user namespace: %s: see "
			       "kernel.apparmor_restrict_unprivileged_userns",
			       strerror(-ret));
	return ret < 0 ? err_sys(err, -ret, "map ids into the new user namespace") : 0;
}
