/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passed.c - sockets that a service manager has opened
 *
 * LISTEN_FDS says how many there are, LISTEN_PID for whom, LISTEN_FDNAMES how they are
 * called, with a colon between two names (sd_listen_fds(3)).
 *
 * A socket is written down as the port specification that would have opened it, with its
 * target behind that, and parsed as such: so a target is what it is for -t, and is
 * refused for the same reasons in the same words.
 */
#include "fwd/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fwd/portspec.h"
#include "util.h"

#define PASSED_NAME_LEN 256 /* FDNAME_MAX of systemd, and a NUL */

/* One of them, as far as it is known. */
struct passed {
	int fd;
	char name[PASSED_NAME_LEN];
	enum proto proto;
	struct addr addr;
	bool dual_stack;
	char ifname[IFNAMSIZ];
};

int passed_count(struct err *err)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint32_t n;

	if (!pid || !fds || !parse_u32(pid, INT_MAX, &n) || n != (uint32_t)getpid())
		return 0;
	if (!parse_u32(fds, PASSED_MAX, &n))
		return err_set(err, EINVAL, "LISTEN_FDS: '%s' is not a number from 0 to %u", fds,
			       PASSED_MAX);
	return (int)n;
}

/* Copy the @i-th name; systemd calls one without a name "unknown". */
static void passed_name(int i, char ret[PASSED_NAME_LEN])
{
	const char *p = getenv("LISTEN_FDNAMES");

	for (; p && i > 0; i--) {
		p = strchr(p, ':');
		p = p ? p + 1 : NULL;
	}
	if (!p)
		p = "unknown";
	snprintf(ret, PASSED_NAME_LEN, "%.*s", (int)(strchrnul(p, ':') - p), p);
}

static int passed_fail(const struct passed *s, struct err *err, int code, const char *what)
{
	return err_set(err, code, "socket %d, '%s', of the service manager %s", s->fd, s->name,
		       what);
}

static int passed_option(int fd, int level, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, option, &value, &len) == 0 ? value : -errno;
}

/* What it is, and whether it is one that we can use. */
static int passed_look(struct passed *s, struct err *err)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa), peer_len = sizeof(sa), name_len = sizeof(s->ifname);
	int type = passed_option(s->fd, SOL_SOCKET, SO_TYPE);
	int protocol = passed_option(s->fd, SOL_SOCKET, SO_PROTOCOL);
	bool inet;

	if (type < 0)
		return passed_fail(s, err, -type,
				   type == -EBADF ? "is not open" : "is not a socket");
	inet = getsockname(s->fd, (struct sockaddr *)&sa, &len) == 0 &&
	       addr_from_sockaddr(&sa, &s->addr);
	if (!inet || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return passed_fail(s, err, EAFNOSUPPORT,
				   "is neither TCP nor UDP (see ListenStream=, ListenDatagram=)");
	s->proto = protocol == IPPROTO_UDP ? PROTO_UDP : PROTO_TCP;
	if (s->proto == PROTO_TCP && passed_option(s->fd, SOL_SOCKET, SO_ACCEPTCONN) <= 0)
		return passed_fail(s, err, EINVAL,
				   "does not listen: a connection cannot be taken over (Accept=no "
				   "is needed)");
	if (s->addr.port == 0)
		return passed_fail(s, err, EINVAL, "is not bound to a port");
	if (s->proto == PROTO_UDP && getpeername(s->fd, (struct sockaddr *)&sa, &peer_len) == 0)
		return passed_fail(s, err, EISCONN, "is connected");
	s->dual_stack = addr_is_any(&s->addr) && addr_family(&s->addr) == ADDR_V6 &&
			passed_option(s->fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
	if (getsockopt(s->fd, SOL_SOCKET, SO_BINDTODEVICE, s->ifname, &name_len) != 0 ||
	    name_len == 0)
		s->ifname[0] = '\0';
	/* A link-local address has its device as its scope. */
	if (!s->ifname[0] && s->addr.scope != 0 && !if_indextoname(s->addr.scope, s->ifname))
		s->ifname[0] = '\0';
	return 0;
}

/* Does @name say where to? A name of a unit never does: it has no '/', and a suffix. */
static bool passed_name_is_target(const char *name)
{
	struct addr ignored;

	return strchr(name, '/') || (*name && name[strspn(name, "0123456789")] == '\0') ||
	       addr_parse(name, strlen(name), &ignored);
}

/* The target of NAME=TARGET, if @name is NAME; or NULL. */
static const char *passed_match(const char *name_target, const char *name)
{
	size_t len = strlen(name);

	return strncmp(name_target, name, len) == 0 && name_target[len] == '='
		       ? name_target + len + 1
		       : NULL;
}

static int passed_rule(const struct passed *s, const char *target, struct rules *ret,
		       struct err *err)
{
	const struct portspec_env any = {
		.ephemeral_first = 1, .ephemeral_last = 65535, .v4 = true, .v6 = true
	};
	bool v6 = addr_family(&s->addr) == ADDR_V6;
	char spec[ADDR_STRLEN + IFNAMSIZ + PASSED_NAME_LEN + 16], ip[ADDR_STRLEN];
	unsigned before = ret->n;
	int code;

	code = snprintf(spec, sizeof(spec), "%s%s%s%s%s/%u%s%s", v6 ? "[" : "",
			addr_ip_str(&s->addr, ip), v6 ? "]" : "", s->ifname[0] ? "%" : "",
			s->ifname, s->addr.port, target ? ":" : "", target ? target : "");
	/* A list would be more than a target. */
	if (code >= (int)sizeof(spec) || (target && strchr(target, ',')))
		return passed_fail(s, err, EINVAL,
				   "has a target that is not [ADDRESS/]PORT or ADDRESS");
	code = portspec_parse(s->proto, spec, &any, ret, err);
	if (code < 0)
		return err_prefix(err, code, "socket %d, '%s', of the service manager", s->fd,
				  s->name);
	fwd_assert(ret->n == before + 1);
	ret->v[before].any = s->dual_stack;
	ret->v[before].passed = s->fd;
	return 0;
}

int passed_rules(const struct passed_names *names, int n, struct rules *ret, struct err *err)
{
	bool used[PASSED_NAMES] = { false };

	for (int i = 0; i < n; i++) {
		struct passed s = { .fd = PASSED_FIRST + i };
		const char *target = NULL;
		int code;

		passed_name(i, s.name);
		code = passed_look(&s, err);
		if (code < 0)
			return code;
		if (passed_name_is_target(s.name))
			target = s.name;
		for (unsigned k = 0; k < names->n; k++) {
			const char *t = passed_match(names->v[k], s.name);

			target = t ? t : target;
			used[k] = used[k] || t;
		}
		code = passed_rule(&s, target, ret, err);
		if (code < 0)
			return code;
	}
	for (unsigned k = 0; k < names->n; k++)
		if (!used[k])
			return err_set(err, EINVAL,
				       "option '--listen-fd': '%s': the service manager has passed "
				       "no socket of that name",
				       names->v[k]);
	return 0;
}

void passed_take(int n)
{
	for (int i = 0; i < n; i++)
		fcntl(PASSED_FIRST + i, F_SETFD, FD_CLOEXEC);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}
