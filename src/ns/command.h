/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Run a command in new user and network namespaces (unshare(1), as fwd COMMAND). */

#include <sys/types.h>

#include "err.h"

struct command {
	pid_t pid;
	int go; /* owned; writing to it lets the command start */
};

/*
 * Fork a child that makes the namespaces, in which the caller's uid and gid are
 * root, and then waits. 0, or -errno with @err; then no child is left. The
 * caller must have one thread.
 */
int command_prepare(struct command *c, char *const *argv, struct err *err);

/* Let the command start. */
void command_go(struct command *c);

/* Kill the child if it has not been reaped, and close what is held. */
void command_drop(struct command *c);

/*
 * If the command has ended, its exit status as a shell would give it (128 plus
 * the signal that killed it); -1 if it has not.
 */
int command_reap(struct command *c);
