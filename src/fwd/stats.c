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

/* One number over all workers. @offset is that of the counter in struct rule_stats. */
static uint64_t stats_sum(struct stats *const *stats, unsigned n, unsigned rule, size_t offset)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += stats_get((counter *)((char *)&stats[i]->rule[rule] + offset));
	return sum;
}

#define SUM(member) stats_sum(stats, n_stats, i, offsetof(struct rule_stats, member))

static void stats_log_rule(const struct rule *rule, unsigned i, struct stats *const *stats,
			   unsigned n_stats)
{
	char buf[RULE_STRLEN];

	char datagrams[64] = "";

	if (rule->proto == PROTO_UDP)
		snprintf(datagrams, sizeof(datagrams),
			 "; datagrams %" PRIu64 " in, %" PRIu64 " out", SUM(datagrams[SIDE_CLIENT]),
			 SUM(datagrams[SIDE_CONTAINER]));
	log_info("%s: flows %" PRIu64 " now, %" PRIu64 " ever; bytes %" PRIu64 " in, %" PRIu64
		 " out%s; source %" PRIu64 " kept, %" PRIu64 " port changed, %" PRIu64
		 " stand-in, %" PRIu64 " lost; refused %" PRIu64,
		 rule_str(rule, buf), SUM(now), SUM(flows), SUM(bytes[SIDE_CLIENT]),
		 SUM(bytes[SIDE_CONTAINER]), datagrams, SUM(fate[SOURCE_KEPT]),
		 SUM(fate[SOURCE_PORT]), SUM(fate[SOURCE_STANDIN]), SUM(fate[SOURCE_LOST]),
		 SUM(refused));
}

void stats_log(const struct rules *rules, struct stats *const *stats, unsigned n_stats)
{
	log_info("counters of %u rules, %u workers:", rules->n, n_stats);
	for (unsigned i = 0; i < rules->n; i++)
		stats_log_rule(&rules->v[i], i, stats, n_stats);
	for (unsigned e = 0; e < STATS_ERRORS; e++) {
		uint64_t sum = 0;

		for (unsigned w = 0; w < n_stats; w++)
			sum += stats_get(&stats[w]->error[e]);
		if (sum > 0)
			log_info("%s: %" PRIu64, stats_error_str((enum stats_error)e), sum);
	}
}
