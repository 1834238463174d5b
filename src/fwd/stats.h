/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Counters. Each worker writes its own; whoever wants to know adds them up.
 * Relaxed atomics: a reader sees each number as it was a moment ago.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fwd/ruleset.h"
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
	counter listeners;	    /* that the worker has for it */
	counter deleted;	    /* times that it was told to let go, and is done with it */
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

/* "refused, table full", ...; and "table_full", ... for programs. */
const char *stats_error_str(enum stats_error error);
const char *stats_error_name(enum stats_error error);

/* Only the counter's own thread writes. */
static inline void stats_add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/*
 * One listener or flow less. Whoever sees that sees all that was done with the rule
 * before.
 */
static inline void stats_leave(counter *c)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) - 1,
			      memory_order_release);
}

static inline uint64_t stats_get(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/* The counters of one rule, added up. */
struct rule_totals {
	uint64_t flows, now;
	uint64_t bytes[SIDES], datagrams[SIDES];
	uint64_t fate[SOURCE_FATES];
	uint64_t refused;
};

/* Add those of rule @slot, over all workers, to *@ret. */
void stats_add_rule(struct stats *const *stats, unsigned n_stats, uint32_t slot,
		    struct rule_totals *ret);

/* For the worker: it has done what a message about the end of the rule asked for. */
static inline void stats_deleted(struct stats *s, uint32_t slot)
{
	atomic_fetch_add_explicit(&s->rule[slot].deleted, 1, memory_order_release);
}

/*
 * Whether every worker has done what @n_told messages about the end of the rule asked
 * for, and has no listener of it any more; and no flow either: then its slot may be
 * written to.
 */
bool stats_rule_let_go(struct stats *const *stats, unsigned n_stats, uint32_t slot,
		       uint32_t n_told);
bool stats_rule_is_over(struct stats *const *stats, unsigned n_stats, uint32_t slot,
			uint32_t n_told);

/* Make the counters of a rule that is over 0, for the next that gets the slot. */
void stats_clear_rule(struct stats *const *stats, unsigned n_stats, uint32_t slot);

/* One kind of error, over all workers. */
uint64_t stats_errors(struct stats *const *stats, unsigned n_stats, enum stats_error error);

/* Write the summary of all workers to the log: a line for each rule, then errors. */
void stats_log(const struct ruleset *rules, struct stats *const *stats, unsigned n_stats);
