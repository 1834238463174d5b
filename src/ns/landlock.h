/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Landlock (landlock(7)): no path can be used any more. */

#include <stdbool.h>
#include <stddef.h>

struct landlock_wish {
	const int *remove_in; /* directories (descriptors) in which files may be removed still */
	size_t n_remove_in;
	bool tcp_connect; /* may connect TCP sockets */
	bool signals;	  /* may signal processes outside */
};

/*
 * Deny the calling thread, and those it makes later, every use of a path; abstract
 * UNIX sockets of others; and what @wish does not name, each as far as the kernel
 * can. Descriptors that are open stay as good as they were. no_new_privs must be set.
 *
 * 0; -ENOSYS or -EOPNOTSUPP where the kernel has no Landlock, or it is off; -errno.
 */
int landlock_confine(const struct landlock_wish *wish);
