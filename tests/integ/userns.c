/* SPDX-License-Identifier: Apache-2.0 */

/*
 * userns.c - unprivileged namespaces for Criterion tests
 *
 * Criterion runs each test in a process with a thread of Criterion's own, and
 * unshare(2) of a user namespace wants a single thread (EINVAL). A process forked
 * by the test has one, but cannot report to Criterion. So the program enters the
 * user namespace at its start, every test's process inherits it, and the test
 * itself only makes a network namespace inside.
 *
 * The start is a constructor and not main(): in a test's process, which is the
 * same program executed again, Criterion writes a jump over the first bytes of
 * main(), and over the next function if main() is as short as ours would be.
 */

#include "userns.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util.h"

#define USERNS_ENV "FWD_TEST_USERNS" /* "", or why userns_begin() could not set up */

enum { USERNS_NOBODY = 65534 };

static int userns_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Root becomes nobody: what follows is what a rootless user can do. */
static int userns_drop_root(void)
{
	if (getuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(USERNS_NOBODY, USERNS_NOBODY, USERNS_NOBODY) < 0 ||
	    setresuid(USERNS_NOBODY, USERNS_NOBODY, USERNS_NOBODY) < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 1); /* or /proc/self belongs to root */
}

/* NULL, or why the tests cannot run. In a child, since there is no way back. */
static const char *userns_probe(const char *exe)
{
	static const char *const why[] = {
		NULL,
		"cannot drop root",
		"nobody cannot execute this program here",
		"user namespaces are refused",
		"network namespaces are refused",
	};
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (userns_drop_root() < 0)
			_exit(1);
		if (access(exe, R_OK | X_OK) < 0)
			_exit(2);
		if (userns_enter(0) < 0)
			_exit(3);
		_exit(unshare(CLONE_NEWNET) < 0 ? 4 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ||
	    WEXITSTATUS(status) >= (int)ARRAY_SIZE(why))
		return "cannot try namespaces in a child";
	return why[WEXITSTATUS(status)];
}

void userns_begin(void)
{
	char exe[PATH_MAX] = "";
	const char *why;

	if (getenv(USERNS_ENV)) /* a test's process: it was born in there */
		return;
	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
		why = "no /proc";
	else
		why = userns_probe(exe);
	if (!why && (userns_drop_root() < 0 || userns_enter(0) < 0)) {
		perror("user namespace"); /* half-way in: the tests would mean nothing */
		_exit(1);
	}
	setenv(USERNS_ENV, why ? why : "", 1);
}

void userns_fresh_net(void)
{
	const char *why = getenv(USERNS_ENV);

	if (why && *why)
		cr_skip("%s", why);
	cr_assert_eq(unshare(CLONE_NEWNET), 0, "%s", strerror(errno));
}

int userns_enter(int flags)
{
	unsigned uid = getuid();
	unsigned gid = getgid();
	char map[64];

	if (unshare(CLONE_NEWUSER | flags) < 0)
		return -1;
	if (userns_write("/proc/self/setgroups", "deny") < 0)
		return -1;
	(void)snprintf(map, sizeof(map), "0 %u 1", uid);
	if (userns_write("/proc/self/uid_map", map) < 0)
		return -1;
	(void)snprintf(map, sizeof(map), "0 %u 1", gid);
	return userns_write("/proc/self/gid_map", map);
}
