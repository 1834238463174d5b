/* SPDX-License-Identifier: Apache-2.0 */
/*
 * find.c - find a network namespace, its owner, and enter it
 */
#include "ns/find.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "util.h"

#define PID_MAX_LIMIT 4194304u /* include/linux/threads.h */

static int ns_pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The process that "/proc/PID/ns/net" names, or 0 for any other path. */
static pid_t ns_pid_of_path(const char *path)
{
	unsigned pid;
	int end = 0;

	if (sscanf(path, "/proc/%u/ns/net%n", &pid, &end) != 1 || end == 0 || path[end] != '\0')
		return 0;
	return pid <= PID_MAX_LIMIT ? (pid_t)pid : 0;
}

/* Turn a name into a path. */
static int ns_path_of_name(const char *name, char *ret, size_t size, struct err *err)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	snprintf(ret, size, "/run/netns/%s", name);
	if (stat(ret, &st) == 0)
		return 0;
	if (run) {
		snprintf(ret, size, "%s/netns/%s", run, name);
		if (stat(ret, &st) == 0)
			return 0;
	}
	return err_set(err, ENOENT, "no network namespace named '%s' in /run/netns%s%s%s", name,
		       run ? " or " : "", run ? run : "", run ? "/netns" : "");
}

static int ns_open_path(struct ns_target *t, const char *spec, struct err *err)
{
	pid_t pid = ns_pid_of_path(t->path);

	if (pid > 0) {
		t->pid_fd = ns_pidfd_open(pid);
		if (t->pid_fd < 0 && errno == ESRCH)
			return err_set(err, ESRCH, "no process with id %d", (int)pid);
	}
	t->net_fd = open(t->path, O_RDONLY | O_CLOEXEC);
	if (t->net_fd >= 0)
		return 0;
	if (errno == EACCES && pid > 0)
		return err_set(err, EACCES,
			       "namespace of process %d: permission denied: it is not yours, or "
			       "guarded: run fwd as the user who owns the container",
			       (int)pid);
	return err_sys(err, errno, "network namespace '%s'", spec);
}

/* It must be a network namespace, and not ours. */
static int ns_check(struct ns_target *t, const char *spec, struct err *err)
{
	struct stat st, own;

	if (ioctl(t->net_fd, NS_GET_NSTYPE) != CLONE_NEWNET)
		return err_set(err, EINVAL, "'%s' is not a network namespace", spec);
	if (fstat(t->net_fd, &st) != 0)
		return err_sys(err, errno, "network namespace '%s'", spec);
	if (stat("/proc/self/ns/net", &own) == 0 && own.st_ino == st.st_ino &&
	    own.st_dev == st.st_dev)
		return err_set(err, EINVAL,
			       "network namespace '%s' is the one that fwd runs in: nothing to "
			       "forward to",
			       spec);
	t->dev = st.st_dev;
	t->ino = st.st_ino;
	return 0;
}

static int ns_find_owner(struct ns_target *t, const char *spec, struct err *err)
{
	struct stat st, own;

	t->user_fd = ioctl(t->net_fd, NS_GET_USERNS);
	if (t->user_fd < 0 && errno == EPERM)
		return err_set(
			err, EPERM,
			"network namespace '%s' belongs to a user namespace outside this one: "
			"run fwd out there",
			spec);
	if (t->user_fd < 0)
		return err_sys(err, errno, "owner of network namespace '%s'", spec);
	fcntl(t->user_fd, F_SETFD, FD_CLOEXEC);
	if (ioctl(t->user_fd, NS_GET_OWNER_UID, &t->owner) != 0)
		t->owner = (uid_t)-1;
	if (fstat(t->user_fd, &st) == 0 && stat("/proc/self/ns/user", &own) == 0 &&
	    st.st_ino == own.st_ino && st.st_dev == own.st_dev)
		close_fd(&t->user_fd); /* setns(2) to our own would be EINVAL */
	return 0;
}

int ns_open(const char *spec, struct ns_target *ret, struct err *err)
{
	struct ns_target t = { .net_fd = -1, .user_fd = -1, .pid_fd = -1 };
	uint32_t pid;
	int code = 0;

	if (parse_u32(spec, PID_MAX_LIMIT, &pid))
		snprintf(t.path, sizeof(t.path), "/proc/%u/ns/net", pid);
	else if (strchr(spec, '/'))
		snprintf(t.path, sizeof(t.path), "%s", spec);
	else
		code = ns_path_of_name(spec, t.path, sizeof(t.path), err);

	if (code == 0)
		code = ns_open_path(&t, spec, err);
	if (code == 0)
		code = ns_check(&t, spec, err);
	if (code == 0)
		code = ns_find_owner(&t, spec, err);
	if (code < 0) {
		ns_close(&t);
		return code;
	}
	*ret = t;
	return 0;
}

void ns_close(struct ns_target *t)
{
	close_fd(&t->net_fd);
	close_fd(&t->user_fd);
	close_fd(&t->pid_fd);
}

int ns_enter(const struct ns_target *t, struct err *err)
{
	if (t->user_fd >= 0 && setns(t->user_fd, CLONE_NEWUSER) != 0) {
		if (errno == EPERM)
			return err_set(err, EPERM,
				       "cannot enter network namespace %s: its user namespace was "
				       "made by uid %u: run fwd as that user",
				       t->path, t->owner);
		return err_sys(err, errno, "enter the user namespace of %s", t->path);
	}
	if (setns(t->net_fd, CLONE_NEWNET) != 0) {
		if (errno == EPERM)
			return err_set(err, EPERM,
				       "cannot enter network namespace %s: it belongs to uid %u of "
				       "this user namespace, not to you: run fwd as that user, or "
				       "as root",
				       t->path, t->owner);
		return err_sys(err, errno, "enter network namespace %s", t->path);
	}
	return 0;
}
