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

#define UDPROUTE_NONE UINT32_MAX

struct udproute {
	struct addr client; /* port 0 */
	struct addr source; /* that answers leave from */
	uint32_t table;
	uint32_t ifindex;
	uint32_t users; /* 0: the slot is free */
	uint32_t chain;
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

/* One session less; the route goes with the last. */
void udproutes_put(struct udproutes *r, uint32_t route);
