/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.c - the ladder of source addresses
 *
 * Down the ladder for one target:
 *
 *	1. the client's address and port
 *	2. the client's address, any port	 (the port is taken in there)
 *	3. what the kernel chooses		 (the address cannot be shown)
 *
 * and for a client on the host's loopback, a stand-in in place of its address.
 * What the kernel chooses towards the container's loopback would be 127.0.0.1
 * or ::1: there too the stand-in takes its place.
 *
 * An IPv4 client can be shown to an IPv6-only application as 64:ff9b::a.b.c.d;
 * an IPv6 client cannot be shown to an IPv4-only one.
 */
#include "fwd/source.h"

#include <errno.h>

#include "util.h"

const struct addr source_standin4 = { .ip = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 0,
					      8 } };
const struct addr source_standin6 = { .ip = { 0x01, 0x00, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
					      1 } };

/* What a container calls its loopback device, in every namespace. */
#define SOURCE_LO_IFINDEX 1

struct ladder {
	struct source_try *v;
	unsigned n;
};

const char *source_fate_str(enum source_fate fate)
{
	static const char *const names[] = {
		[SOURCE_KEPT] = "source kept",
		[SOURCE_PORT] = "port changed",
		[SOURCE_STANDIN] = "loopback client, stand-in shown",
		[SOURCE_LOST] = "source lost",
	};
	_Static_assert(ARRAY_SIZE(names) == SOURCE_FATES, "a name for each fate");

	return names[fate];
}

static void ladder_add(struct ladder *l, const struct addr *target, const struct addr *source,
		       enum source_fate fate)
{
	struct source_try *t = &l->v[l->n++];

	fwd_assert(l->n <= SOURCE_TRIES);
	*t = (struct source_try){ .target = *target, .bind = source != NULL, .fate = fate };
	if (source)
		t->source = *source;
	/* The kernel prefers the target's own address; its choice of port may fall on it. */
	t->may_meet_itself = !source || addr_same_ip(source, target);
}

/* Address and port, then the address alone. */
static void ladder_add_both(struct ladder *l, const struct addr *target, struct addr source,
			    enum source_fate fate, enum source_fate fate_port)
{
	/* A client that is the target would meet itself instead of the application. */
	if (!addr_equal(&source, target))
		ladder_add(l, target, &source, fate);
	source.port = 0;
	ladder_add(l, target, &source, fate_port);
}

/* The address by which @client is known to @target's family. False if there is none. */
static bool source_represent(const struct addr *client, const struct addr *target, struct addr *ret)
{
	*ret = *client;
	if (addr_is_link_local(client))
		ret->scope = SOURCE_LO_IFINDEX; /* where its packets travel in there */
	if (addr_family(client) == addr_family(target))
		return true;
	if (addr_family(client) == ADDR_V6)
		return false;
	*ret = addr_nat64(client);
	ret->port = client->port;
	return true;
}

static void ladder_add_standin(struct ladder *l, const struct addr *client,
			       const struct addr *target, enum source_fate fate)
{
	struct addr source = addr_family(target) == ADDR_V4 ? source_standin4 : source_standin6;

	source.port = client->port;
	ladder_add_both(l, target, source, fate, fate);
}

static void ladder_add_target(struct ladder *l, const struct source_policy *policy,
			      bool transparent, const struct addr *client,
			      const struct addr *target)
{
	bool to_loopback = addr_is_loopback(target);
	struct addr source;

	if (addr_is_loopback(client) && !policy->loopback_to_loopback) {
		if (transparent && policy->mode != SOURCE_MODE_OFF) {
			ladder_add_standin(l, client, target, SOURCE_STANDIN);
			return;
		}
	} else if (policy->mode != SOURCE_MODE_OFF && source_represent(client, target, &source)) {
		/* Loopback to loopback needs no privilege; loopback to elsewhere is no route. */
		if (addr_is_loopback(&source) ? to_loopback : transparent)
			ladder_add_both(l, target, source, SOURCE_KEPT, SOURCE_PORT);
	}
	if (policy->mode == SOURCE_MODE_REQUIRE) {
		while (l->n > 0 && l->v[l->n - 1].fate == SOURCE_PORT)
			l->n--;
		return;
	}
	if (!to_loopback || (addr_is_loopback(client) && policy->loopback_to_loopback))
		ladder_add(l, target, NULL, SOURCE_LOST);
	else if (transparent)
		ladder_add_standin(l, client, target, SOURCE_LOST);
}

unsigned source_ladder(const struct source_policy *policy, const struct source_targets *targets,
		       const struct addr *client, const struct addr *target, uint16_t port,
		       bool other_first, struct source_try ret[SOURCE_TRIES])
{
	bool to_loopback = addr_is_loopback(client) && policy->loopback_to_loopback;
	enum addr_family first = addr_family(client);
	struct ladder l = { .v = ret };
	struct addr to;

	if (target) {
		to = *target;
		to.port = port;
		ladder_add_target(&l, policy, targets->transparent, client, &to);
		return l.n;
	}
	if (other_first)
		first = first == ADDR_V4 ? ADDR_V6 : ADDR_V4;
	for (int i = 0; i < ADDR_FAMILIES; i++) {
		enum addr_family family = (enum addr_family)(first ^ i);

		if (!targets->have[family])
			continue;
		to = targets->addr[family];
		if (to_loopback)
			to = family == ADDR_V4 ? addr_loopback4 : addr_loopback6;
		to.port = port;
		ladder_add_target(&l, policy, targets->transparent, client, &to);
	}
	return l.n;
}

unsigned source_next(const struct source_try *tries, unsigned n, unsigned i, int code)
{
	const struct source_try *failed = &tries[i];
	bool taken = code == EADDRINUSE || code == EADDRNOTAVAIL || code == EPERM;

	for (i++; i < n; i++) {
		bool same_target = addr_equal(&tries[i].target, &failed->target);

		/* Another target is no remedy for a taken address, unless nothing was asked for. */
		if (taken ? same_target || failed->fate == SOURCE_LOST : !same_target)
			break;
	}
	return i;
}
