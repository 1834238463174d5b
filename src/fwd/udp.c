/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp.c - UDP sessions
 *
 * Happy path: a datagram comes to a listener; its session is looked up by
 * listener, client and the local address that the client sent to; on a miss one
 * is opened: a route for the client's address, and a socket of the container
 * bound to the client's address and connected to the application. Answers come to
 * that socket and leave by the listener, from the address that the client used.
 *
 *	OPEN, one way --answer--> OPEN, answered --client again--> OPEN, lasting
 *	   |                        |                                |
 *	   `--idle, evicted---------'--idle, evicted------------idle-'
 *	   `--port unreachable, listener closed, ...--> CLOSING --cancelled--> FREE
 *
 * A client's first datagram waits for the end of the batch, so that the routes of
 * all that are new cost one message to the agent. What it sends meanwhile waits
 * behind it.
 *
 * Datagrams are not sent one by one: those of one session and one size that
 * follow each other leave in one sendmsg(2) with UDP_SEGMENT (udp(7)), and what
 * UDP_GRO has put together stays together. A run ends with the batch at the
 * latest, so no buffer is held longer than that, and no session can keep the
 * buffers of another.
 *
 * Who may stay when the table is full: a spoofed source never sees an answer, so
 * it never makes a session lasting; those are never evicted. The oldest of the
 * one-way sessions goes first, then the oldest of those answered once. But a few
 * one-way sessions are left where others were answered: theirs may be the answers
 * that are on their way right now.
 *
 * Nothing waits: a datagram that cannot be sent is dropped, as a router would,
 * and counted.
 */
#include "fwd/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fwd/hash.h"
#include "fwd/log.h"
#include "util.h"

#define NS	     1000000000ull
#define UDP_OVERLAP  64u /* sessions that may be closing while others take their place */
#define UDP_TOUCH_NS NS	 /* how exact the order of idle sessions is */
#define UDP_SPARED   16u /* one-way sessions that are spared: one of so many */

/* ---------------------------------------------------------------- lists and slots */

static void udp_link(struct udp *u, struct udp_list *l, uint32_t i)
{
	struct udp_session *s = &u->v[i];

	s->next = FLOW_NONE;
	s->prev = l->tail;
	if (l->tail != FLOW_NONE)
		u->v[l->tail].next = i;
	else
		l->head = i;
	l->tail = i;
	l->n++;
}

static void udp_unlink(struct udp *u, struct udp_list *l, uint32_t i)
{
	struct udp_session *s = &u->v[i];

	if (s->prev != FLOW_NONE)
		u->v[s->prev].next = s->next;
	else
		l->head = s->next;
	if (s->next != FLOW_NONE)
		u->v[s->next].prev = s->prev;
	else
		l->tail = s->prev;
	l->n--;
}

static uint32_t udp_index(const struct udp *u, const struct udp_session *s)
{
	return (uint32_t)(s - u->v);
}

static struct udp_session *udp_of(struct udp *u, struct loop_ref ref)
{
	struct udp_session *s;

	fwd_assert(ref.slot < u->used);
	s = &u->v[ref.slot];
	fwd_assert(s->generation == ref.generation && s->state != UDP_FREE);
	return s;
}

static struct loop_ref udp_ref(const struct udp *u, const struct udp_session *s)
{
	return (struct loop_ref){ .op = OP_UDP_SESSION,
				  .generation = s->generation,
				  .slot = udp_index(u, s) };
}

static struct rule_stats *udp_stats(const struct udp *u, const struct udp_session *s)
{
	return &u->stats->rule[s->rule];
}

static uint32_t *udp_bucket(const struct udp *u, uint32_t listener, const struct addr *client,
			    const struct addr *local)
{
	struct {
		uint8_t client[16], local[16];
		uint32_t listener, scope, port, pad;
	} key = { .listener = listener, .scope = client->scope, .port = client->port };

	memcpy(key.client, client->ip, sizeof(key.client));
	memcpy(key.local, local->ip, sizeof(key.local));
	return &u->hash[hash_bytes(u->hash_key, &key, sizeof(key)) & u->hash_mask];
}

static struct udp_session *udp_find(struct udp *u, uint32_t listener, const struct addr *client,
				    const struct addr *local)
{
	uint32_t i = *udp_bucket(u, listener, client, local);

	for (; i != FLOW_NONE; i = u->v[i].chain) {
		struct udp_session *s = &u->v[i];

		if (s->listener == listener && addr_equal(&s->client, client) &&
		    addr_same_ip(&s->local, local))
			return s;
	}
	return NULL;
}

/* ---------------------------------------------------------------- closing */

static void udp_flush(struct udp *u);

static void udp_leave_route(struct udp *u, struct udp_session *s)
{
	if (s->route != UDPROUTE_NONE)
		udproutes_put(&u->routes, s->route);
	s->route = UDPROUTE_NONE;
}

/* Give back what a session, or a try of one, has in the container. */
static void udp_leave(struct udp *u, struct udp_session *s)
{
	udp_leave_route(u, s);
	if (s->paired)
		udppairs_give(u->pairs, &s->source, &s->target);
	s->paired = false;
}

/* Nothing is in flight any more: give everything back. */
static void udp_free(struct udp *u, struct udp_session *s)
{
	udp_unlink(u, &u->closing, udp_index(u, s));
	if (s->fd >= 0) {
		u->loop->ops->forget(u->loop, s->fd);
		close_fd(&s->fd);
	}
	udp_leave(u, s);
	u->n_closing--;
	s->state = UDP_FREE;
	s->generation++;
	s->chain = u->free;
	u->free = udp_index(u, s);
}

static void udp_close(struct udp *u, struct udp_session *s)
{
	uint32_t i = udp_index(u, s), *link;

	if (u->run_session == i)
		udp_flush(u);
	if (s->state != UDP_OPEN)
		return; /* sending that has ended it already */
	for (link = udp_bucket(u, s->listener, &s->client, &s->local); *link != i;
	     link = &u->v[*link].chain)
		;
	*link = s->chain;
	udp_unlink(u, &u->kind[s->kind], i);
	udp_link(u, &u->closing, i);
	s->state = UDP_CLOSING;
	u->n_closing++;
	stats_leave(&udp_stats(u, s)->now);
	atomic_fetch_sub_explicit(u->tcp->n_flows, 1, memory_order_relaxed);
	if (s->receiving)
		u->loop->ops->cancel(u->loop, s->fd, udp_ref(u, s));
	else
		udp_free(u, s);
}

static struct udpfamily_key udp_family_key(const struct udp *u, const struct udp_session *s)
{
	return (struct udpfamily_key){
		.rule = s->rule,
		.family = addr_family(&s->client),
		.port = rule_target_port(&u->tcp->rules->v[s->rule].rule, s->port),
		.targets = &u->tcp->targets,
	};
}

/* The application's side says that nobody listens, or another error. */
static void udp_failed(struct udp *u, struct udp_session *s, int code)
{
	char client[ADDR_STRLEN];

	stats_add(&u->stats->error[code == ECONNREFUSED ? STATS_REFUSED : STATS_CONNECT], 1);
	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("udp %u %s > port %u: %s", udp_index(u, s), addr_str(&s->client, client),
			  s->port, strerror(code));
	if (code == ECONNREFUSED) {
		struct udpfamily_key key = udp_family_key(u, s);

		udpfamily_refused(&u->family, &key, now_ns());
	}
	udp_close(u, s);
}

/* ---------------------------------------------------------------- sending */

/* Send what the run of @s has, and count. */
static void udp_send_run(struct udp *u, struct udp_session *s)
{
	struct udprun_out o = { .fd = s->fd };
	enum side from = u->to_client ? SIDE_CONTAINER : SIDE_CLIENT;
	struct udp_listener l;
	unsigned failed;
	int code = 0;

	if (u->to_client) {
		/* Answers leave from the address that the client sent to. */
		if (!u->listener_of(u->ctx, s->listener, &l))
			return;
		udprun_out_listener(&o, l.fd, l.v6, &s->local, &s->client);
	}
	failed = udprun_send(&u->run, &o, &code);
	s->bytes[from] += u->run.bytes;
	stats_add(&udp_stats(u, s)->bytes[from], u->run.bytes);
	stats_add(&udp_stats(u, s)->datagrams[from], u->run.segments);
	if (failed == 0)
		return;
	stats_add(&u->stats->error[STATS_UDP_DROPPED], failed);
	if (!u->to_client && code == ECONNREFUSED)
		udp_failed(u, s, code);
}

static void udp_flush(struct udp *u)
{
	struct udp_session *s;

	if (u->run_session == FLOW_NONE)
		return;
	s = &u->v[u->run_session];
	u->run_session = FLOW_NONE; /* sending may close the session, which flushes */
	udp_send_run(u, s);
	udprun_clear(&u->run, &u->loop->dgrams);
}

/* Pass on what is in @buf. Takes it. */
static void udp_pass(struct udp *u, struct udp_session *s, bool to_client, const struct dgram *d,
		     buf_id buf)
{
	uint32_t i = udp_index(u, s);

	if (u->run_session != i || u->to_client != to_client || !udprun_joins(&u->run, d))
		udp_flush(u);
	if (s->state != UDP_OPEN) {
		bufs_put(&u->loop->dgrams, buf);
		return;
	}
	u->run_session = i;
	u->to_client = to_client;
	udprun_add(&u->run, d, buf);
}

/* ---------------------------------------------------------------- opening */

/* The route that @try needs for a session of @rule. False if it needs none. */
static bool udp_route_key(const struct udp *u, uint32_t rule, const struct source_try *try,
			  struct udproute_key *ret)
{
	enum addr_family family = addr_family(&try->target);
	bool own = addr_same_ip(&try->target, &u->tcp->targets.addr[family]);

	/* Its own loopback needs none; without transparency there is no table. */
	if (!try->bind || !u->routes.open || addr_is_loopback(&try->source))
		return false;
	*ret = (struct udproute_key){ .client = try->source,
				      .source = try->target,
				      .ifindex = own ? u->ifindex[family] : 0,
				      .table = u->table + u->tcp->rules->v[rule].udp_table };
	ret->client.port = ret->source.port = 0;
	return true;
}

static int udp_route(struct udp *u, struct udp_session *s, const struct source_try *try)
{
	struct udproute_key key;
	struct err err;
	int ret;

	if (!udp_route_key(u, s->rule, try, &key))
		return 0;
	ret = udproutes_get(&u->routes, &key, &s->route, &err);
	if (ret < 0 && log_enabled(LOG_LEVEL_DEBUG))
		log_debug("udp: %s", err.text);
	return -ret;
}

static int udp_connect(const struct udp *u, int fd, const struct source_try *try)
{
	struct sockaddr_storage sa;
	socklen_t len;
	int zero = 0, ret;

	/* Any port must be one that nobody has, not even to share. */
	if (!try->bind || try->source.port == 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &zero, sizeof(zero));
	if (try->bind) {
		len = addr_to_sockaddr(&try->source, &sa);
		ret = sockpool_bind(u->tcp->sockets, fd, (struct sockaddr *)&sa, len);
		if (ret < 0)
			return -ret;
	}
	len = addr_to_sockaddr(&try->target, &sa);
	return connect(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : errno;
}

/* Take the pair of addresses, if it is one that another session could have. */
static bool udp_pair(struct udp *u, struct udp_session *s, const struct source_try *try)
{
	if (!try->bind || try->source.port == 0)
		return true;
	if (!udppairs_take(u->pairs, &try->source, &try->target))
		return false;
	s->source = try->source;
	s->target = try->target;
	s->paired = true;
	return true;
}

/* One try with one socket, the caller's also on failure. 0 or errno. */
static int udp_try_socket(struct udp *u, struct udp_session *s, const struct source_try *try,
			  int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	struct addr own;
	int code;

	code = udp_pair(u, s, try) ? udp_route(u, s, try) : EADDRINUSE;
	if (code == 0)
		code = udp_connect(u, fd, try);
	/* The port that the kernel chose may be the target's: it would talk to itself. */
	if (code == 0 && try->may_meet_itself &&
	    getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && addr_from_sockaddr(&sa, &own) &&
	    addr_equal(&own, &try->target))
		code = EADDRINUSE;
	if (code != 0)
		udp_leave(u, s);
	return code;
}

/* 0 or errno; then @s has nothing in the container. */
static int udp_try(struct udp *u, struct udp_session *s, const struct source_try *try)
{
	int fd[2] = { -1, -1 }, code = EADDRINUSE;

	u->waited = true;
	/* A second socket, while the first still has the port that met itself. */
	for (int i = 0; i < 2 && code == EADDRINUSE && (i == 0 || try->may_meet_itself); i++) {
		fd[i] = sockpool_get_now(u->tcp->sockets, SOCKPOOL_UDP, addr_family(&try->target));
		code = fd[i] < 0 ? -fd[i] : udp_try_socket(u, s, try, fd[i]);
		if (code == 0) {
			s->fd = steal_fd(&fd[i]);
			s->fate = (uint8_t)try->fate;
		}
	}
	close_fd(&fd[0]);
	close_fd(&fd[1]);
	return code;
}

/* Of @s, the rule, the port and the client are looked at. */
static unsigned udp_ladder(struct udp *u, const struct udp_session *s,
			   struct source_try tries[SOURCE_TRIES])
{
	const struct rule *r = &u->tcp->rules->v[s->rule].rule;
	struct udpfamily_key key = udp_family_key(u, s);
	struct source_targets targets = u->tcp->targets;

	/* No rule can select answers from it (attach_add_udp()). */
	if (key.port == UINT16_MAX)
		targets.transparent = false;
	return source_ladder(&u->conf->source, &targets, &s->client,
			     r->has_target ? &r->target : NULL, key.port,
			     udpfamily_other_first(&u->family, &key, u->now), tries);
}

static int udp_climb(struct udp *u, struct udp_session *s)
{
	struct source_try tries[SOURCE_TRIES];
	unsigned n = udp_ladder(u, s, tries), i = 0;
	int code = EADDRNOTAVAIL;

	while (i < n) {
		code = udp_try(u, s, &tries[i]);
		if (code == 0)
			return 0;
		i = source_next(tries, n, i, code);
	}
	return code;
}

/* The session that can best be spared, or FLOW_NONE. */
static uint32_t udp_spare(const struct udp *u)
{
	const struct udp_list *one_way = &u->kind[UDP_ONE_WAY];
	const struct udp_list *answered = &u->kind[UDP_ANSWERED];
	uint32_t all = one_way->n + answered->n + u->kind[UDP_LASTING].n;
	bool crowd = one_way->n * UDP_SPARED > all;

	return one_way->n > 0 && (crowd || answered->n == 0) ? one_way->head : answered->head;
}

bool udp_make_room(struct udp *u)
{
	/* Slots come back with the next turn: a flood in one batch must not go on to others. */
	uint32_t i = u->n_closing < UDP_OVERLAP ? udp_spare(u) : FLOW_NONE;

	if (i == FLOW_NONE)
		return false;
	stats_add(&u->stats->error[STATS_UDP_EVICTED], 1);
	udp_close(u, &u->v[i]);
	return true;
}

static struct udp_session *udp_slot(struct udp *u)
{
	uint32_t i = u->free;

	if (i != FLOW_NONE)
		u->free = u->v[i].chain;
	else if (u->used < u->max)
		i = u->used++;
	return i == FLOW_NONE ? NULL : &u->v[i];
}

/* Count one more flow, within the limit of all. */
static bool udp_count(struct udp *u)
{
	_Atomic uint32_t *n = u->tcp->n_flows;

	if (atomic_fetch_add_explicit(n, 1, memory_order_relaxed) < u->tcp->max_flows)
		return true;
	atomic_fetch_sub_explicit(n, 1, memory_order_relaxed);
	return false;
}

/* A counted slot, or NULL. */
static struct udp_session *udp_new(struct udp *u)
{
	struct udp_session *s;

	if (!udp_count(u) && !(udp_make_room(u) && udp_count(u)))
		return NULL;
	s = udp_slot(u);
	if (!s)
		atomic_fetch_sub_explicit(u->tcp->n_flows, 1, memory_order_relaxed);
	return s;
}

static void udp_log_open(struct udp *u, const struct udp_session *s)
{
	char client[ADDR_STRLEN];

	tcp_tell_fate(u->tcp, s->rule, &s->client, (enum source_fate)s->fate);
	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("udp %u %s > port %u: %s", udp_index(u, s), addr_str(&s->client, client),
			  s->port, source_fate_str((enum source_fate)s->fate));
}

static struct udp_session *udp_open(struct udp *u, const struct udp_listener *l,
				    const struct dgram *d)
{
	struct rule_stats *rs = &u->stats->rule[l->rule];
	struct udp_session *s = udp_new(u);
	uint32_t *bucket;
	int code;

	if (!s) {
		stats_add(&u->stats->error[STATS_FULL], 1);
		stats_add(&rs->refused, 1);
		return NULL;
	}
	*s = (struct udp_session){ .state = UDP_OPEN,
				   .generation = s->generation,
				   .port = l->port,
				   .rule = l->rule,
				   .listener = l->index,
				   .route = UDPROUTE_NONE,
				   .fd = -1,
				   .client = d->from,
				   .local = d->local,
				   .opened = u->now,
				   .last = u->now,
				   .touched = u->now };
	bucket = udp_bucket(u, l->index, &s->client, &s->local);
	s->chain = *bucket;
	*bucket = udp_index(u, s);
	udp_link(u, &u->kind[UDP_ONE_WAY], udp_index(u, s));
	stats_add(&rs->flows, 1);
	stats_add(&rs->now, 1);
	code = udp_climb(u, s);
	if (code != 0) {
		stats_add(&u->stats->error[u->conf->source.mode == SOURCE_MODE_REQUIRE
						   ? STATS_SOURCE
						   : STATS_CONNECT],
			  1);
		stats_add(&rs->refused, 1);
		udp_close(u, s);
		return NULL;
	}
	stats_add(&rs->fate[s->fate], 1);
	udp_log_open(u, s);
	s->receiving = true;
	u->loop->ops->datagrams(u->loop, s->fd, udp_ref(u, s));
	return s;
}

/* ---------------------------------------------------------------- datagrams */

/* A datagram of @s has come: keep the lists in order of idleness, nearly. */
static void udp_touch(struct udp *u, struct udp_session *s, enum udp_kind kind)
{
	s->last = u->now;
	if (s->kind == kind && u->now - s->touched < UDP_TOUCH_NS)
		return;
	udp_unlink(u, &u->kind[s->kind], udp_index(u, s));
	s->kind = (uint8_t)kind;
	s->touched = u->now;
	udp_link(u, &u->kind[kind], udp_index(u, s));
}

/* The time of a batch is that of its first datagram. */
static void udp_clock(struct udp *u)
{
	if (u->now == 0)
		u->now = now_ns();
}

/* Pass on what has come from the client of @s; NULL: open a session first. Takes @buf. */
static void udp_take(struct udp *u, struct udp_session *s, const struct udp_listener *l,
		     const struct dgram *d, buf_id buf)
{
	if (s)
		udp_touch(u, s, s->kind == UDP_ANSWERED ? UDP_LASTING : (enum udp_kind)s->kind);
	else
		s = udp_open(u, l, d);
	if (s)
		udp_pass(u, s, false, d, buf);
	else
		bufs_put(&u->loop->dgrams, buf);
}

/* The route that the session of @w will most likely have. */
static void udp_want_route(struct udp *u, const struct udp_waiting *w)
{
	struct udp_session s = { .rule = w->l.rule, .port = w->l.port, .client = w->d.from };
	struct source_try tries[SOURCE_TRIES];
	struct udproute_key key;

	if (udp_ladder(u, &s, tries) > 0 && udp_route_key(u, s.rule, &tries[0], &key))
		udproutes_want(&u->routes, &key);
}

/* Open the sessions that wait, with all their routes at once. */
static void udp_open_waiting(struct udp *u)
{
	unsigned n = u->n_waiting;

	if (n == 0)
		return;
	u->n_waiting = 0;
	for (unsigned i = 0; i < n; i++)
		udp_want_route(u, &u->waiting[i]);
	udproutes_make(&u->routes);
	for (unsigned i = 0; i < n; i++) {
		const struct udp_waiting *w = &u->waiting[i];

		udp_take(u, udp_find(u, w->l.index, &w->d.from, &w->d.local), &w->l, &w->d, w->buf);
	}
	udproutes_drop(&u->routes);
}

void udp_from_client(struct udp *u, const struct udp_listener *l, buf_id buf)
{
	struct udp_session *s;
	struct dgram d;

	udp_clock(u);

	if (!dgram_parse(bufs_data(&u->loop->dgrams, buf), false, &d)) {
		stats_add(&u->stats->error[STATS_UDP_DROPPED], 1);
		bufs_put(&u->loop->dgrams, buf);
		return;
	}
	/* A broadcast or multicast comes to every socket of the port. */
	if (d.group && !l->first) {
		bufs_put(&u->loop->dgrams, buf);
		return;
	}
	if (addr_is_link_local(&d.local))
		d.local.scope = d.ifindex;
	s = udp_find(u, l->index, &d.from, &d.local);
	if (s || !u->routes.open) {
		udp_take(u, s, l, &d, buf);
		return;
	}
	if (u->n_waiting == ARRAY_SIZE(u->waiting))
		udp_open_waiting(u);
	u->waiting[u->n_waiting++] = (struct udp_waiting){ .l = *l, .d = d, .buf = buf };
}

void udp_from_container(struct udp *u, struct loop_ref ref, int res, buf_id buf)
{
	struct udp_session *s = udp_of(u, ref);
	struct dgram d;

	if (res < 0) {
		s->receiving = false;
		if (s->state == UDP_CLOSING)
			udp_free(u, s);
		else
			udp_failed(u, s, -res);
		return;
	}
	if (s->state == UDP_CLOSING || !dgram_parse(bufs_data(&u->loop->dgrams, buf), true, &d)) {
		bufs_put(&u->loop->dgrams, buf);
		return;
	}
	udp_clock(u);
	udp_touch(u, s, s->kind == UDP_ONE_WAY ? UDP_ANSWERED : (enum udp_kind)s->kind);
	udp_pass(u, s, true, &d, buf);
}

/* ---------------------------------------------------------------- for the worker */

int udp_fd_of(struct udp *u, struct loop_ref ref)
{
	return udp_of(u, ref)->fd;
}

void udp_end(struct udp *u)
{
	udp_open_waiting(u);
	udp_flush(u);
	udproutes_flush(&u->routes);
	u->now = 0;
}

void udp_close_all(struct udp *u)
{
	udp_open_waiting(u);
	for (int kind = 0; kind < UDP_KINDS; kind++)
		while (u->kind[kind].head != FLOW_NONE)
			udp_close(u, &u->v[u->kind[kind].head]);
}

void udp_close_listener(struct udp *u, uint32_t index)
{
	udp_open_waiting(u);
	for (uint32_t i = 0; i < u->used; i++)
		if (u->v[i].state == UDP_OPEN && u->v[i].listener == index)
			udp_close(u, &u->v[i]);
}

void udp_tick(struct udp *u, uint64_t now)
{
	for (int kind = 0; kind < UDP_KINDS; kind++) {
		uint32_t i;

		while ((i = u->kind[kind].head) != FLOW_NONE &&
		       u->v[i].last + u->timeout[kind] <= now)
			udp_close(u, &u->v[i]);
	}
	udproutes_flush(&u->routes);
}

uint64_t udp_deadline(const struct udp *u)
{
	uint64_t first = UINT64_MAX;

	for (int kind = 0; kind < UDP_KINDS; kind++) {
		uint32_t i = u->kind[kind].head;

		if (i != FLOW_NONE && u->v[i].last + u->timeout[kind] < first)
			first = u->v[i].last + u->timeout[kind];
	}
	return first;
}

bool udp_is_empty(const struct udp *u)
{
	for (int kind = 0; kind < UDP_KINDS; kind++)
		if (u->kind[kind].head != FLOW_NONE)
			return false;
	return u->closing.head == FLOW_NONE;
}

void udp_retarget(struct udp *u, const uint32_t ifindex[ADDR_FAMILIES])
{
	udp_close_all(u);
	/* At once, not with the sessions' ends: who comes before them must not share the old ones. */
	for (uint32_t i = u->closing.head; i != FLOW_NONE; i = u->v[i].next)
		udp_leave_route(u, &u->v[i]);
	memcpy(u->ifindex, ifindex, sizeof(u->ifindex));
}

static int udp_init_netlink(struct udp *u, uint32_t metric, struct err *err)
{
	int fd = sockpool_diag(u->tcp->sockets);
	int ret = 0;

	/* Without it, the client's family is the only one. */
	if (fd >= 0)
		ret = udpfamily_init(&u->family, fd, u->tcp->rules->max, err);
	if (ret < 0 || u->table == 0)
		return ret;
	return udproutes_init(&u->routes, u->tcp->sockets->errands, metric,
			      u->max + UDPROUTE_WANTED, err);
}

int udp_init(struct udp *u, struct loop *loop, const struct conf *conf, struct stats *stats,
	     uint32_t metric, struct err *err)
{
	void *v;

	u->loop = loop;
	u->conf = conf;
	u->stats = stats;
	u->max = u->tcp->max_flows + UDP_OVERLAP;
	u->free = u->run_session = FLOW_NONE;
	for (int i = 0; i < UDP_KINDS; i++) {
		u->kind[i] = (struct udp_list){ .head = FLOW_NONE, .tail = FLOW_NONE };
		u->timeout[i] = (i == UDP_LASTING ? conf->udp_lasting_timeout : conf->udp_timeout) *
				NS;
	}
	u->closing = (struct udp_list){ .head = FLOW_NONE, .tail = FLOW_NONE };
	u->hash_mask = hash_mask_for(u->max);
	u->hash_key = hash_random_key();
	v = mmap(NULL, u->max * sizeof(*u->v), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u->v = v == MAP_FAILED ? NULL : v;
	u->hash = malloc((u->hash_mask + 1ul) * sizeof(*u->hash));
	if (!u->v || !u->hash)
		return err_sys(err, ENOMEM, "UDP sessions");
	memset(u->hash, 0xff, (u->hash_mask + 1ul) * sizeof(*u->hash));
	return udp_init_netlink(u, metric, err);
}

void udp_fini(struct udp *u)
{
	udproutes_fini(&u->routes);
	udpfamily_fini(&u->family);
	if (u->v)
		munmap(u->v, u->max * sizeof(*u->v));
	free(u->hash);
	u->v = NULL;
	u->hash = NULL;
}
