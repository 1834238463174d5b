/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Going to the background, and the pid file. */

#include "err.h"

struct daemon {
	int ready; /* the waiting parent's pipe; owned; -1: in the foreground */
};

/*
 * Fork: the child returns 0 and goes on, still attached to its terminal. The
 * parent never returns: it waits for daemon_ready() of the child and exits with
 * 0, or with the child's status if that ends before. -errno with @err.
 */
int daemon_fork(struct daemon *d, struct err *err);

/* Everything is ready: let the parent go, leave the session, and close 0, 1 and 2. */
void daemon_ready(struct daemon *d);

/* Write our process id to @path, which is replaced. 0 or -errno with @err. */
int daemon_write_pid(const char *path, struct err *err);
