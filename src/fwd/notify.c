/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.c - the protocol of sd_notify(3)
 *
 * One datagram for each message. The socket is connected once, at start: later there may
 * be no file system any more in which its path means anything.
 */
#include "fwd/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fwd/log.h"
#include "util.h"

#define NOTIFY_LEN 1024

/* A path, or "@" and an abstract name (unix(7)). 0 or -errno. */
static int notify_connect(const char *name, int *ret_fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	int fd, code = 0;

	if (name[0] != '/' && name[0] != '@')
		return -EAFNOSUPPORT;
	if (len < 2 || len >= sizeof(sa.sun_path))
		return -EINVAL;
	memcpy(sa.sun_path, name, len);
	if (name[0] == '@')
		sa.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) != 0)
		code = -errno;
	if (code == 0)
		*ret_fd = fd;
	else
		close(fd);
	return code;
}

/* In nanoseconds; 0 if it is not wanted, or of another process. */
static uint64_t notify_watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long v;
	char *end;

	if (!usec || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	errno = 0;
	v = strtoull(usec, &end, 10);
	return errno == 0 && *end == '\0' && v < UINT64_MAX / 1000 ? v * 1000 : 0;
}

void notify_open(struct notify *n)
{
	const char *name = getenv("NOTIFY_SOCKET");
	int code;

	*n = (struct notify){ .fd = -1 };
	if (name && *name) {
		code = notify_connect(name, &n->fd);
		if (code < 0)
			log_warn("NOTIFY_SOCKET '%s': %s", name, strerror(-code));
		else
			n->watchdog_ns = notify_watchdog();
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_close(struct notify *n)
{
	close_fd(&n->fd);
}

void notify_send(const struct notify *n, const char *fmt, ...)
{
	char text[NOTIFY_LEN];
	va_list ap;
	int len;

	if (n->fd < 0)
		return;
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len >= (int)sizeof(text))
		len = (int)sizeof(text) - 1;
	if (send(n->fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("the service manager cannot be told: %s", strerror(errno));
}
