/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udproute.c - routes to active UDP clients
 *
 * Two for each client, both local: by lo, which its answers take; and by the
 * device that has the container's address, for applications that are bound to
 * that or answer by the device that a pktinfo named. The preferred source is the
 * container's address: without it, an application that is bound to no address
 * would answer from the client's own.
 */
#include "fwd/udproute.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "fwd/hash.h"
#include "nl/route.h"
#include "ns/attach.h"
#include "util.h"

#define UDPROUTE_ASKED_NOT 1  /* a code that is no -errno */
#define UDPROUTE_LO	   1u /* ifindex of lo, in every namespace */

int udproutes_init(struct udproutes *r, int errands, uint32_t metric, uint32_t max, struct err *err)
{
	r->errands = errands;
	r->open = true;
	r->metric = metric;
	r->max = max;
	r->free = UDPROUTE_NONE;
	r->hash_mask = hash_mask_for(max);
	r->hash_key = hash_random_key();
	r->v = calloc(max, sizeof(*r->v));
	r->hash = malloc((r->hash_mask + 1ul) * sizeof(*r->hash));
	if (!r->v || !r->hash)
		return err_sys(err, ENOMEM, "routes of UDP clients");
	memset(r->hash, 0xff, (r->hash_mask + 1ul) * sizeof(*r->hash));
	return 0;
}

void udproutes_fini(struct udproutes *r)
{
	r->open = false;
	free(r->v);
	free(r->hash);
	r->v = NULL;
	r->hash = NULL;
}

static uint32_t *udproute_bucket(const struct udproutes *r, const struct addr *client,
				 uint32_t table)
{
	struct {
		uint8_t ip[16];
		uint32_t table, scope;
	} key = { .table = table, .scope = client->scope };

	memcpy(key.ip, client->ip, sizeof(key.ip));
	return &r->hash[hash_bytes(r->hash_key, &key, sizeof(key)) & r->hash_mask];
}

static struct nl_ip udproute_ip(const struct addr *a, bool host)
{
	bool v4 = addr_family(a) == ADDR_V4;
	struct nl_ip ip = { .family = (uint8_t)addr_af(a), .plen = host ? (v4 ? 32 : 128) : 0 };

	memcpy(ip.bytes, v4 ? a->ip + 12 : a->ip, v4 ? 4 : 16);
	return ip;
}

/* What @p is to the kernel: the number of routes in @ret. */
static unsigned udproute_routes(const struct udproutes *r, const struct udproute *p,
				struct nl_route ret[2])
{
	ret[0] = (struct nl_route){ .dst = udproute_ip(&p->client, true),
				    .src = udproute_ip(&p->source, false),
				    .table = p->table,
				    .protocol = ATTACH_PROTOCOL,
				    .oif = UDPROUTE_LO,
				    .metric = 2 * r->metric };
	ret[1] = ret[0];
	ret[1].oif = p->ifindex;
	ret[1].metric++;
	return p->ifindex != UDPROUTE_LO && p->ifindex != 0 ? 2 : 1;
}

void udproutes_flush(struct udproutes *r)
{
	if (r->n_gone > 0)
		errand_delete(r->errands, r->gone, r->n_gone);
	r->n_gone = 0;
}

static void udproute_delete(struct udproutes *r, const struct udproute *p)
{
	if (r->n_gone + 2 > ERRAND_ROUTES)
		udproutes_flush(r);
	r->n_gone += udproute_routes(r, p, r->gone + r->n_gone);
}

/* Have those of @slots made that were not asked for yet. */
static void udproutes_make_these(struct udproutes *r, const uint32_t *slots, unsigned n)
{
	struct nl_route routes[ERRAND_ROUTES];
	uint32_t asked[ERRAND_ROUTES]; /* whose the route is */
	unsigned n_routes = 0;
	uint64_t failed;
	int code, ret;

	udproutes_flush(r); /* one of them may be wanted again */
	for (unsigned i = 0; i < n; i++) {
		struct udproute *p = &r->v[slots[i]];
		unsigned more = p->code == UDPROUTE_ASKED_NOT
					? udproute_routes(r, p, routes + n_routes)
					: 0;

		for (; more > 0; more--)
			asked[n_routes++] = slots[i];
		p->code = p->code == UDPROUTE_ASKED_NOT ? 0 : p->code;
	}
	if (n_routes == 0)
		return;
	ret = errand_add(r->errands, routes, n_routes, &failed, &code);
	for (unsigned i = 0; i < n_routes; i++) {
		struct udproute *p = &r->v[asked[i]];

		if (p->code != 0 || (ret == 0 && !(failed & 1ull << i)))
			continue;
		p->code = ret < 0 ? ret : code < 0 ? code : -EPROTO;
		udproute_delete(r, p); /* the other of the two, or what comes too late */
	}
}

static uint32_t udproute_slot(struct udproutes *r)
{
	uint32_t i = r->free;

	if (i != UDPROUTE_NONE)
		r->free = r->v[i].chain;
	else if (r->used < r->max)
		i = r->used++;
	return i;
}

/* The slot of @key's route, one user more, or UDPROUTE_NONE. */
static uint32_t udproute_take(struct udproutes *r, const struct udproute_key *key)
{
	uint32_t *bucket = udproute_bucket(r, &key->client, key->table), i;

	for (i = *bucket; i != UDPROUTE_NONE; i = r->v[i].chain)
		if (addr_same_ip(&r->v[i].client, &key->client) && r->v[i].table == key->table)
			break;
	if (i == UDPROUTE_NONE) {
		i = udproute_slot(r);
		if (i == UDPROUTE_NONE)
			return i;
		r->v[i] = (struct udproute){ .client = key->client,
					     .source = key->source,
					     .table = key->table,
					     .ifindex = key->ifindex,
					     .chain = *bucket,
					     .code = UDPROUTE_ASKED_NOT };
		*bucket = i;
	}
	r->v[i].users++;
	return i;
}

int udproutes_get(struct udproutes *r, const struct udproute_key *key, uint32_t *ret_route,
		  struct err *err)
{
	uint32_t i = udproute_take(r, key);
	int code;

	if (i == UDPROUTE_NONE)
		return err_set(err, ENOSPC, "too many UDP clients");
	if (r->v[i].code == UDPROUTE_ASKED_NOT)
		udproutes_make_these(r, &i, 1);
	code = r->v[i].code;
	if (code != 0) {
		udproutes_put(r, i);
		return err_sys(err, -code, "route of a UDP client");
	}
	*ret_route = i;
	return 0;
}

void udproutes_put(struct udproutes *r, uint32_t route)
{
	struct udproute *p = &r->v[route];
	uint32_t *link;

	if (--p->users > 0)
		return;
	if (p->code == 0)
		udproute_delete(r, p);
	for (link = udproute_bucket(r, &p->client, p->table); *link != route;
	     link = &r->v[*link].chain)
		;
	*link = p->chain;
	p->chain = r->free;
	r->free = route;
}

void udproutes_want(struct udproutes *r, const struct udproute_key *key)
{
	uint32_t i;

	fwd_assert(r->n_wanted < UDPROUTE_WANTED);
	i = udproute_take(r, key);
	if (i != UDPROUTE_NONE)
		r->wanted[r->n_wanted++] = i;
}

void udproutes_make(struct udproutes *r)
{
	udproutes_make_these(r, r->wanted, r->n_wanted);
}

void udproutes_drop(struct udproutes *r)
{
	while (r->n_wanted > 0)
		udproutes_put(r, r->wanted[--r->n_wanted]);
}
