/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork.c - fork(2) for fwd with ThreadSanitizer (make tsan)
 *
 * TSan gives each child of fork() a thread of its own, and a process with two
 * threads cannot enter a user namespace (setns(2)). Below the library it does not
 * notice. fwd forks while it has one thread, so no lock is held by another.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t __wrap_fork(void);

pid_t __wrap_fork(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}
