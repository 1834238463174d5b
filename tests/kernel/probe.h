/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the probes share. A probe is one program that proves one behaviour of the
 * kernel: exit status 0 if it holds, 1 if not, 77 if it cannot be tried here.
 * It must be able to stand alone, so all of this is inline.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROBE_NOBODY = 65534, PROBE_SKIP = 77, PROBE_SECONDS = 30 };

/* End with status 77 and the reason. */
static inline _Noreturn void probe_skip(const char *why)
{
	(void)printf("skip: %s: %s\n", why, strerror(errno));
	exit(PROBE_SKIP);
}

/* End with status 1 and what did not hold, unless @ok. */
static inline void probe_check(bool ok, const char *what)
{
	if (ok)
		return;
	(void)printf("fail: %s (errno: %s)\n", what, strerror(errno));
	exit(1);
}

/* As probe_check(); an error if @ret is negative. Returns @ret. */
static inline int probe_ok(int ret, const char *what)
{
	probe_check(ret >= 0, what);
	return ret;
}

/* Write a file under /proc. 0, or -1 with errno. */
static inline int probe_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

/* Change the flags of lo: IFF_UP on or off. 0, or -1 with errno. */
static inline int probe_lo(bool up)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -1;
	r = ioctl(fd, SIOCSIFFLAGS, &ifr);
	close(fd);
	return r;
}

/* Enter a user and a network namespace of our own, or skip. Root becomes nobody first. */
static inline void probe_enter(void)
{
	unsigned uid;
	unsigned gid;
	char map[64];

	alarm(PROBE_SECONDS); /* a probe that hangs has failed */
	if (getuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(PROBE_NOBODY, PROBE_NOBODY, PROBE_NOBODY) < 0 ||
	     setresuid(PROBE_NOBODY, PROBE_NOBODY, PROBE_NOBODY) < 0 ||
	     prctl(PR_SET_DUMPABLE, 1) < 0))
		probe_skip("cannot drop root");
	uid = getuid();
	gid = getgid();
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		probe_skip("unprivileged namespaces are refused");
	(void)snprintf(map, sizeof(map), "0 %u 1", uid);
	if (probe_write("/proc/self/setgroups", "deny") < 0 ||
	    probe_write("/proc/self/uid_map", map) < 0)
		probe_skip("cannot map the user");
	(void)snprintf(map, sizeof(map), "0 %u 1", gid);
	if (probe_write("/proc/self/gid_map", map) < 0)
		probe_skip("cannot map the group");
}

/* As probe_enter(), with lo up. */
static inline void probe_enter_lo(void)
{
	probe_enter();
	probe_ok(probe_lo(true), "bring lo up");
}

static inline struct sockaddr_in probe_addr(const char *ip, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	probe_check(inet_pton(AF_INET, ip, &a.sin_addr) == 1, ip);
	return a;
}

/* A TCP listener on @a, with SO_REUSEADDR. */
static inline int probe_listen(const struct sockaddr_in *a)
{
	int fd = probe_ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	int on = 1;

	probe_ok(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
	probe_ok(bind(fd, (const void *)a, sizeof(*a)), "bind listener");
	probe_ok(listen(fd, SOMAXCONN), "listen");
	return fd;
}

/* An established TCP connection over lo: both ends. */
static inline void probe_pair(int sv[2])
{
	struct sockaddr_in a = probe_addr("127.0.0.1", 4000);
	int lfd = probe_listen(&a);

	sv[0] = probe_ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
	probe_ok(connect(sv[0], (void *)&a, sizeof(a)), "connect");
	sv[1] = probe_ok(accept4(lfd, NULL, NULL, SOCK_CLOEXEC), "accept");
	close(lfd);
}
