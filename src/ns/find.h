/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Find a container's network namespace and what is needed to enter it. */

#include <stdint.h>
#include <sys/types.h>

#include "err.h"

struct ns_target {
	int net_fd;	   /* the network namespace; owned */
	int user_fd;	   /* the user namespace that owns it; owned; -1 if it is our own */
	uid_t owner;	   /* uid of the creator of that user namespace, for messages */
	int pid_fd;	   /* of the process that it was found by; owned; -1 if by a path */
	char path[4096];   /* where it was found */
	uint64_t dev, ino; /* what identifies it */
};

/*
 * Open the namespace named by @spec: a process id, a path (anything with a "/"),
 * or a name as of ip-netns(8), looked for in /run/netns and in
 * $XDG_RUNTIME_DIR/netns. The owner is found from the namespace itself
 * (NS_GET_USERNS, ioctl_ns(2)), not from /proc/PID/ns/user: the process may have
 * moved on to a child user namespace.
 *
 * 0, or -errno with @err saying what is wrong with it and what to do. The
 * namespace of the caller is refused.
 */
int ns_open(const char *spec, struct ns_target *ret, struct err *err);

/* Close what it holds. */
void ns_close(struct ns_target *t);

/*
 * Enter both namespaces; the caller must be single-threaded (setns(2)). 0 or
 * -errno with @err.
 */
int ns_enter(const struct ns_target *t, struct err *err);
