/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Counters. Each worker writes its own; whoever wants to know adds them up.
 * Relaxed atomics: a reader sees each number as it was a moment ago.
 */

#include <stdatomic.h>
#include <stdint.h>

#include "fwd/rule.h"
#include "fwd/source.h"

/* Directions of a flow, and the index of its descriptors by where bytes come from. */
enum side { SIDE_CLIENT, SIDE_CONTAINER, SIDES };

typedef _Atomic uint64_t counter;

struct rule_stats {
	counter flows;		    /* ever */
	counter now;		    /* at the moment */
	counter bytes[SIDES];	    /* from the client, from the container */
	counter datagrams[SIDES];   /* likewise */
	counter fate[SOURCE_FATES]; /* what became of the source address */
	counter refused;	    /* connections that were reset instead */
};

/* What went wrong, by kind. */
enum stats_error {
	STATS_FULL,	    /* refused: as many flows as --max-flows */
	STATS_SOURCE,	    /* refused: the address could not be kept (--source=require) */
	STATS_REFUSED,	    /* the application does not listen */
	STATS_TIMEOUT,	    /* the application did not answer */
	STATS_CONNECT,	    /* other errors on the way to the application */
	STATS_SOCKETS,	    /* no socket from the agent */
	STATS_ACCEPT,	    /* accept failed for want of descriptors or memory; it was repeated */
	STATS_CLIENT_RESET, /* the client ended by an error */
	STATS_APP_RESET,    /* the application did */
	STATS_HALF_CLOSED,  /* half-closed for too long without a byte */
	STATS_UDP_EVICTED,  /* UDP sessions that ended early to make room */
	STATS_UDP_DROPPED,  /* datagrams that could not be sent */
	STATS_ERRORS
};

struct stats {
	struct rule_stats *rule; /* [n_rules]; owned */
	counter error[STATS_ERRORS];
	counter accept_paused; /* times */
};

/* 0 or -ENOMEM. */
int stats_init(struct stats *s, unsigned n_rules);
void stats_fini(struct stats *s);

/* "refused: table full", ... */
const char *stats_error_str(enum stats_error error);

/* Only the counter's own thread writes. */
static inline void stats_add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline uint64_t stats_get(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/*
 * Write the summary of all workers to the log: a line per rule that has seen
 * flows, then totals and errors.
 */
void stats_log(const struct rules *rules, struct stats *const *stats, unsigned n_stats);
