/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.c - counters and their summary
 */
#include "fwd/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fwd/log.h"
#include "util.h"

int stats_init(struct stats *s, unsigned n_rules)
{
	*s = (struct stats){ 0 };
	s->rule = calloc(n_rules ? n_rules : 1, sizeof(*s->rule));
	return s->rule ? 0 : -ENOMEM;
}

void stats_fini(struct stats *s)
{
	free(s->rule);
	s->rule = NULL;
}

const char *stats_error_str(enum stats_error error)
{
	static const char *const names[] = {
		[STATS_FULL] = "refused, table full",
		[STATS_SOURCE] = "refused, source could not be kept",
		[STATS_REFUSED] = "application not listening",
		[STATS_TIMEOUT] = "application did not answer",
		[STATS_CONNECT] = "other connect errors",
		[STATS_SOCKETS] = "no socket in the namespace",
		[STATS_ACCEPT] = "accept out of resources",
		[STATS_CLIENT_RESET] = "reset by client",
		[STATS_APP_RESET] = "reset by application",
		[STATS_HALF_CLOSED] = "half-closed time-out",
		[STATS_UDP_EVICTED] = "UDP sessions ended early, table full",
		[STATS_UDP_DROPPED] = "datagrams not sent",
	};
	_Static_assert(ARRAY_SIZE(names) == STATS_ERRORS, "a name for each error");

	return names[error];
}

const char *stats_error_name(enum stats_error error)
{
	static const char *const names[] = {
		[STATS_FULL] = "table_full",
		[STATS_SOURCE] = "source_not_kept",
		[STATS_REFUSED] = "app_not_listening",
		[STATS_TIMEOUT] = "app_timeout",
		[STATS_CONNECT] = "connect",
		[STATS_SOCKETS] = "no_socket",
		[STATS_ACCEPT] = "accept",
		[STATS_CLIENT_RESET] = "client_reset",
		[STATS_APP_RESET] = "app_reset",
		[STATS_HALF_CLOSED] = "half_closed_timeout",
		[STATS_UDP_EVICTED] = "udp_evicted",
		[STATS_UDP_DROPPED] = "udp_not_sent",
	};
	_Static_assert(ARRAY_SIZE(names) == STATS_ERRORS, "a name for each error");

	return names[error];
}

void stats_add_rule(struct stats *const *stats, unsigned n_stats, uint32_t slot,
		    struct rule_totals *ret)
{
	for (unsigned i = 0; i < n_stats; i++) {
		const struct rule_stats *s = &stats[i]->rule[slot];

		ret->flows += stats_get(&s->flows);
		ret->now += stats_get(&s->now);
		ret->refused += stats_get(&s->refused);
		for (int side = 0; side < SIDES; side++) {
			ret->bytes[side] += stats_get(&s->bytes[side]);
			ret->datagrams[side] += stats_get(&s->datagrams[side]);
		}
		for (int fate = 0; fate < SOURCE_FATES; fate++)
			ret->fate[fate] += stats_get(&s->fate[fate]);
	}
}

bool stats_rule_let_go(struct stats *const *stats, unsigned n_stats, uint32_t slot, uint32_t n_told)
{
	/* In this order: nobody who was told of the end gets a new listener. */
	for (unsigned i = 0; i < n_stats; i++) {
		struct rule_stats *s = &stats[i]->rule[slot];

		if (atomic_load_explicit(&s->deleted, memory_order_acquire) != n_told ||
		    atomic_load_explicit(&s->listeners, memory_order_acquire) > 0)
			return false;
	}
	return true;
}

bool stats_rule_is_over(struct stats *const *stats, unsigned n_stats, uint32_t slot,
			uint32_t n_told)
{
	if (!stats_rule_let_go(stats, n_stats, slot, n_told))
		return false;
	/* Without a listener, nobody gets a new flow. */
	for (unsigned i = 0; i < n_stats; i++)
		if (atomic_load_explicit(&stats[i]->rule[slot].now, memory_order_acquire) > 0)
			return false;
	return true;
}

void stats_clear_rule(struct stats *const *stats, unsigned n_stats, uint32_t slot)
{
	/* The worker that writes next has got a message from us before. */
	for (unsigned i = 0; i < n_stats; i++) {
		counter *c = (counter *)&stats[i]->rule[slot];

		for (size_t k = 0; k < sizeof(struct rule_stats) / sizeof(*c); k++)
			atomic_store_explicit(&c[k], 0, memory_order_relaxed);
	}
}

uint64_t stats_errors(struct stats *const *stats, unsigned n_stats, enum stats_error error)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n_stats; i++)
		sum += stats_get(&stats[i]->error[error]);
	return sum;
}

static void stats_log_rule(const struct rule *rule, const struct rule_totals *t)
{
	char buf[RULE_STRLEN], datagrams[64] = "";

	if (rule->proto == PROTO_UDP)
		snprintf(datagrams, sizeof(datagrams),
			 "; datagrams %" PRIu64 " in, %" PRIu64 " out", t->datagrams[SIDE_CLIENT],
			 t->datagrams[SIDE_CONTAINER]);
	log_info("%s: flows %" PRIu64 " now, %" PRIu64 " ever; bytes %" PRIu64 " in, %" PRIu64
		 " out%s; source %" PRIu64 " kept, %" PRIu64 " port changed, %" PRIu64
		 " stand-in, %" PRIu64 " lost; refused %" PRIu64,
		 rule_str(rule, buf), t->now, t->flows, t->bytes[SIDE_CLIENT],
		 t->bytes[SIDE_CONTAINER], datagrams, t->fate[SOURCE_KEPT], t->fate[SOURCE_PORT],
		 t->fate[SOURCE_STANDIN], t->fate[SOURCE_LOST], t->refused);
}

void stats_log(const struct ruleset *rules, struct stats *const *stats, unsigned n_stats)
{
	unsigned n = rules->used - rules->n_free;

	log_info("counters of %u rules, %u workers:", n, n_stats);
	for (uint32_t i = 0; i < rules->used; i++) {
		struct rule_totals t = { 0 };

		if (rules->v[i].state == RULESET_FREE)
			continue;
		stats_add_rule(stats, n_stats, i, &t);
		stats_log_rule(&rules->v[i].rule, &t);
	}
	for (unsigned e = 0; e < STATS_ERRORS; e++) {
		uint64_t sum = stats_errors(stats, n_stats, (enum stats_error)e);

		if (sum > 0)
			log_info("%s: %" PRIu64, stats_error_str((enum stats_error)e), sum);
	}
}
