/* SPDX-License-Identifier: Apache-2.0 */
/*
 * landlock.c - no path can be used any more
 *
 * A right that a ruleset handles is denied but where a rule allows it. Ours handles
 * all that the kernel knows of, and has next to no rules. The definitions are our
 * own, from include/uapi/linux/landlock.h: headers are often older than kernels.
 */
#include "ns/landlock.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "util.h"

/* The same numbers on every architecture. */
#define LANDLOCK_SYS_CREATE   444
#define LANDLOCK_SYS_ADD_RULE 445
#define LANDLOCK_SYS_RESTRICT 446

#define LANDLOCK_GET_VERSION	  1u
#define LANDLOCK_PATH_BENEATH	  1
#define LANDLOCK_FS_REMOVE_FILE	  (1ull << 5)
#define LANDLOCK_NET_TCP_CONNECT  (1ull << 1)
#define LANDLOCK_SCOPE_ABSTRACT	  (1ull << 0)
#define LANDLOCK_SCOPE_OF_SIGNALS (1ull << 1)

/* struct landlock_ruleset_attr of ABI 6; an older kernel takes zeros for what it does not know. */
struct landlock_ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

/* struct landlock_path_beneath_attr */
struct landlock_beneath {
	uint64_t allowed;
	int32_t dir;
} __attribute__((packed));

/* Every right over files that ABI @abi knows: the number of them, by ABI. */
static uint64_t landlock_fs_rights(int abi)
{
	static const uint8_t rights[] = { 0, 13, 14, 15, 15, 16 };
	unsigned newest = ARRAY_SIZE(rights) - 1;

	return (1ull << rights[(unsigned)abi < newest ? (unsigned)abi : newest]) - 1;
}

static int landlock_ruleset_for(const struct landlock_wish *wish, int abi)
{
	struct landlock_ruleset r = { .fs = landlock_fs_rights(abi) };

	if (abi >= 4 && !wish->tcp_connect)
		r.net = LANDLOCK_NET_TCP_CONNECT;
	if (abi >= 6)
		r.scoped = LANDLOCK_SCOPE_ABSTRACT |
			   (wish->signals ? 0 : LANDLOCK_SCOPE_OF_SIGNALS);
	return (int)syscall(LANDLOCK_SYS_CREATE, &r, sizeof(r), 0);
}

int landlock_confine(const struct landlock_wish *wish)
{
	int abi = (int)syscall(LANDLOCK_SYS_CREATE, NULL, 0, LANDLOCK_GET_VERSION);
	cleanup_fd int ruleset = -1;

	if (abi < 0)
		return -errno;
	ruleset = landlock_ruleset_for(wish, abi);
	if (ruleset < 0)
		return -errno;
	for (size_t i = 0; i < wish->n_remove_in; i++) {
		struct landlock_beneath rule = { .allowed = LANDLOCK_FS_REMOVE_FILE,
						 .dir = wish->remove_in[i] };

		if (rule.dir >= 0 &&
		    syscall(LANDLOCK_SYS_ADD_RULE, ruleset, LANDLOCK_PATH_BENEATH, &rule, 0) != 0)
			return -errno;
	}
	return syscall(LANDLOCK_SYS_RESTRICT, ruleset, 0) == 0 ? 0 : -errno;
}
