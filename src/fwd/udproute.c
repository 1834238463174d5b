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
#include "ns/errand.h"

#define UDPROUTE_LO 1u /* ifindex of lo, in every namespace */

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

/* Add or delete the routes of one client. 0 or -errno. */
static int udproute_change(const struct udproutes *r, const struct udproute *p, bool add)
{
	struct nl_route route[2] = { { .dst = udproute_ip(&p->client, true),
				       .src = udproute_ip(&p->source, false),
				       .table = p->table,
				       .protocol = ATTACH_PROTOCOL,
				       .oif = UDPROUTE_LO,
				       .metric = 2 * r->metric } };
	bool both = p->ifindex != UDPROUTE_LO && p->ifindex != 0;

	route[1] = route[0];
	route[1].oif = p->ifindex;
	route[1].metric++;
	return errand_routes(r->errands, route, both ? 2 : 1, add);
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

int udproutes_get(struct udproutes *r, const struct udproute_key *key, uint32_t *ret_route,
		  struct err *err)
{
	struct udproute p = { .client = key->client,
			      .source = key->source,
			      .table = key->table,
			      .ifindex = key->ifindex };
	uint32_t *bucket = udproute_bucket(r, &p.client, p.table), i;
	int ret;

	for (i = *bucket; i != UDPROUTE_NONE; i = r->v[i].chain)
		if (addr_same_ip(&r->v[i].client, &p.client) && r->v[i].table == p.table)
			break;
	if (i == UDPROUTE_NONE) {
		i = udproute_slot(r);
		if (i == UDPROUTE_NONE)
			return err_set(err, ENOSPC, "too many UDP clients");
		ret = udproute_change(r, &p, true);
		if (ret < 0) {
			r->v[i].chain = r->free;
			r->free = i;
			return err_sys(err, -ret, "route of a UDP client");
		}
		r->v[i] = p;
		r->v[i].chain = *bucket;
		*bucket = i;
	}
	r->v[i].users++;
	*ret_route = i;
	return 0;
}

void udproutes_put(struct udproutes *r, uint32_t route)
{
	struct udproute *p = &r->v[route];
	uint32_t *link;

	if (--p->users > 0)
		return;
	udproute_change(r, p, false);
	for (link = udproute_bucket(r, &p->client, p->table); *link != route;
	     link = &r->v[*link].chain)
		;
	*link = p->chain;
	p->chain = r->free;
	r->free = route;
}
