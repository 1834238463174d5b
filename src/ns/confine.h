/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Give up, after the start, all that is not needed any more: capabilities, the
 * file system, most system calls, and the chance to get any of them back.
 *
 * Nothing here is fatal: what the kernel or the environment does not give is left
 * out, and named in @lacks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONFINE_DIRS 3

/* Whether this build can run confined: the run-time libraries of sanitizers cannot. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#	define CONFINE_SANITIZER 1
#elif defined(__has_feature)
#	if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                 \
		__has_feature(memory_sanitizer)
#		define CONFINE_SANITIZER 1
#	endif
#endif
#ifndef CONFINE_SANITIZER
#	define CONFINE_SANITIZER 0
#endif

struct confine {
	bool strict;		     /* else nothing is done */
	bool low_ports;		     /* main: ports below 1024 may be bound later */
	int remove_in[CONFINE_DIRS]; /* main: where files are removed at the end; or -1 */
	char lacks[512];	     /* what could not be had, and why; "" if nothing */
};

/*
 * What needs a process of one thread; threads made later are confined as well. No new
 * privileges, not dumpable, an empty root directory (for whom that means a user
 * namespace of his own, for main, one of those), no capability but those that
 * docs/security.md names, no path to be used (Landlock).
 */
void confine_main(struct confine *c);
void confine_agent(struct confine *c);

/*
 * The rest: only the system calls of seccomp.c, for all threads. Main may signal
 * @agent and @command (0: none).
 */
void confine_main_calls(struct confine *c, pid_t agent, pid_t command);
void confine_agent_calls(struct confine *c);
