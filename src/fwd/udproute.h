/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Routes in the container to the UDP clients that are active, counted: answers to
 * a client come back to us while it has a session. One table per thread; the
 * metric keeps their routes apart.
 */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/addr.h"
#include "ns/errand.h"

#define UDPROUTE_NONE	UINT32_MAX
#define UDPROUTE_WANTED (ERRAND_ROUTES / 2)

struct udproute {
	struct addr client; /* port 0 */
	struct addr source; /* that answers leave from */
	uint32_t table;
	uint32_t ifindex;
	uint32_t users; /* 0: the slot is free */
	uint32_t chain;
	int code; /* 0: it is there; else -errno, or not asked for yet */
};

struct udproutes {
	int errands; /* to the agent, who makes the routes; not owned */
	bool open;
	uint32_t metric;
	struct udproute *v;
	uint32_t max, used, free;
	uint32_t *hash;
	uint32_t hash_mask;
	uint64_t hash_key;
	uint32_t wanted[UDPROUTE_WANTED];
	unsigned n_wanted;
	struct nl_route gone[ERRAND_ROUTES]; /* to be deleted */
	unsigned n_gone;
};

/* Routes are made by @errands (ns/errand.h). 0 or -errno with @err. */
int udproutes_init(struct udproutes *r, int errands, uint32_t metric, uint32_t max,
		   struct err *err);
void udproutes_fini(struct udproutes *r);

/* A route that a session wants. */
struct udproute_key {
	struct addr client; /* its port does not matter */
	struct addr source; /* the container's address that the session leads to */
	uint32_t ifindex;   /* of the device that has it; 1 is lo; 0: not known */
	uint32_t table;
};

/*
 * One session more: there is a route when this returns. 0 and *@ret_route, or
 * -errno with @err.
 */
int udproutes_get(struct udproutes *r, const struct udproute_key *key, uint32_t *ret_route,
		  struct err *err);

/* One session less; the route goes with the last, by udproutes_flush() at the latest. */
void udproutes_put(struct udproutes *r, uint32_t route);

/*
 * Each route takes a message to the agent, and one back, unless many are asked for at
 * once: want those that udproutes_get() is likely to be asked for, UDPROUTE_WANTED at
 * most; make them; get some; and drop the wishes.
 */
void udproutes_want(struct udproutes *r, const struct udproute_key *key);
void udproutes_make(struct udproutes *r);
void udproutes_drop(struct udproutes *r);

/* Delete what nobody uses any more. */
void udproutes_flush(struct udproutes *r);
