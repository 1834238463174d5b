/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - listening sockets in the host's network namespace
 */
#include "fwd/listen.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "util.h"

#ifndef UDP_GRO
#	define UDP_GRO 104
#endif

#ifndef SO_BUF_LOCK
#	define SO_BUF_LOCK 72
#endif

#define LISTEN_BACKLOG	  65535	    /* the kernel caps it: net.core.somaxconn */
#define LISTEN_UDP_BUFFER (4 << 20) /* and this: net.core.rmem_max, wmem_max */

/* A peer that has vanished is noticed after 300 + 5 * 60 s without a byte. */
#define KEEPALIVE_IDLE	   300
#define KEEPALIVE_INTERVAL 60
#define KEEPALIVE_COUNT	   5

struct endpoint {
	enum proto proto;
	struct addr addr;
	bool dual_stack; /* [::] that takes IPv4, too */
	const char *ifname;
};

static int listen_set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* Room for bursts, unless the size has been set already (Linux 5.14 tells). */
static void listen_set_buffers(int fd)
{
	int locked = 0; /* SOCK_SNDBUF_LOCK 1, SOCK_RCVBUF_LOCK 2 */
	socklen_t len = sizeof(locked);

	if (getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &locked, &len) != 0)
		locked = 0;
	if (!(locked & 2))
		listen_set(fd, SOL_SOCKET, SO_RCVBUF, LISTEN_UDP_BUFFER);
	if (!(locked & 1))
		listen_set(fd, SOL_SOCKET, SO_SNDBUF, LISTEN_UDP_BUFFER);
}

/* Where each datagram was sent to, and runs of them in one receive. */
static void listen_set_udp(int fd, bool v6)
{
	/* IPv4's also on a dual-stack socket: only it tells a broadcast. */
	listen_set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (v6)
		listen_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	listen_set(fd, IPPROTO_UDP, UDP_GRO, 1);
	listen_set_buffers(fd);
}

/* What every connection inherits from its listener (tcp_create_openreq_child()). */
static void listen_set_inherited(int fd)
{
	listen_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	listen_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	listen_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
	listen_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
	listen_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
}

/* As if_nametoindex(3), but without a socket of its own, of another family. */
static unsigned listen_ifindex(int fd, const char *name)
{
	struct ifreq r = { 0 };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	return ioctl(fd, SIOCGIFINDEX, &r) == 0 ? (unsigned)r.ifr_ifindex : 0;
}

/* Socket, options, bind, listen; @shared: joins others on the same port. */
static int listen_socket(const struct conf *conf, const struct endpoint *e, bool shared)
{
	bool udp = e->proto == PROTO_UDP;
	int fd = socket(addr_af(&e->addr),
			(udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct addr addr = e->addr;
	struct sockaddr_storage sa;
	socklen_t len;
	int ret;

	if (fd < 0)
		return -errno;
	if (addr_is_link_local(&addr))
		addr.scope = listen_ifindex(fd, e->ifname); /* 0: bind(2) says EINVAL */
	len = addr_to_sockaddr(&addr, &sa);
	/* For UDP it would let others take the port, too; nothing lingers there. */
	ret = udp ? 0 : listen_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ret == 0 && shared)
		ret = listen_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (ret == 0 && addr_family(&e->addr) == ADDR_V6)
		ret = listen_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !e->dual_stack);
	if (ret == 0 && conf->freebind)
		ret = listen_set(fd, IPPROTO_IP, IP_FREEBIND, 1);
	if (ret == 0 && e->ifname[0] &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, e->ifname, (socklen_t)strlen(e->ifname)) !=
		    0)
		/* ENODEV means this; of an address, others would say so, too. */
		ret = errno == ENODEV ? -ENXIO : -errno;
	if (udp)
		listen_set_udp(fd, addr_family(&e->addr) == ADDR_V6);
	else
		listen_set_inherited(fd);
	if (ret == 0 && bind(fd, (struct sockaddr *)&sa, len) != 0)
		ret = -errno;
	if (ret == 0 && !udp && listen(fd, LISTEN_BACKLOG) != 0)
		ret = -errno;
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

/* ---------------------------------------------------------------- errors */

static int listen_err(const struct conf *conf, struct err *err, int code, const struct endpoint *e)
{
	char where[ADDR_STRLEN + IFNAMSIZ + 32], addr[ADDR_STRLEN];
	const char *proto = proto_str(e->proto);
	unsigned first = conf->unprivileged_ports;

	if (e->dual_stack)
		snprintf(where, sizeof(where), "%s port %u, all addresses%s%s", proto, e->addr.port,
			 e->ifname[0] ? " of " : "", e->ifname);
	else
		snprintf(where, sizeof(where), "%s %s%s%s", proto, addr_str(&e->addr, addr),
			 e->ifname[0] ? " of " : "", e->ifname);
	switch (code) {
	case ENXIO:
		return err_set(err, ENODEV, "cannot listen on %s: no such device '%s'", where,
			       e->ifname);
	case EACCES:
		if (e->addr.port >= first)
			break;
		return err_set(
			err, code,
			"cannot listen on %s: Permission denied: ports below %u need "
			"privileges; to allow it: sysctl net.ipv4.ip_unprivileged_port_start=%u",
			where, first, e->addr.port);
	case EADDRNOTAVAIL:
		return err_set(
			err, code,
			"cannot listen on %s: the host does not have this address (--freebind "
			"listens anyway)",
			where);
	case EINVAL:
		if (!addr_is_link_local(&e->addr) || e->ifname[0])
			break;
		return err_set(err, code,
			       "cannot listen on %s: a link-local address needs its interface: "
			       "ADDRESS%%INTERFACE/PORT",
			       where);
	case EPERM:
		return err_set(err, code,
			       "cannot listen on %s: binding to a device needs privileges before "
			       "Linux 5.7",
			       where);
	case EMFILE:
		return err_set(
			err, code,
			"cannot listen on %s: too many open files: raise the limit (ulimit -Hn) "
			"or publish fewer ports",
			where);
	default:
		break;
	}
	return err_sys(err, code, "cannot listen on %s", where);
}

/* ---------------------------------------------------------------- for the caller */

static int listen_endpoint(const struct conf *conf, const struct endpoint *e, unsigned n,
			   int *ret_fd, struct err *err)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		ret_fd[i] = listen_socket(conf, e, i > 0);
		if (ret_fd[i] < 0)
			break;
		/* Proved alone on its port: let ours join (tests/kernel/reuseport_after_listen.c).
		 */
		if (i == 0 && n > 1)
			listen_set(ret_fd[0], SOL_SOCKET, SO_REUSEPORT, 1);
	}
	if (i == n)
		return 0;
	n = (unsigned)-ret_fd[i];
	while (i-- > 0)
		close_fd(&ret_fd[i]);
	return listen_err(conf, err, (int)n, e);
}

int listen_open(const struct conf *conf, const struct rule *rule, uint16_t port, unsigned n,
		int *ret_fd, struct err *err)
{
	struct endpoint e = { .proto = rule->proto, .addr = rule->bind, .ifname = rule->ifname };
	int ret;

	if (rule->any) {
		e.addr = conf->v6 ? addr_any6 : addr_any4;
		e.dual_stack = conf->v4 && conf->v6;
	}
	e.addr.port = port;
	ret = listen_endpoint(conf, &e, n, ret_fd, err);
	if (ret == -EAFNOSUPPORT && e.dual_stack) {
		/* A host without IPv6. */
		e = (struct endpoint){ .proto = rule->proto,
				       .addr = addr_any4,
				       .ifname = rule->ifname };
		e.addr.port = port;
		ret = listen_endpoint(conf, &e, n, ret_fd, err);
	}
	return ret;
}

void listen_adopt(int fd, enum proto proto)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	bool v6 = getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
		  len == sizeof(struct sockaddr_in6);

	set_nonblock(fd);
	if (proto == PROTO_UDP)
		listen_set_udp(fd, v6);
	else
		listen_set_inherited(fd);
}

bool listen_bound(int fd, struct addr *ret)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa), size = sizeof(int);
	int v6only = 1;

	if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0 || !addr_from_sockaddr(&sa, ret))
		return false;
	return addr_family(ret) == ADDR_V6 && addr_is_any(ret) &&
	       getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &size) == 0 && !v6only;
}
