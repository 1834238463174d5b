/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - the process inside the container's namespaces
 *
 * Order of its start: not dumpable, before it is visible in the container,
 * whose root could otherwise reach through /proc into this process and so into
 * the host's file system; then nothing open but what it needs; then the
 * namespaces; then attach; then confinement; then its first message, which is a
 * state or a failure.
 */
#include "ns/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "ns/attach.h"
#include "ns/confine.h"
#include "ns/errand.h"
#include "ns/fdpass.h"
#include "util.h"

#define AGENT_STOP_MS  1000
#define AGENT_ORDER_MS 1000

#ifndef UDP_GRO
#	define UDP_GRO 104
#endif

/* What the main thread may want later, on the control socket. */
struct agent_order {
	uint32_t number; /* from 1 */
	enum { AGENT_PREFER, AGENT_UDP_ADD, AGENT_UDP_DELETE } kind;
	struct attach_ports ports; /* of the latter two */
	struct nl_ip ip;	   /* AGENT_PREFER */
};

/*
 * First message, and one for each later change. The diag socket comes with the first.
 * Each order is answered by one, too.
 */
struct agent_message {
	uint32_t order; /* that this answers; 0: none */
	int32_t code;	/* errno: the order, or else the agent, has failed; that ends then */
	struct agent_state state;
	struct err err;
};

_Static_assert(AGENT_BATCH <= FDPASS_MAX, "an answer is one message");

/* ---------------------------------------------------------------- in the child */

struct agent_child {
	int control;
	const int *channels; /* @n_channels, then as many for errands */
	unsigned n_channels;
	const struct attach_ports *udp;
	unsigned n_udp;
	bool strict;
	struct attach attach;
	struct nl monitor;
	struct agent_state state;
};

static void agent_tune_tcp(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/*
	 * bbr, where that is the default, paces even on lo and halves the speed
	 * of this hop. Reno where cubic is not to be had.
	 */
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0)
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

static void agent_tune_udp(int fd)
{
	int one = 1, size = 4 << 20;

	/* Runs of datagrams in one receive; as much room as net.core.rmem_max allows. */
	setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int agent_open(enum agent_kind kind, enum agent_family family)
{
	static const struct {
		int type, protocol;
	} kinds[] = {
		[AGENT_TCP] = { SOCK_STREAM, 0 },
		[AGENT_UDP] = { SOCK_DGRAM, 0 },
		[AGENT_DIAG] = { SOCK_RAW, NETLINK_SOCK_DIAG },
	};
	_Static_assert(ARRAY_SIZE(kinds) == AGENT_KINDS, "a row for each kind");
	int af = kind == AGENT_DIAG ? AF_NETLINK : family == AGENT_V4 ? AF_INET : AF_INET6;

	return socket(af, kinds[kind].type | SOCK_NONBLOCK | SOCK_CLOEXEC, kinds[kind].protocol);
}

/* A socket as every flow wants it. */
static int agent_socket(const struct agent_child *c, enum agent_kind kind, enum agent_family family)
{
	int fd = agent_open(kind, family);
	uint32_t mark = attach_mark(&c->attach);
	int one = 1;

	if (fd < 0)
		return -errno;
	if (kind == AGENT_TCP)
		agent_tune_tcp(fd);
	else if (kind == AGENT_UDP)
		agent_tune_udp(fd);
	if (!c->attach.transparent || kind == AGENT_DIAG)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0 ||
	    (family == AGENT_V4
		     ? setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one))
		     : setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof(one))) != 0) {
		int code = errno;

		close(fd);
		return -code;
	}
	return fd;
}

/* Answer one request. False when the worker is gone. */
static bool agent_serve(const struct agent_child *c, int channel)
{
	struct agent_answer answer = { 0 };
	int fds[AGENT_BATCH] = { 0 };
	struct agent_request req;
	ssize_t len = recv(channel, &req, sizeof(req), MSG_DONTWAIT);

	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	if (len != sizeof(req) || req.family >= AGENT_FAMILIES || req.kind >= AGENT_KINDS ||
	    req.n > AGENT_BATCH)
		return false;
	answer.kind = req.kind;
	answer.family = req.family;
	for (; answer.n < req.n; answer.n++) {
		fds[answer.n] = agent_socket(c, (enum agent_kind)req.kind,
					     (enum agent_family)req.family);
		if (fds[answer.n] < 0) {
			answer.code = -fds[answer.n];
			break;
		}
	}
	fdpass_send(channel, &answer, sizeof(answer), fds, answer.n);
	for (unsigned i = 0; i < answer.n; i++)
		close(fds[i]);
	return true;
}

static void agent_fill_state(struct agent_child *c, const struct err *why)
{
	const struct attach *a = &c->attach;

	c->state.transparent = a->transparent;
	c->state.udp_table = attach_udp_table(a);
	c->state.ifindex[AGENT_V4] = a->ifindex[0];
	c->state.ifindex[AGENT_V6] = a->ifindex[1];
	c->state.have[AGENT_V4] = a->addr[0].family != 0;
	c->state.have[AGENT_V6] = a->addr[1].family != 0;
	memcpy(&c->state.addr4, a->addr[0].bytes, sizeof(c->state.addr4));
	memcpy(&c->state.addr6, a->addr[1].bytes, sizeof(c->state.addr6));
	if (why)
		memcpy(c->state.why, why->text, sizeof(c->state.why) - 1);
}

static void agent_say(const struct agent_child *c, int code, const struct err *err, int fd)
{
	struct agent_message m = { .code = code, .state = c->state };

	if (err)
		m.err = *err;
	fdpass_send(c->control, &m, sizeof(m), &fd, fd >= 0);
}

static void agent_update(struct agent_child *c)
{
	if (!attach_update(&c->attach))
		return;
	agent_fill_state(c, NULL);
	agent_say(c, 0, NULL, -1);
}

/* 0 or -errno with @err. */
static int agent_do(struct agent_child *c, const struct agent_order *o, struct err *err)
{
	switch (o->kind) {
	case AGENT_PREFER:
		c->attach.prefer = o->ip;
		attach_update(&c->attach);
		agent_fill_state(c, NULL);
		return 0;
	default:
		/* Without transparency there is nothing to lead back. */
		return c->attach.transparent ? attach_change_udp(&c->attach, &o->ports,
								 o->kind == AGENT_UDP_ADD, err)
					     : 0;
	}
}

/* False when the main thread is gone. */
static bool agent_obey(struct agent_child *c)
{
	struct agent_message m = { 0 };
	struct agent_order o;
	ssize_t len = recv(c->control, &o, sizeof(o), MSG_DONTWAIT);

	if (len < 0)
		return errno == EAGAIN || errno == EINTR;
	if (len != sizeof(o) || o.ports.table >= ATTACH_UDP_TABLES)
		return false;
	m.code = -agent_do(c, &o, &m.err);
	m.order = o.number;
	m.state = c->state;
	return fdpass_send(c->control, &m, sizeof(m), NULL, 0) == 0;
}

/* Channel @i of all is readable. False when nobody is there any more. */
static bool agent_on_channel(struct agent_child *c, unsigned i)
{
	const struct errand_limits limits = { .protocol = ATTACH_PROTOCOL,
					      .table = attach_udp_table(&c->attach),
					      .n_tables = c->attach.udp ? ATTACH_UDP_TABLES : 0 };

	return i < c->n_channels ? agent_serve(c, c->channels[i])
				 : errand_serve(c->channels[i], &c->attach.nl, &limits);
}

static void agent_run(struct agent_child *c)
{
	unsigned n = 2 * c->n_channels;
	struct pollfd *p = calloc(n + 2, sizeof(*p));

	if (!p)
		return;
	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = c->channels[i], .events = POLLIN };
	p[n] = (struct pollfd){ .fd = nl_fd(&c->monitor), .events = POLLIN };
	p[n + 1] = (struct pollfd){ .fd = c->control, .events = POLLIN };
	while (poll(p, n + 2, -1) >= 0 || errno == EINTR) {
		if (p[n + 1].revents && !agent_obey(c))
			break;
		for (unsigned i = 0; i < n; i++)
			if (p[i].revents && !agent_on_channel(c, i))
				p[i].fd = -1;
		if (p[n].revents) {
			nl_drain(&c->monitor);
			agent_update(c);
		}
	}
	free(p);
}

/* Point 0, 1 and 2 to /dev/null, close all others but @keep. */
static void agent_close_others(int *keep, unsigned n_keep)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3; i++)
		if (null >= 0)
			dup2(null, i);
	close_fds_except(keep, n_keep);
}

static void agent_isolate(const struct agent_child *c, const struct ns_target *t)
{
	int *keep = calloc(2 * c->n_channels + 3, sizeof(*keep));
	unsigned n = 0;
	sigset_t all;

	if (!keep)
		_exit(1);
	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NAME, "fwd-agent");
	/* It ends by its control socket alone, so that it always cleans up. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (unsigned i = 0; i < 2 * c->n_channels; i++)
		keep[n++] = c->channels[i];
	keep[n++] = c->control;
	keep[n++] = t->net_fd;
	keep[n++] = t->user_fd;
	agent_close_others(keep, n);
	free(keep);
	/* The container must not find the host's directory busy because of us. */
	if (chdir("/") != 0)
		_exit(1);
}

static void agent_confine(struct agent_child *c)
{
	struct confine confine = { .strict = c->strict };

	confine_agent(&confine);
	confine_agent_calls(&confine);
	memcpy(c->state.lacks, confine.lacks, sizeof(c->state.lacks) - 1);
}

static _Noreturn void agent_child(struct agent_child *c, struct ns_target *t)
{
	struct nl diag = { 0 };
	struct err err = { 0 }, why = { 0 };
	int ret;

	agent_isolate(c, t);
	ret = ns_enter(t, &err);
	ns_close(t);
	if (ret == 0)
		ret = nl_open(&c->monitor, NETLINK_ROUTE,
			      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, &err);
	if (ret == 0)
		ret = attach_start(&c->attach, c->udp, c->n_udp, &why, &err);
	if (ret < 0) {
		agent_say(c, -ret, &err, -1);
		_exit(1);
	}
	agent_fill_state(c, &why);
	ret = nl_open(&diag, NETLINK_SOCK_DIAG, 0, &err);
	agent_confine(c);
	agent_say(c, 0, NULL, ret == 0 ? nl_fd(&diag) : -1);
	nl_close(&diag);
	agent_run(c);
	attach_stop(&c->attach);
	_exit(0);
}

/* ---------------------------------------------------------------- in the parent */

/*
 * Receive one message; the descriptor that came with it, or -1, in *@ret_fd. The agent is
 * among the container's processes: its texts end where they have to, whatever it sends.
 */
static int agent_receive(int sock, struct agent_message *m, int *ret_fd, int flags)
{
	unsigned n;
	ssize_t len = fdpass_receive(sock, m, sizeof(*m), ret_fd, 1, &n, flags);

	if (n == 0)
		*ret_fd = -1;
	if (len != sizeof(*m)) {
		close_fd(ret_fd);
		return len < 0 ? (int)len : -EPIPE;
	}
	m->err.text[sizeof(m->err.text) - 1] = '\0';
	m->state.why[sizeof(m->state.why) - 1] = '\0';
	m->state.lacks[sizeof(m->state.lacks) - 1] = '\0';
	return 0;
}

/* A message that answers no order. */
static void agent_take_state(struct agent *a, const struct agent_message *m)
{
	a->state = m->state;
	a->news = true;
}

int agent_read(struct agent *a)
{
	struct agent_message m;
	int fd, ret;

	ret = agent_receive(a->control, &m, &fd, MSG_DONTWAIT);
	if (ret < 0)
		return ret == -EAGAIN ? ret : -EPIPE;
	if (fd >= 0)
		close(fd);
	if (m.order != 0)
		return -EAGAIN; /* too late: nobody waits for it any more */
	agent_take_state(a, &m);
	return 0;
}

static int agent_wait_obeyed(struct agent *a, uint32_t order, struct err *err)
{
	uint64_t deadline = now_ns() + AGENT_ORDER_MS * 1000000ull, now;
	struct pollfd p = { .fd = a->control, .events = POLLIN };
	struct agent_message m;
	int fd, ret;

	while ((now = now_ns()) < deadline) {
		if (poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) <= 0)
			continue;
		ret = agent_receive(a->control, &m, &fd, MSG_DONTWAIT);
		if (ret == -EAGAIN)
			continue;
		if (ret < 0)
			return err_sys(err, -ret, "the process in the namespace");
		if (fd >= 0)
			close(fd);
		if (m.order == 0)
			agent_take_state(a, &m);
		if (m.order != order)
			continue;
		a->state = m.state;
		if (m.code != 0)
			*err = m.err;
		return -m.code;
	}
	return err_sys(err, ETIMEDOUT, "the process in the namespace");
}

static int agent_order(struct agent *a, struct agent_order *o, struct err *err)
{
	o->number = ++a->n_orders;
	if (send(a->control, o, sizeof(*o), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(*o))
		return err_sys(err, errno, "the process in the namespace");
	return agent_wait_obeyed(a, o->number, err);
}

int agent_prefer(struct agent *a, const struct nl_ip *ip, struct err *err)
{
	struct agent_order o = { .kind = AGENT_PREFER, .ip = *ip };

	return agent_order(a, &o, err);
}

int agent_change_udp(struct agent *a, const struct attach_ports *ports, bool add, struct err *err)
{
	struct agent_order o = { .kind = add ? AGENT_UDP_ADD : AGENT_UDP_DELETE, .ports = *ports };

	return agent_order(a, &o, err);
}

static int agent_wait_ready(struct agent *a, struct err *err)
{
	struct agent_message m;
	int ret;

	ret = agent_receive(a->control, &m, &a->diag, 0);
	if (ret < 0)
		return err_sys(err, -ret, "the process in the namespace ended early");
	if (m.code != 0) {
		*err = m.err;
		return -m.code;
	}
	a->state = m.state;
	return 0;
}

static int agent_open_channels(struct agent *a, int *theirs, struct err *err)
{
	for (unsigned i = 0; i < a->n_channels; i++) {
		int pair[2], ret;

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) !=
		    0)
			return err_sys(err, errno, "socketpair");
		a->channels[i] = pair[0];
		theirs[i] = pair[1];
		ret = errand_channel(pair, err);
		if (ret < 0)
			return ret;
		a->errands[i] = pair[0];
		theirs[a->n_channels + i] = pair[1];
	}
	return 0;
}

/* @theirs has room for two for each channel and, last, the control socket. */
static int agent_fork(struct agent *a, const struct ns_target *target, int *theirs,
		      const struct attach_ports *udp, unsigned n_udp, bool strict, struct err *err)
{
	int pair[2], ret;

	ret = agent_open_channels(a, theirs, err);
	if (ret < 0)
		return ret;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_sys(err, errno, "socketpair");
	a->control = pair[0];
	theirs[2 * a->n_channels] = pair[1];
	a->pid = fork();
	if (a->pid < 0)
		return err_sys(err, errno, "fork");
	if (a->pid == 0) {
		struct agent_child c = { .control = theirs[2 * a->n_channels],
					 .channels = theirs,
					 .n_channels = a->n_channels,
					 .udp = udp,
					 .n_udp = n_udp,
					 .strict = strict };
		struct ns_target t = *target;

		t.pid_fd = -1; /* closed with all others */
		agent_child(&c, &t);
	}
	return 0;
}

int agent_start(struct agent *a, const struct ns_target *target, unsigned n_channels,
		const struct attach_ports *udp, unsigned n_udp, bool strict, struct err *err)
{
	int *theirs = malloc((2 * n_channels + 1) * sizeof(*theirs));
	int ret;

	*a = (struct agent){ .control = -1, .diag = -1, .n_channels = n_channels };
	a->channels = malloc(n_channels * sizeof(*a->channels));
	a->errands = malloc(n_channels * sizeof(*a->errands));
	if (!theirs || !a->channels || !a->errands) {
		free(theirs);
		free(a->channels);
		free(a->errands);
		return err_sys(err, ENOMEM, "agent");
	}
	for (unsigned i = 0; i < n_channels; i++)
		a->channels[i] = a->errands[i] = theirs[i] = theirs[n_channels + i] = -1;
	theirs[2 * n_channels] = -1;

	ret = agent_fork(a, target, theirs, udp, n_udp, strict, err);
	for (unsigned i = 0; i <= 2 * n_channels; i++)
		close_fd(&theirs[i]);
	free(theirs);
	if (ret == 0)
		ret = agent_wait_ready(a, err);
	if (ret < 0)
		agent_stop(a);
	return ret;
}

void agent_stop(struct agent *a)
{
	uint64_t deadline = now_ns() + AGENT_STOP_MS * 1000000ull;

	for (unsigned i = 0; i < a->n_channels; i++) {
		close_fd(&a->channels[i]);
		close_fd(&a->errands[i]);
	}
	free(a->channels);
	free(a->errands);
	a->channels = a->errands = NULL;
	a->n_channels = 0;
	close_fd(&a->diag);
	if (a->control >= 0) {
		struct pollfd p = { .fd = a->control };

		/* The agent sees the end of our side, undoes, and ends: then we see its end. */
		shutdown(a->control, SHUT_WR);
		while (!(p.revents & POLLHUP) && now_ns() < deadline)
			poll(&p, 1, (int)((deadline - now_ns()) / 1000000 + 1));
		close_fd(&a->control);
		if (!(p.revents & POLLHUP))
			kill(a->pid, SIGKILL);
	}
	if (a->pid > 0)
		waitpid(a->pid, NULL, 0);
	a->pid = 0;
}
