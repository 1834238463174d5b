/* SPDX-License-Identifier: Apache-2.0 */

/* test_nl.c - netlink sockets, dumps, interfaces and listeners, against the kernel */

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "nl/diag.h"
#include "nl/link.h"
#include "userns.h"
#include "util.h"

enum {
	TEST_LO = 1,	  /* lo is always the first interface */
	TEST_MANY = 1000, /* addresses: several parts of a dump, and the kernel is one ahead */
};

static void __attribute__((constructor)) test_begin(void)
{
	userns_begin();
}

/* ------------------------------------------------------------ helpers */

static struct nl nl; /* in the test's namespace */
static struct err err;

static void test_setup(void)
{
	userns_fresh_net();
	cr_assert_eq(nl_open(&nl, NETLINK_ROUTE, 0, &err), 0, "%s", err.text);
	cr_assert_eq(nl_link_up(&nl, TEST_LO, &err), 0, "%s", err.text);
}

static void test_teardown(void)
{
	nl_close(&nl);
}

TestSuite(nl, .init = test_setup, .fini = test_teardown, .timeout = 60);

/* Run iproute2: another pair of eyes, and somebody else's routes. */
static void __attribute__((format(printf, 1, 2))) ip(const char *fmt, ...)
{
	char cmd[256] = "ip ";
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(cmd + 3, sizeof(cmd) - 3, fmt, ap);
	va_end(ap);
	cr_assert_eq(system(cmd), 0, "%s", cmd);
}

static struct nl_ip ip_parse(const char *text, unsigned plen)
{
	struct nl_ip ret = { .plen = (uint8_t)plen };

	ret.family = strchr(text, ':') ? AF_INET6 : AF_INET;
	cr_assert_eq(inet_pton(ret.family, text, ret.bytes), 1, "%s", text);
	return ret;
}

static bool ip_eq(const struct nl_ip *a, const struct nl_ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Give lo the address 198.18.0.0 + @i, by a request of our own. */
static void add_addr(struct nl *n, unsigned i)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	uint32_t a = htonl((198U << 24 | 18U << 16) + i);
	struct ifaddrmsg *ifa;

	nlh->nlmsg_type = RTM_NEWADDR;
	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = 32;
	ifa->ifa_index = TEST_LO;
	mnl_attr_put(nlh, IFA_LOCAL, sizeof(a), &a);
	cr_assert_eq(nl_request(n, nlh, "add address", &err), 0, "%s", err.text);
}

/* ------------------------------------------------------------ links, addresses */

/* An interface is listed with its flags, and nl_link_up() changes them. */
Test(nl, link_up_is_seen_in_the_list)
{
	struct nl_link v[4];

	ip("link add fwd0 type veth peer name fwd1");
	cr_assert_eq(nl_link_list(&nl, v, 4, &err), 3, "%s", err.text);
	cr_assert_str_eq(v[0].name, "lo");
	cr_assert(v[0].up && v[0].loopback && v[0].index == TEST_LO);
	cr_assert_str_eq(v[2].name, "fwd0");
	cr_assert(!v[2].up && !v[2].loopback);

	cr_assert_eq(nl_link_up(&nl, v[2].index, &err), 0, "%s", err.text);
	cr_assert_eq(nl_link_list(&nl, v, 4, &err), 3);
	cr_assert(v[2].up && !v[1].up);
}

/* An interface that is not there is an error that names it. */
Test(nl, link_up_of_a_missing_device_fails)
{
	cr_assert_eq(nl_link_up(&nl, 999, &err), -ENODEV);
	cr_assert_str_eq(err.text, "bring interface 999 up: No such device");
}

/* Addresses come with prefix, scope and state; with a peer, ours is the one listed. */
Test(nl, addresses_of_both_families_are_listed)
{
	struct nl_ip peer = ip_parse("198.18.1.1", 32);
	struct nl_ip old = ip_parse("fd00::5", 128);
	bool seen_peer = false;
	bool seen_old = false;
	struct nl_addr v[8];
	int n;

	ip("addr add 198.18.1.1 peer 198.18.1.2 dev lo");
	ip("addr add fd00::5/128 dev lo preferred_lft 0 nodad");
	n = nl_addr_list(&nl, v, 8, &err);
	cr_assert_eq(n, 4, "%d %s", n, err.text);
	cr_assert(v[0].ip.family == AF_INET && v[0].ip.bytes[0] == 127 && v[0].ip.plen == 8);
	cr_assert_eq(v[0].scope, RT_SCOPE_HOST);
	for (int i = 0; i < n; i++) {
		cr_assert(v[i].index == TEST_LO && v[i].usable);
		seen_peer |= ip_eq(&v[i].ip, &peer);
		seen_old |= ip_eq(&v[i].ip, &old) && v[i].deprecated && v[i].ip.plen == 128;
	}
	cr_assert(seen_peer && seen_old);
}

/* The number of addresses is right, and nothing past the array is written, if it is too small. */
Test(nl, list_counts_what_does_not_fit)
{
	struct nl_addr v[2] = { 0 };

	cr_assert_eq(nl_addr_list(&nl, v, 1, &err), 2, "%s", err.text);
	cr_assert_eq(v[0].ip.family, AF_INET);
	cr_assert_eq(v[1].ip.family, 0);
}

/* A dump of more than one message arrives whole. */
Test(nl, long_dump_arrives_whole)
{
	static struct nl_addr v[TEST_MANY + 2];

	for (unsigned i = 1; i <= TEST_MANY; i++)
		add_addr(&nl, i);
	cr_assert_eq(nl_addr_list(&nl, v, ARRAY_SIZE(v), &err), TEST_MANY + 2, "%s", err.text);
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
		cr_assert_neq(v[i].ip.family, 0);
}

/* ------------------------------------------------------------ dumps */

/* What a dump's callback changes, and how often it may. */
struct meddler {
	struct nl other;
	unsigned changes_left;
	unsigned seen; /* since the last restart */
	unsigned restarts;
	bool meddled; /* in this try */
};

static int meddler_cb(const struct nlmsghdr *nlh, void *data)
{
	struct meddler *m = data;

	(void)nlh;
	m->seen++;
	if (!m->meddled && m->changes_left > 0) {
		add_addr(&m->other, TEST_MANY + m->changes_left--);
		m->meddled = true;
	}
	return MNL_CB_OK;
}

static void meddler_restart(void *data)
{
	struct meddler *m = data;

	m->seen = 0;
	m->meddled = false;
	m->restarts++;
}

static int meddler_dump(struct meddler *m)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifaddrmsg *ifa;

	cr_assert_eq(nl_open(&m->other, NETLINK_ROUTE, 0, &err), 0);
	for (unsigned i = 1; i <= TEST_MANY; i++)
		add_addr(&nl, i);
	nlh->nlmsg_type = RTM_GETADDR;
	ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	return nl_dump(&nl, nlh, meddler_cb, meddler_restart, m, "list", &err);
}

/* A dump during which something changed is made again from the start. */
Test(nl, interrupted_dump_is_repeated)
{
	struct meddler m = { .changes_left = 1 };

	cr_assert_eq(meddler_dump(&m), 0, "%s", err.text);
	cr_assert_eq(m.restarts, 1);
	cr_assert_eq(m.seen, TEST_MANY + 2); /* 127.0.0.1, and the one added meanwhile */
	nl_close(&m.other);
}

/* A dump that is interrupted each time ends in an error, and not never. */
Test(nl, dump_gives_up_after_five_tries)
{
	struct meddler m = { .changes_left = 100 };

	cr_assert_eq(meddler_dump(&m), -EAGAIN);
	cr_assert_str_eq(err.text, "list: changed each time while it was read");
	cr_assert_eq(m.restarts, 4);
	nl_close(&m.other);
}

static int stop_cb(const struct nlmsghdr *nlh, void *data)
{
	unsigned *calls = data;

	(void)nlh;
	++*calls;
	return MNL_CB_STOP;
}

/* A callback may stop; the socket is as good as new for the next request. */
Test(nl, stopped_dump_leaves_a_usable_socket)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	unsigned calls = 0;
	struct nl_addr v;

	for (unsigned i = 1; i <= TEST_MANY; i++)
		add_addr(&nl, i);
	nlh->nlmsg_type = RTM_GETADDR;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifaddrmsg));
	cr_assert_eq(nl_dump(&nl, nlh, stop_cb, NULL, &calls, "list", &err), 0, "%s", err.text);
	cr_assert_eq(calls, 1);
	cr_assert_eq(nl_addr_list(&nl, &v, 1, &err), TEST_MANY + 2, "%s", err.text);
}

/* ------------------------------------------------------------ listeners */

struct found {
	struct nl_listener v[8];
	unsigned n;
};

static void found_cb(const struct nl_listener *l, void *data)
{
	struct found *f = data;

	if (f->n < ARRAY_SIZE(f->v))
		f->v[f->n] = *l;
	f->n++;
}

static void found_restart(void *data)
{
	struct found *f = data;

	f->n = 0;
}

static const struct nl_listener *found_port(const struct found *f, uint16_t port)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->v[i].port == port)
			return &f->v[i];
	return NULL;
}

static const struct bound {
	const char *ip;
	uint16_t port;
	bool v6only;
	const char *dev;
} bound[] = {
	{ "0.0.0.0", 4001, false, "" }, { "127.0.0.1", 4002, false, "" },
	{ "::", 4003, false, "" },	{ "::", 4004, true, "" },
	{ "::1", 4005, true, "" },	{ "0.0.0.0", 4006, false, "lo" },
};

static int bound_open(const struct bound *b, int type)
{
	struct nl_ip a = ip_parse(b->ip, 0);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(b->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(b->port) };
	bool v6 = a.family == AF_INET6;
	int fd = socket(a.family, type | SOCK_CLOEXEC, 0);
	int only = b->v6only;
	int r;

	cr_assert_geq(fd, 0);
	if (v6)
		cr_assert_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)), 0);
	if (b->dev[0])
		cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, b->dev, 3), 0);
	memcpy(&in.sin_addr, a.bytes, 4);
	memcpy(&in6.sin6_addr, a.bytes, 16);
	r = v6 ? bind(fd, (void *)&in6, sizeof(in6)) : bind(fd, (void *)&in, sizeof(in));
	cr_assert_eq(r, 0, "%s", strerror(errno));
	return fd;
}

static void bound_check(int ip_proto)
{
	struct found f = { .n = 0 };
	int r = nl_diag_listeners(&nl, ip_proto, found_cb, found_restart, &f, &err);

	cr_assert_eq(r, 0, "%s", err.text);
	cr_assert_eq(f.n, ARRAY_SIZE(bound));
	for (size_t i = 0; i < ARRAY_SIZE(bound); i++) {
		const struct bound *b = &bound[i];
		const struct nl_listener *l = found_port(&f, b->port);
		struct nl_ip a = ip_parse(b->ip, 0);

		cr_assert_not_null(l, "port %u", b->port);
		cr_assert(ip_eq(&l->ip, &a), "port %u", b->port);
		cr_assert_eq(l->v6only, b->v6only, "port %u", b->port);
		cr_assert_eq(l->ifindex, b->dev[0] ? TEST_LO : 0, "port %u", b->port);
	}
}

/* After test_setup(), the suite's. */
static void diag_setup(void)
{
	nl_close(&nl);
	cr_assert_eq(nl_open(&nl, NETLINK_SOCK_DIAG, 0, &err), 0, "%s", err.text);
}

/* TCP listeners are listed as they were bound; connections and bound sockets are not. */
Test(nl, tcp_listeners_are_found, .init = diag_setup)
{
	const struct bound closed = { "0.0.0.0", 4010, false, "" };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(4002) };
	int fd = bound_open(&closed, SOCK_STREAM);

	for (size_t i = 0; i < ARRAY_SIZE(bound); i++)
		cr_assert_eq(listen(bound_open(&bound[i], SOCK_STREAM), 1), 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(connect(fd, (void *)&to, sizeof(to)), 0, "%s", strerror(errno));
	(void)bound_open(&(struct bound){ "0.0.0.0", 4011, false, "" }, SOCK_STREAM);
	bound_check(IPPROTO_TCP);
}

/* UDP sockets are listed as they were bound; connected ones are not. */
Test(nl, unconnected_udp_sockets_are_found, .init = diag_setup)
{
	const struct bound client = { "0.0.0.0", 4010, false, "" };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(4002) };
	int fd = bound_open(&client, SOCK_DGRAM);

	for (size_t i = 0; i < ARRAY_SIZE(bound); i++)
		(void)bound_open(&bound[i], SOCK_DGRAM);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(connect(fd, (void *)&to, sizeof(to)), 0, "%s", strerror(errno));
	bound_check(IPPROTO_UDP);
}

/* ------------------------------------------------------------ sockets */

/* Neither kind of socket leaks into a program that we execute. */
Test(nl, sockets_are_close_on_exec)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct nl unbound;

	cr_assert(fcntl(nl_fd(&nl), F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(nl_adopt(&unbound, fd, &err), 0, "%s", err.text);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_neq(mnl_socket_get_portid(unbound.sock), 0);
	nl_close(&unbound);
}

/* Only a netlink socket can be adopted; another one is closed. */
Test(nl, adopt_refuses_other_sockets)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct nl other;

	cr_assert_eq(nl_adopt(&other, fd, &err), -EINVAL);
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
}

/* The late answer to a former owner's request is not taken for ours. */
Test(nl, late_answers_are_skipped)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *bad = mnl_nlmsg_put_header(buf);

	bad->nlmsg_type = RTM_SETLINK; /* of no interface: EINVAL */
	bad->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	bad->nlmsg_seq = 1;
	mnl_nlmsg_put_extra_header(bad, sizeof(struct ifinfomsg));
	cr_assert_gt(mnl_socket_sendto(nl.sock, bad, bad->nlmsg_len), 0);
	cr_assert_eq(nl_link_up(&nl, TEST_LO, &err), 0, "%s", err.text);
}

/* An answer that another process wrote is skipped, with the right number, too. */
Test(nl, forged_answers_are_skipped)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
	} forged = {
		.h = { .nlmsg_len = sizeof(forged), .nlmsg_type = NLMSG_ERROR },
		.e = { .error = -EPERM },
	};
	struct sockaddr_nl to = { .nl_family = AF_NETLINK };
	struct nl forger;

	cr_assert_eq(nl_open(&forger, NETLINK_ROUTE, 0, &err), 0, "%s", err.text);
	to.nl_pid = forged.h.nlmsg_pid = mnl_socket_get_portid(nl.sock);
	forged.h.nlmsg_seq = nl.seq + 1;
	cr_assert_gt(sendto(nl_fd(&forger), &forged, sizeof(forged), 0, (void *)&to, sizeof(to)), 0,
		     "%s", strerror(errno));
	cr_assert_eq(nl_link_up(&nl, TEST_LO, &err), 0, "%s", err.text);
	nl_close(&forger);
}

/* Messages that wait on a multicast socket disturb no request, and can be drained. */
Test(nl, drain_empties_a_monitor)
{
	struct nl mon;
	char byte;

	cr_assert_eq(nl_open(&mon, NETLINK_ROUTE, RTMGRP_IPV4_IFADDR, &err), 0, "%s", err.text);
	nl_drain(&mon); /* nothing there: does not block */
	for (unsigned i = 1; i <= 20; i++)
		add_addr(&nl, i);
	add_addr(&mon, 21); /* the message about this one has our port and number */
	add_addr(&nl, 22);
	cr_assert_gt(recv(nl_fd(&mon), &byte, 1, MSG_DONTWAIT | MSG_PEEK), 0);
	nl_drain(&mon);
	cr_assert_eq(recv(nl_fd(&mon), &byte, 1, MSG_DONTWAIT), -1);
	cr_assert_eq(errno, EAGAIN);
	nl_close(&mon);
}

/* A request on a monitor that has overflowed fails at once: its answer is lost. */
Test(nl, overflow_loses_the_answer_at_once)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nl_addr v;
	struct nl mon;

	cr_assert_eq(nl_open(&mon, NETLINK_ROUTE, RTMGRP_IPV4_IFADDR, &err), 0, "%s", err.text);
	for (unsigned i = 1; i <= TEST_MANY; i++)
		add_addr(&nl, i);
	nlh->nlmsg_type = RTM_SETLINK;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	cr_assert_eq(nl_request(&mon, nlh, "ask", &err), -ENOBUFS);
	cr_assert_str_eq(err.text, "ask: no answer from the kernel (No buffer space available)");
	cr_assert_eq(nl_addr_list(&mon, &v, 1, &err), TEST_MANY + 2, "%s", err.text);
	nl_close(&mon);
}

/* Send @fd over @sock, or, with @fd < 0, return the one that comes. */
static int pass_fd(int sock, int fd)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	m.msg_control = u.buf;
	m.msg_controllen = sizeof(u.buf);
	if (fd < 0) {
		if (recvmsg(sock, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
			return -1;
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
		return fd;
	}
	u.hdr.cmsg_level = SOL_SOCKET;
	u.hdr.cmsg_type = SCM_RIGHTS;
	u.hdr.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&u.hdr), &fd, sizeof(fd));
	return (int)sendmsg(sock, &m, 0);
}

/* In a namespace with two more interfaces: send a netlink socket that was in use, then wait. */
static _Noreturn void adopt_child(int sock)
{
	struct nl_link v[4];
	struct nl inner;
	char byte;

	if (userns_enter(CLONE_NEWNET) < 0 || nl_open(&inner, NETLINK_ROUTE, 0, &err) < 0 ||
	    system("ip link add fwd0 type veth peer name fwd1") != 0 ||
	    nl_link_list(&inner, v, 4, &err) != 3 || pass_fd(sock, nl_fd(&inner)) < 0)
		_exit(1);
	nl_close(&inner);
	_exit(recv(sock, &byte, 1, 0) < 0);
}

/* A socket from another namespace lists, and changes, what is there and not what is here. */
Test(nl, adopted_socket_acts_in_its_own_namespace)
{
	struct nl_link v[4];
	struct nl theirs;
	int status;
	int sv[2];
	pid_t pid;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	pid = fork();
	if (pid == 0) {
		close(sv[0]);
		adopt_child(sv[1]);
	}
	close(sv[1]);
	cr_assert_eq(nl_adopt(&theirs, pass_fd(sv[0], -1), &err), 0, "%s", err.text);
	cr_assert_eq(nl_link_list(&nl, v, 4, &err), 1, "%s", err.text);
	cr_assert_eq(nl_link_list(&theirs, v, 4, &err), 3, "%s", err.text);
	cr_assert_str_eq(v[2].name, "fwd0");
	cr_assert_eq(nl_link_up(&theirs, v[2].index, &err), 0, "%s", err.text);
	cr_assert_eq(nl_link_list(&theirs, v, 4, &err), 3);
	cr_assert(v[2].up);
	close(sv[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	nl_close(&theirs);
}
