/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - what flows there are, in slices
 *
 * A slice ends when its buffer is full or when so many slots have been looked at that
 * others should have their turn; the next one goes on from there. TCP comes first.
 * Addresses that the flow does not remember are asked of its sockets.
 */
#include "fwd/snapshot.h"

#include <sys/eventfd.h>

#include "util.h"

#define SNAPSHOT_SLOTS 2048u /* looked at for one slice */

const char *snapshot_fate_str(enum source_fate fate)
{
	static const char *const names[] = {
		[SOURCE_KEPT] = "kept",
		[SOURCE_PORT] = "port changed",
		[SOURCE_STANDIN] = "stand-in",
		[SOURCE_LOST] = "lost",
	};
	_Static_assert(ARRAY_SIZE(names) == SOURCE_FATES, "a name for each fate");

	return names[fate];
}

typedef int snapshot_name(int fd, struct sockaddr *sa, socklen_t *len);

/* Ask for a name of @fd by getsockname(2) or getpeername(2). */
static bool snapshot_addr(snapshot_name *name, int fd, struct addr *ret)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	return fd >= 0 && name(fd, (struct sockaddr *)&sa, &len) == 0 &&
	       addr_from_sockaddr(&sa, ret);
}

/* The side in the container, by its socket. */
static void snapshot_inside(struct snapshot_flow *e, int fd)
{
	e->connected = snapshot_addr(getpeername, fd, &e->target) &&
		       snapshot_addr(getsockname, fd, &e->source);
}

static void snapshot_tcp(struct snapshot *s, const struct tcp *t, const struct flow *f,
			 uint64_t now)
{
	struct snapshot_flow *e = &s->v[s->n++];

	*e = (struct snapshot_flow){ .proto = PROTO_TCP,
				     .rule = t->rules->v[f->rule].id,
				     .state = flow_state_str((enum flow_state)f->state),
				     .client = f->client,
				     .age = now - f->opened };
	snapshot_addr(getsockname, f->fd[SIDE_CLIENT], &e->local);
	if (f->state < FLOW_OPEN)
		return;
	snapshot_inside(e, f->fd[SIDE_CONTAINER]);
	e->fate = snapshot_fate_str((enum source_fate)f->fate);
	for (int side = 0; side < SIDES; side++) {
		e->bytes[side] = f->pump[side].bytes;
		e->mode[side] = pump_state_str((enum pump_state)f->pump[side].state);
	}
}

static void snapshot_udp(struct snapshot *s, const struct udp *u, const struct udp_session *d,
			 uint64_t now)
{
	static const char *const states[] = {
		[UDP_ONE_WAY] = "one-way", [UDP_ANSWERED] = "answered", [UDP_LASTING] = "lasting"
	};
	_Static_assert(ARRAY_SIZE(states) == UDP_KINDS, "a name for each kind");
	struct snapshot_flow *e = &s->v[s->n++];

	*e = (struct snapshot_flow){ .proto = PROTO_UDP,
				     .rule = u->tcp->rules->v[d->rule].id,
				     .state = states[d->kind],
				     .fate = snapshot_fate_str((enum source_fate)d->fate),
				     .mode = { "copying", "copying" },
				     .client = d->client,
				     .local = d->local,
				     .age = now - d->opened };
	e->local.port = d->port;
	snapshot_inside(e, d->fd);
	for (int side = 0; side < SIDES; side++)
		e->bytes[side] = d->bytes[side];
}

/* One slot of the protocol's table. */
static void snapshot_slot(struct snapshot *s, const struct tcp *tcp, const struct udp *udp,
			  uint64_t now)
{
	uint32_t i = s->next++;

	if (s->proto == PROTO_TCP) {
		const struct flow *f = &tcp->flows.v[i];

		if (f->state != FLOW_FREE && f->state < FLOW_CLOSING)
			snapshot_tcp(s, tcp, f, now);
	} else if (udp->v[i].state == UDP_OPEN) {
		snapshot_udp(s, udp, &udp->v[i], now);
	}
}

void snapshot_fill(struct snapshot *s, const struct tcp *tcp, const struct udp *udp)
{
	uint64_t now = now_ns(), one = 1;
	unsigned seen = 0;
	int event = s->event; /* @s is not ours any more once it is not busy */

	s->n = 0;
	while (!s->end && s->n < SNAPSHOT_FLOWS && seen++ < SNAPSHOT_SLOTS) {
		uint32_t used = s->proto == PROTO_TCP ? tcp->flows.used : udp ? udp->used : 0;

		if (s->next < used) {
			snapshot_slot(s, tcp, udp, now);
		} else if (s->proto == PROTO_TCP) {
			s->proto = PROTO_UDP;
			s->next = 0;
		} else {
			s->end = true;
		}
	}
	atomic_store_explicit(&s->busy, false, memory_order_release);
	/* The counter of an eventfd cannot overflow by this. */
	if (write(event, &one, sizeof(one)) != sizeof(one))
		return;
}
