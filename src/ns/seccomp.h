/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The system calls that are left after the start (seccomp(2)). */

#include <stddef.h>
#include <sys/types.h>

enum seccomp_who { SECCOMP_MAIN = 1, SECCOMP_AGENT = 2 };

/* Processes that may be signalled beside the caller itself; 0: none. */
struct seccomp_pids {
	pid_t agent;
	pid_t command;
};

/*
 * Leave all threads of the process, and any other that they would make, the system
 * calls that seccomp.c lists for @who. Another one ends the process (SIGSYS). Needs
 * no_new_privs in the calling thread, and gives it to the others. The other threads
 * must have no filter that the caller does not have.
 *
 * 0; -ENOSYS or -EINVAL if the kernel has no seccomp(2); -EOPNOTSUPP on an architecture
 * that we have no number for; -errno.
 */
int seccomp_confine(enum seccomp_who who, const struct seccomp_pids *pids);
