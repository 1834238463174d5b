/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.c - TCP flows
 *
 * Happy path: a connection is accepted; a socket of the container's namespace
 * is taken from the pool, bound to the client's address, and connected; over
 * lo that is done when connect(2) returns (tests/kernel/connect_twice.c), so the
 * second connect(2), which tells, is made at once and only rarely something is
 * waited for. Then a pump for each direction. EOF of a pump is passed on as FIN;
 * when both have ended, the flow is closed.
 *
 * Failures: an address that is taken, or a target that does not answer, leads
 * down the ladder (source.c); at its end the client gets a reset. An error
 * of one socket becomes a reset of the other, after what was read before it has
 * been passed on:
 *
 *	pump from the dead side	    ends RESET when it has passed everything on
 *	pump towards the dead side  ends BROKEN; what the dead side sent before
 *				    it died is still read by the other pump
 *
 * A side that has sent its FIN is watched for errors, which nobody would read any
 * more: a reset after a FIN is still a reset.
 *
 * Nothing waits for ever: connects, half-closed flows, and flows of which one side
 * is dead while the other does not read have a deadline; an idle peer that
 * has vanished is found by keepalive, which the listener set; one that vanished
 * with data in flight, by TCP's own retransmission limit (tcp_retries2).
 * TCP_USER_TIMEOUT is not used: it would also end flows whose receiver just
 * does not read for a while (tcp_probe_timer() in net/ipv4/tcp_timer.c).
 */
#include "fwd/tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fwd/log.h"
#include "util.h"

#define NS		   1000000000ull
#define TCP_IDLE_PIPES	   16
#define TCP_SWEEP_NS	   (5 * NS)
#define TCP_ENDING_NS	   (NS / 10)
#define TCP_DRAIN_NS	   (10 * NS) /* without a byte, when one side is dead */
#define TCP_DROP	   1024u     /* slots looked at in one go */
#define TCP_LOG_PER_SECOND 20u

static enum side tcp_other(enum side side)
{
	return side == SIDE_CLIENT ? SIDE_CONTAINER : SIDE_CLIENT;
}

static const struct rule *tcp_rule(const struct tcp *t, const struct flow *f)
{
	return &t->rules->v[f->rule].rule;
}

static struct rule_stats *tcp_rule_stats(const struct tcp *t, const struct flow *f)
{
	return &t->stats->rule[f->rule];
}

/* ---------------------------------------------------------------- log */

/* At most so many lines a second; -d lifts the limit. */
static bool tcp_may_log(struct tcp *t)
{
	uint64_t second = now_ns() / NS;

	if (log_enabled(LOG_LEVEL_DEBUG))
		return true;
	if (second != t->log_second) {
		if (t->log_dropped > 0)
			log_info("%u similar lines left out", t->log_dropped);
		t->log_second = second;
		t->log_lines = t->log_dropped = 0;
	}
	if (t->log_lines++ < TCP_LOG_PER_SECOND)
		return true;
	t->log_dropped++;
	return false;
}

__attribute__((format(printf, 4, 5))) static void
tcp_log(struct tcp *t, enum log_level level, const struct flow *f, const char *fmt, ...)
{
	char client[ADDR_STRLEN], text[256];
	va_list ap;

	if (!log_enabled(level) || !tcp_may_log(t))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_write(level, "tcp %u %s > port %u: %s", (unsigned)(f - t->flows.v),
		  addr_str(&f->client, client), f->port, text);
}

/* ---------------------------------------------------------------- closing */

static struct loop_ref tcp_ref(const struct tcp *t, const struct flow *f, enum side side,
			       enum loop_op op)
{
	struct loop_ref ref = flow_ref(&t->flows, f, side);

	ref.op = (uint8_t)op;
	return ref;
}

static void tcp_cancel(struct tcp *t, const struct flow *f, enum side side, enum loop_op op)
{
	t->env.loop->ops->cancel(t->env.loop, f->fd[side], tcp_ref(t, f, side, op));
}

/* Cancel what is in flight; the flow is freed when that has come back. */
static void tcp_close(struct tcp *t, struct flow *f, bool reset)
{
	f->reset |= reset;
	flow_set_state(&t->flows, f, FLOW_CLOSING);
	if (f->connecting)
		tcp_cancel(t, f, SIDE_CONTAINER, OP_CONNECT);
	for (int side = 0; side < SIDES; side++) {
		if (f->watched[side])
			tcp_cancel(t, f, (enum side)side, OP_BROKEN);
		pump_cancel(&t->env, &f->pump[side]);
	}
	if (flow_is_quiet(f))
		flow_set_state(&t->flows, f, FLOW_DONE);
}

static void tcp_close_fd(struct tcp *t, int *fd, bool reset)
{
	static const struct linger now = { .l_onoff = 1 };

	if (*fd < 0)
		return;
	/* close(2) then sends RST in place of FIN (tests/kernel/linger_reset.c) */
	if (reset)
		setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	t->env.loop->ops->forget(t->env.loop, *fd);
	close_fd(fd);
}

bool tcp_reap(struct tcp *t)
{
	bool any = false;
	struct flow *f;

	while ((f = flow_oldest(&t->flows, FLOW_DONE))) {
		/* Before the peers see the end: whoever comes next finds room. */
		atomic_fetch_sub_explicit(t->n_flows, 1, memory_order_relaxed);
		for (int side = 0; side < SIDES; side++) {
			pump_fini(&t->env, &f->pump[side]);
			tcp_close_fd(t, &f->fd[side], f->reset);
		}
		stats_leave(&tcp_rule_stats(t, f)->now);
		flow_free(&t->flows, f);
		any = true;
	}
	return any;
}

void tcp_close_all(struct tcp *t)
{
	static const enum flow_state states[] = { FLOW_WAITING, FLOW_CONNECTING,  FLOW_OPEN,
						  FLOW_ENDING,	FLOW_HALF_CLOSED, FLOW_DRAINING };
	struct flow *f;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		while ((f = flow_oldest(&t->flows, states[i])))
			tcp_close(t, f, true);
}

bool tcp_drop(struct tcp *t, uint32_t rule, uint32_t *from)
{
	uint32_t end = t->flows.used - *from < TCP_DROP ? t->flows.used : *from + TCP_DROP;

	for (; *from < end; ++*from) {
		struct flow *f = &t->flows.v[*from];

		if (f->rule == rule && f->state >= FLOW_WAITING && f->state < FLOW_CLOSING)
			tcp_close(t, f, true);
	}
	return end == t->flows.used;
}

bool tcp_is_empty(const struct tcp *t)
{
	for (int i = FLOW_WAITING; i < FLOW_STATES; i++)
		if (t->flows.list[i].n > 0)
			return false;
	return true;
}

/* ---------------------------------------------------------------- open flows */

/* From now on the flow has a deadline, which counts from the last byte that moved. */
static void tcp_limit(struct tcp *t, struct flow *f, enum flow_state state)
{
	if (f->state == state)
		flow_touch(&t->flows, f);
	else
		flow_set_state(&t->flows, f, state);
	f->deadline = now_ns() + (state == FLOW_ENDING	   ? TCP_ENDING_NS
				  : state == FLOW_DRAINING ? TCP_DRAIN_NS
							   : t->conf->half_closed_timeout * NS);
	f->seen = f->pump[SIDE_CLIENT].bytes + f->pump[SIDE_CONTAINER].bytes;
}

/* Wait for an error of the side that has sent its FIN: nothing else would see it. */
static void tcp_watch(struct tcp *t, struct flow *f)
{
	enum side side = f->pump[SIDE_CLIENT].state == PUMP_EOF ? SIDE_CLIENT : SIDE_CONTAINER;

	f->watched[side] = true;
	t->env.loop->ops->broken(t->env.loop, f->fd[side], tcp_ref(t, f, side, OP_BROKEN));
	tcp_limit(t, f, FLOW_HALF_CLOSED);
}

static void tcp_watch_complete(struct tcp *t, struct flow *f, enum side side)
{
	f->watched[side] = false;
	if (f->state != FLOW_CLOSING) {
		stats_add(&t->stats->error[side == SIDE_CLIENT ? STATS_CLIENT_RESET
							       : STATS_APP_RESET],
			  1);
		tcp_log(t, LOG_LEVEL_DEBUG, f, "%s: reset after its end of data",
			side == SIDE_CLIENT ? "client" : "application");
		tcp_close(t, f, true);
	} else if (flow_is_quiet(f)) {
		flow_set_state(&t->flows, f, FLOW_DONE);
	}
}

static void tcp_count_end(struct tcp *t, const struct flow *f, enum side side)
{
	const struct pump *p = &f->pump[side];

	if (p->state != PUMP_RESET)
		return;
	stats_add(&t->stats->error[side == SIDE_CLIENT ? STATS_CLIENT_RESET : STATS_APP_RESET], 1);
	tcp_log(t, LOG_LEVEL_DEBUG, f, "%s: %s", side == SIDE_CLIENT ? "client" : "application",
		strerror(p->error));
}

/* The pump from @side has moved something, or ended: act on its state. */
static void tcp_settle(struct tcp *t, struct flow *f, enum side side)
{
	struct pump *p = &f->pump[side], *q = &f->pump[tcp_other(side)];

	if (!pump_is_final(p))
		return;
	tcp_count_end(t, f, side);
	if (p->state == PUMP_RESET || pump_is_final(q)) {
		tcp_close(t, f, p->state != PUMP_EOF || q->state != PUMP_EOF);
		return;
	}
	if (p->state == PUMP_EOF) {
		shutdown(p->dst, SHUT_WR);
		if (f->state == FLOW_OPEN)
			tcp_limit(t, f, FLOW_ENDING);
	} else {
		/* BROKEN: the other side is dead. What it sent before is still to be read. */
		q->eof_is_reset = true;
		tcp_limit(t, f, FLOW_DRAINING);
	}
}

static void tcp_pump_complete(struct tcp *t, struct flow *f, struct loop_ref ref, int res,
			      buf_id buf)
{
	struct pump *p = &f->pump[ref.side];
	uint64_t before = p->bytes;

	pump_complete(&t->env, p, (enum loop_op)ref.op, res, buf);
	stats_add(&tcp_rule_stats(t, f)->bytes[ref.side], p->bytes - before);
	if (f->state == FLOW_CLOSING) {
		if (flow_is_quiet(f))
			flow_set_state(&t->flows, f, FLOW_DONE);
		return;
	}
	tcp_settle(t, f, (enum side)ref.side);
}

static void tcp_start_pumps(struct tcp *t, struct flow *f, bool app_is_dead)
{
	for (int side = 0; side < SIDES; side++)
		pump_init(&f->pump[side], f->fd[side], f->fd[tcp_other((enum side)side)],
			  flow_ref(&t->flows, f, (enum side)side));
	f->pump[SIDE_CONTAINER].eof_is_reset = app_is_dead;
	for (int side = 0; side < SIDES; side++)
		pump_start(&t->env, &f->pump[side]);
}

/* ---------------------------------------------------------------- opening */

void tcp_tell_fate(struct tcp *t, uint32_t rule, const struct addr *client, enum source_fate fate)
{
	struct ruleset_slot *slot = &t->rules->v[rule];
	_Atomic bool *told = fate == SOURCE_PORT ? &slot->told_port : &slot->told_lost;
	char text[RULE_STRLEN], addr[ADDR_STRLEN];

	if ((fate != SOURCE_PORT && fate != SOURCE_LOST) || atomic_exchange(told, true))
		return;
	log_warn("%s: the container cannot be shown %s of %s%s; further ones are only counted "
		 "(SIGUSR1) and in the debug log (-d)",
		 rule_str(&slot->rule, text), fate == SOURCE_PORT ? "the port" : "the address",
		 addr_str(client, addr), fate == SOURCE_PORT ? ", which is taken in there" : "");
}

/* @code is 0, or ECONNRESET: then what the application sent before is still to be read. */
static void tcp_opened(struct tcp *t, struct flow *f, const struct source_try *try, int code)
{
	char target[ADDR_STRLEN];

	flow_set_state(&t->flows, f, FLOW_OPEN);
	f->fate = (uint8_t)try->fate;
	stats_add(&tcp_rule_stats(t, f)->fate[try->fate], 1);
	tcp_tell_fate(t, f->rule, &f->client, try->fate);
	if (log_enabled(LOG_LEVEL_DEBUG))
		tcp_log(t, LOG_LEVEL_DEBUG, f, "connected to %s: %s",
			addr_str(&try->target, target), source_fate_str(try->fate));
	tcp_start_pumps(t, f, code == ECONNRESET);
}

static void tcp_refuse(struct tcp *t, struct flow *f, enum stats_error why, int code)
{
	stats_add(&t->stats->error[why], 1);
	stats_add(&tcp_rule_stats(t, f)->refused, 1);
	/* A port that is closed in the container is everyday; others the user should see. */
	tcp_log(t, why == STATS_REFUSED ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, f, "%s%s%s",
		stats_error_str(why), code ? ": " : "", code ? strerror(code) : "");
	tcp_close(t, f, true);
}

/* The ladder is a pure function of the flow: it is worked out again when it is needed. */
static unsigned tcp_ladder(const struct tcp *t, const struct flow *f,
			   struct source_try tries[SOURCE_TRIES])
{
	const struct rule *r = tcp_rule(t, f);

	return source_ladder(&t->conf->source, &t->targets, &f->client,
			     r->has_target ? &r->target : NULL, rule_target_port(r, f->port), false,
			     tries);
}

/* TCP lets a socket connect to itself (RFC 9293 3.5, simultaneous open): no application there. */
static bool tcp_met_itself(int fd, const struct source_try *try)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct addr own;

	return try->may_meet_itself && getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
	       addr_from_sockaddr(&sa, &own) && addr_equal(&own, &try->target);
}

/*
 * 0: connected; EINPROGRESS: soon; ECONNRESET: it was connected, and the application
 * has reset it already; or another errno.
 */
static int tcp_connect(int fd, const struct source_try *try)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(&try->target, &sa);

	if (connect(fd, (struct sockaddr *)&sa, len) == 0 || errno == EISCONN)
		return tcp_met_itself(fd, try) ? ECONNREFUSED : 0;
	return errno == EALREADY ? EINPROGRESS : errno;
}

static int tcp_bind(const struct tcp *t, int fd, const struct source_try *try)
{
	struct sockaddr_storage sa;
	socklen_t len;
	int one = 1;

	if (!try->bind)
		return 0;
	len = addr_to_sockaddr(&try->source, &sa);
	/* Without a port: choose it at connect, where only the 4-tuple must be free. */
	if (try->source.port == 0)
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	return -sockpool_bind(t->sockets, fd, (struct sockaddr *)&sa, len);
}

/* Make one try, with a socket from the pool: 0, EINPROGRESS, EAGAIN (no socket yet), errno. */
static int tcp_try(struct tcp *t, struct flow *f, const struct source_try *try)
{
	int fd = sockpool_get(t->sockets, SOCKPOOL_TCP, addr_family(&try->target)), code;

	if (fd < 0)
		return -fd;
	code = tcp_bind(t, fd, try);
	if (code == 0)
		code = tcp_connect(fd, try);
	if (code == EINPROGRESS)
		code = tcp_connect(fd, try); /* over lo it is done by now */
	if (code != 0 && code != EINPROGRESS && code != ECONNRESET)
		close(fd);
	else
		f->fd[SIDE_CONTAINER] = fd;
	return code;
}

static void tcp_wait_connected(struct tcp *t, struct flow *f)
{
	f->connecting = true;
	t->env.loop->ops->writable(t->env.loop, f->fd[SIDE_CONTAINER],
				   tcp_ref(t, f, SIDE_CONTAINER, OP_CONNECT));
}

static enum stats_error tcp_kind(int code)
{
	return code == ECONNREFUSED ? STATS_REFUSED
	       : code == ETIMEDOUT  ? STATS_TIMEOUT
	       : code == EPIPE	    ? STATS_SOCKETS
				    : STATS_CONNECT;
}

/* Go down the ladder from where the flow stands until something works. */
static void tcp_climb(struct tcp *t, struct flow *f)
{
	struct source_try tries[SOURCE_TRIES];
	unsigned n = tcp_ladder(t, f, tries);
	int code = 0;

	if (n == 0) {
		tcp_refuse(t, f, STATS_SOURCE, 0);
		return;
	}
	while (f->try_index < n) {
		const struct source_try *try = &tries[f->try_index];

		code = tcp_try(t, f, try);
		if (code == 0 || code == ECONNRESET) {
			tcp_opened(t, f, try, code);
			return;
		}
		if (code == EAGAIN)
			return; /* FLOW_WAITING: tcp_sockets_came() goes on */
		if (code == EINPROGRESS) {
			flow_set_state(&t->flows, f, FLOW_CONNECTING);
			tcp_wait_connected(t, f);
			return;
		}
		f->try_index = (uint8_t)source_next(tries, n, f->try_index, code);
	}
	if (t->conf->source.mode == SOURCE_MODE_REQUIRE &&
	    (code == EADDRINUSE || code == EADDRNOTAVAIL))
		tcp_refuse(t, f, STATS_SOURCE, code);
	else
		tcp_refuse(t, f, tcp_kind(code), code);
}

/* The connect that was waited for has an outcome. */
static void tcp_connect_complete(struct tcp *t, struct flow *f)
{
	struct source_try tries[SOURCE_TRIES];
	const struct source_try *try = &tries[f->try_index];
	unsigned n;
	int code;

	f->connecting = false;
	if (f->state == FLOW_CLOSING) {
		flow_set_state(&t->flows, f, FLOW_DONE);
		return;
	}
	n = tcp_ladder(t, f, tries);
	if (f->try_index >= n) {
		/* The container's addresses changed meanwhile, and the ladder with them. */
		tcp_refuse(t, f, STATS_CONNECT, ENETUNREACH);
		return;
	}
	code = tcp_connect(f->fd[SIDE_CONTAINER], try);
	if (code == 0 || code == ECONNRESET) {
		tcp_opened(t, f, try, code);
	} else if (code == EINPROGRESS) {
		tcp_wait_connected(t, f);
	} else {
		tcp_close_fd(t, &f->fd[SIDE_CONTAINER], false);
		f->try_index = (uint8_t)source_next(tries, n, f->try_index, code);
		flow_set_state(&t->flows, f, FLOW_WAITING);
		tcp_climb(t, f);
	}
}

/* ---------------------------------------------------------------- for the worker */

/* Count one more flow, within the limit of all. */
static bool tcp_count(struct tcp *t)
{
	if (atomic_fetch_add_explicit(t->n_flows, 1, memory_order_relaxed) < t->max_flows)
		return true;
	atomic_fetch_sub_explicit(t->n_flows, 1, memory_order_relaxed);
	return false;
}

/* A counted flow of @fd, or NULL. A client that is really there goes before datagrams. */
static struct flow *tcp_new(struct tcp *t, int fd)
{
	struct flow *f;

	if (!tcp_count(t) && !(t->make_room && t->make_room(t->room_ctx) && tcp_count(t)))
		return NULL;
	f = flow_new(&t->flows, fd);
	if (!f)
		atomic_fetch_sub_explicit(t->n_flows, 1, memory_order_relaxed);
	return f;
}

void tcp_accept(struct tcp *t, const struct tcp_arrival *a)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct addr client;
	struct flow *f;
	int fd = a->fd;

	/* ENOTCONN: it was reset before we came to it. */
	if (getpeername(fd, (struct sockaddr *)&sa, &len) != 0 ||
	    !addr_from_sockaddr(&sa, &client)) {
		tcp_close_fd(t, &fd, true);
		return;
	}
	f = tcp_new(t, fd);
	if (!f) {
		stats_add(&t->stats->error[STATS_FULL], 1);
		stats_add(&t->stats->rule[a->rule].refused, 1);
		if (tcp_may_log(t))
			log_warn("connection refused: %u flows already, see --max-flows",
				 t->max_flows);
		tcp_close_fd(t, &fd, true);
		return;
	}
	f->client = client;
	f->rule = a->rule;
	f->port = a->port;
	f->opened = now_ns();
	f->deadline = f->opened + t->conf->connect_timeout * NS;
	stats_add(&tcp_rule_stats(t, f)->flows, 1);
	stats_add(&tcp_rule_stats(t, f)->now, 1);
	tcp_climb(t, f);
}

void tcp_reject(struct tcp *t, int fd)
{
	tcp_close_fd(t, &fd, true);
}

void tcp_complete(struct tcp *t, struct loop_ref ref, int res, buf_id buf)
{
	struct flow *f = flow_of(&t->flows, ref);

	if (ref.op == OP_CONNECT)
		tcp_connect_complete(t, f);
	else if (ref.op == OP_BROKEN)
		tcp_watch_complete(t, f, (enum side)ref.side);
	else
		tcp_pump_complete(t, f, ref, res, buf);
}

int tcp_fd_of(struct tcp *t, struct loop_ref ref)
{
	struct flow *f = flow_of(&t->flows, ref);

	/* A pump is named after its source; what it writes to is the other side. */
	if (ref.op == OP_SEND || ref.op == OP_WRITABLE)
		return f->fd[tcp_other((enum side)ref.side)];
	return f->fd[ref.side];
}

int tcp_sockets_came(struct tcp *t)
{
	int ret = sockpool_receive(t->sockets);
	uint32_t n = t->flows.list[FLOW_WAITING].n;
	struct flow *f;

	/* Those that still find none go to the end of the list: each gets one turn. */
	while (n-- > 0 && (f = flow_oldest(&t->flows, FLOW_WAITING))) {
		if (ret < 0) {
			tcp_refuse(t, f, STATS_SOCKETS, -ret);
			continue;
		}
		flow_touch(&t->flows, f);
		tcp_climb(t, f);
	}
	return ret == -EPIPE ? ret : 0;
}

/* Whether bytes have moved since the deadline was set, which is then set again. */
static bool tcp_moved(struct tcp *t, struct flow *f)
{
	bool moved = f->pump[SIDE_CLIENT].bytes + f->pump[SIDE_CONTAINER].bytes != f->seen;

	if (moved)
		tcp_limit(t, f, (enum flow_state)f->state);
	return moved;
}

/*
 * A flow that holds data for a reader which does not read does not look at its
 * source: look whether that is dead.
 */
static void tcp_sweep(struct tcp *t)
{
	for (uint32_t i = t->flows.list[FLOW_OPEN].head, next; i != FLOW_NONE; i = next) {
		struct flow *f = &t->flows.v[i];

		next = f->next;
		for (int side = 0; side < SIDES && f->state == FLOW_OPEN; side++) {
			struct pollfd p = { .fd = f->fd[side] };

			if (pump_holds_data(&f->pump[side]) && poll(&p, 1, 0) > 0 &&
			    p.revents & POLLERR)
				tcp_limit(t, f, FLOW_DRAINING);
		}
	}
}

void tcp_tick(struct tcp *t, uint64_t now)
{
	struct flow *f;

	while ((f = flow_oldest(&t->flows, FLOW_WAITING)) && f->deadline <= now)
		tcp_refuse(t, f, STATS_SOCKETS, ETIMEDOUT);
	while ((f = flow_oldest(&t->flows, FLOW_CONNECTING)) && f->deadline <= now)
		tcp_refuse(t, f, STATS_TIMEOUT, 0);
	while ((f = flow_oldest(&t->flows, FLOW_ENDING)) && f->deadline <= now)
		tcp_watch(t, f);
	while ((f = flow_oldest(&t->flows, FLOW_HALF_CLOSED)) && f->deadline <= now) {
		if (tcp_moved(t, f))
			continue;
		stats_add(&t->stats->error[STATS_HALF_CLOSED], 1);
		tcp_log(t, LOG_LEVEL_DEBUG, f, "%s", stats_error_str(STATS_HALF_CLOSED));
		tcp_close(t, f, true);
	}
	while ((f = flow_oldest(&t->flows, FLOW_DRAINING)) && f->deadline <= now)
		if (!tcp_moved(t, f))
			tcp_close(t, f, true);
	if (now >= t->next_sweep) {
		t->next_sweep = now + TCP_SWEEP_NS;
		tcp_sweep(t);
		bufs_trim(&t->env.loop->bufs);
	}
}

uint64_t tcp_deadline(const struct tcp *t)
{
	static const enum flow_state states[] = { FLOW_WAITING, FLOW_CONNECTING, FLOW_ENDING,
						  FLOW_HALF_CLOSED, FLOW_DRAINING };
	/* Without flows there is nothing to sweep: sleep on. */
	uint64_t first = t->flows.list[FLOW_OPEN].n > 0 ? t->next_sweep : UINT64_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		const struct flow *f = flow_oldest(&t->flows, states[i]);

		if (f && f->deadline < first)
			first = f->deadline;
	}
	return first;
}

int tcp_init(struct tcp *t, struct loop *loop, const struct conf *conf, struct stats *stats,
	     struct err *err)
{
	int ret;

	t->env = (struct pump_env){ .loop = loop, .pipes = &t->pipes };
	t->conf = conf;
	t->stats = stats;
	t->next_sweep = now_ns() + TCP_SWEEP_NS;

	ret = flows_init(&t->flows, t->max_flows, err);
	if (ret < 0)
		return ret;
	if (pipes_init(&t->pipes, TCP_IDLE_PIPES) < 0)
		return err_sys(err, ENOMEM, "worker");

	return 0;
}

void tcp_fini(struct tcp *t)
{
	pipes_fini(&t->pipes);
	flows_fini(&t->flows);
}
