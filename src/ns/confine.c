/* SPDX-License-Identifier: Apache-2.0 */
/*
 * confine.c - give up what is not needed any more
 *
 * The order matters. A new root directory takes capabilities, so it comes before they
 * are dropped; Landlock forbids mounting, so it comes after; a process that is not
 * dumpable cannot write its own maps of ids, so that comes after, too.
 *
 * The root directory. Only who has CAP_SYS_ADMIN over its mount namespace may mount.
 * The agent has it, in the container's user namespace. So has main if root started
 * it. Main of an ordinary user has to become root of a user namespace of its own.
 * There is no way back from there, and half-way in nothing would be gained: so a child
 * goes first, makes both namespaces and the root, and main joins it in one step when
 * all is well (setns(2) with a pidfd). What main leaves behind with its user namespace:
 *   - its rights over the container's user namespace, as that one's owner: errands
 *     (errand.h) take their place, and there is nothing left to be had;
 *   - a CAP_NET_BIND_SERVICE that it was given: if that is still needed, main stays,
 *     and has no empty root;
 *   - the view of others' ids: a peer that is not of our user has 65534 (SO_PEERCRED).
 * Signals to processes of the same user, and waiting for children, work as before.
 *
 * Whoever is in an empty root still has the descriptors that were opened before, and
 * what is beyond them.
 */
#include "ns/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "err.h"
#include "ns/landlock.h"
#include "ns/seccomp.h"
#include "ns/userns.h"
#include "util.h"

#define CONFINE_CAPS 64 /* more than there are */

static uint64_t confine_bit(int cap)
{
	return 1ull << cap;
}

/* Note that something could not be had. */
__attribute__((format(printf, 2, 3))) static void confine_lack(struct confine *c, const char *fmt,
							       ...)
{
	size_t len = strlen(c->lacks);
	va_list ap;

	if (len > 0)
		len += (size_t)snprintf(c->lacks + len, sizeof(c->lacks) - len, "; ");
	if (len >= sizeof(c->lacks))
		return;
	va_start(ap, fmt);
	vsnprintf(c->lacks + len, sizeof(c->lacks) - len, fmt, ap);
	va_end(ap);
}

/* ---------------------------------------------------------------- capabilities */

static uint64_t confine_permitted(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	if (syscall(SYS_capget, &h, d) != 0)
		return 0;
	return d[0].permitted | (uint64_t)d[1].permitted << 32;
}

/* Keep what is in @keep of what there is, and let nothing come back by execve(2). */
static void confine_caps(struct confine *c, uint64_t keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	uint64_t caps = confine_permitted() & keep;
	struct __user_cap_data_struct d[2] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
		{ .effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32) }
	};

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	/* Needs CAP_SETPCAP. Who does not have it has nothing, and gets nothing. */
	for (int cap = 0; cap < CONFINE_CAPS; cap++)
		if (!(keep & confine_bit(cap)))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (syscall(SYS_capset, &h, d) != 0)
		confine_lack(c, "fewer capabilities: %s", strerror(errno));
}

/* Whether the user namespace that we are in owns our network namespace. */
static bool confine_owns_network(void)
{
	cleanup_fd int net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	cleanup_fd int owner = net < 0 ? -1 : ioctl(net, NS_GET_USERNS);
	struct stat a, b;

	return owner >= 0 && fstat(owner, &a) == 0 && stat("/proc/self/ns/user", &b) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* ---------------------------------------------------------------- the root directory */

/* Of a new mount namespace, which is the caller's. 0 or -errno with @err. */
static int confine_empty_root(struct err *err)
{
	const char *what = NULL;

	if (unshare(CLONE_NEWNS) != 0)
		what = "make a mount namespace";
	else if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		what = "make mounts private";
	/* On a directory that is there, because we have used it. */
	else if (mount("fwd", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
		       "mode=0555,nr_inodes=2") != 0)
		what = "mount an empty directory";
	else if (chdir("/proc") != 0 || syscall(SYS_pivot_root, ".", ".") != 0)
		what = "change the root directory";
	/* The old root lies on top of the new one (pivot_root(2)). */
	else if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
		what = "leave the old root directory";
	return what ? err_sys(err, errno, "%s", what) : 0;
}

/* The child that goes first: says nothing if all is well, and waits. */
static _Noreturn void confine_scout(int report, int go)
{
	struct err err = { 0 };
	char byte;

	/* Not so if the program has capabilities in its file. */
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (userns_unshare(0, geteuid(), getegid(), &err) < 0 || confine_empty_root(&err) < 0)
		_exit(write(report, err.text, strlen(err.text)) < 0 ? 2 : 1);
	close(report);
	_exit(read(go, &byte, 1) < 0);
}

/* Join @scout once it is there. 0 or -errno with @err. */
static int confine_follow(pid_t scout, int report, struct err *err)
{
	ssize_t n = read(report, err->text, sizeof(err->text) - 1);
	cleanup_fd int pidfd = -1;

	if (n > 0) {
		err->text[n] = '\0';
		return -EPERM;
	}
	pidfd = (int)syscall(SYS_pidfd_open, scout, 0);
	if (pidfd < 0 || setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return err_sys(err, errno, "join a user namespace");
	return 0;
}

/* An empty root in a user namespace of our own. 0 or -errno with @err. */
static int confine_own_userns(struct err *err)
{
	int report[2] = { -1, -1 }, go[2] = { -1, -1 }, ret = -1;
	pid_t scout = -1;

	if (pipe2(report, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0)
		scout = fork();
	if (scout < 0)
		ret = err_sys(err, errno, "fork");
	if (scout == 0) {
		close(go[1]);
		confine_scout(report[1], go[0]);
	}
	close_fd(&report[1]);
	if (scout > 0)
		ret = confine_follow(scout, report[0], err);
	close_fd(&report[0]);
	close_fd(&go[0]);
	close_fd(&go[1]);
	if (scout > 0)
		waitpid(scout, NULL, 0);
	return ret;
}

/* ---------------------------------------------------------------- what all do */

static void confine_common(struct confine *c, uint64_t caps, const struct landlock_wish *wish)
{
	int ret;

	confine_caps(c, caps);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		confine_lack(c, "not being dumpable: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		confine_lack(c, "no_new_privs: %s", strerror(errno));
	ret = landlock_confine(wish);
	if (ret == -ENOSYS || ret == -EOPNOTSUPP)
		confine_lack(c, "Landlock: %s",
			     ret == -ENOSYS ? "this kernel has none" : "disabled at boot");
	else if (ret < 0)
		confine_lack(c, "Landlock: %s", strerror(-ret));
}

static void confine_calls(struct confine *c, enum seccomp_who who, const struct seccomp_pids *pids)
{
	int ret = seccomp_confine(who, pids);

	if (ret == -EOPNOTSUPP)
		confine_lack(c, "seccomp: not for this architecture");
	else if (ret == -ENOSYS || ret == -EINVAL)
		confine_lack(c, "seccomp: this kernel has none");
	else if (ret < 0)
		confine_lack(c, "seccomp: %s", strerror(-ret));
}

/* ---------------------------------------------------------------- for the callers */

void confine_main(struct confine *c)
{
	struct landlock_wish wish = { .remove_in = c->remove_in,
				      .n_remove_in = CONFINE_DIRS,
				      .tcp_connect = true,
				      .signals = true }; /* the agent, and the command */
	uint64_t had = confine_permitted(), keep = 0;
	struct err err;
	int ret;

	c->lacks[0] = '\0';
	if (!c->strict)
		return;
	if (c->low_ports && confine_owns_network())
		keep = had & confine_bit(CAP_NET_BIND_SERVICE);
	if (had & confine_bit(CAP_SYS_ADMIN))
		ret = confine_empty_root(&err);
	else if (keep)
		ret = err_set(&err, EPERM,
			      "it would cost CAP_NET_BIND_SERVICE, which ports may need later");
	else
		ret = confine_own_userns(&err);
	if (ret < 0)
		confine_lack(c, "an empty root directory: %s", err.text);
	confine_common(c, keep, &wish);
}

void confine_agent(struct confine *c)
{
	struct landlock_wish wish = { .tcp_connect = false, .signals = false };
	struct err err;

	c->lacks[0] = '\0';
	if (!c->strict)
		return;
	if (confine_empty_root(&err) < 0)
		confine_lack(c, "an empty root directory: %s", err.text);
	confine_common(c, confine_bit(CAP_NET_ADMIN) | confine_bit(CAP_NET_BIND_SERVICE), &wish);
}

void confine_main_calls(struct confine *c, pid_t agent, pid_t command)
{
	if (c->strict)
		confine_calls(c, SECCOMP_MAIN,
			      &(struct seccomp_pids){ .agent = agent, .command = command });
}

void confine_agent_calls(struct confine *c)
{
	if (c->strict)
		confine_calls(c, SECCOMP_AGENT, &(struct seccomp_pids){ 0 });
}
