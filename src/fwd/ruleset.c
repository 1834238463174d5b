/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ruleset.c - the rules in force
 *
 *	FREE --taken, listeners handed over--> ACTIVE --deleted--> DELETED
 *	  ^                                                           |
 *	  `------ no worker has a listener or a flow of it any more --'
 *
 * Who may touch a slot. The main thread fills it while it is FREE; then it sends
 * listeners to the workers, and the lock of their mailboxes makes what it wrote
 * visible. It does not write to the slot again before stats_rule_is_over() has
 * seen, with the order that this needs, that each worker has let go.
 *
 * Each UDP rule with a target of its own has a table for routes (ns/attach.h): one
 * for each address that applications answer from, since a route names that. Beyond
 * ATTACH_UDP_TABLES addresses the last is shared: there only applications that are
 * bound to their address work.
 */
#include "fwd/ruleset.h"

#include <errno.h>
#include <stdlib.h>

#include "ns/attach.h"
#include "util.h"

int ruleset_init(struct ruleset *rs, uint32_t max)
{
	*rs = (struct ruleset){ .max = max };
	rs->v = calloc(max ? max : 1, sizeof(*rs->v));
	return rs->v ? 0 : -ENOMEM;
}

void ruleset_fini(struct ruleset *rs)
{
	free(rs->v);
	*rs = (struct ruleset){ 0 };
}

static uint8_t ruleset_udp_table(const struct ruleset *rs, const struct rule *rule)
{
	bool taken[ATTACH_UDP_TABLES] = { true };
	uint8_t table = 1;

	if (rule->proto != PROTO_UDP || !rule->has_target)
		return 0;
	for (uint32_t i = 0; i < rs->used; i++) {
		const struct ruleset_slot *s = &rs->v[i];

		if (s->state == RULESET_FREE || s->rule.proto != PROTO_UDP || !s->rule.has_target)
			continue;
		if (addr_same_ip(&s->rule.target, &rule->target))
			return s->udp_table;
		taken[s->udp_table] = true;
	}
	while (table < ATTACH_UDP_TABLES - 1 && taken[table])
		table++;
	return table;
}

uint32_t ruleset_take(struct ruleset *rs, const struct rule *rule)
{
	uint32_t i = rs->n_free > 0 ? 0 : rs->used;
	struct ruleset_slot *s;

	if (i == rs->max)
		return RULESET_NONE;
	while (i < rs->used && rs->v[i].state != RULESET_FREE)
		i++;
	s = &rs->v[i];
	s->udp_table = ruleset_udp_table(rs, rule);
	if (i == rs->used)
		rs->used++;
	else
		rs->n_free--;
	s->rule = *rule;
	s->id = ++rs->last_id;
	s->state = RULESET_ACTIVE;
	s->n_told = 0;
	atomic_store(&s->told_port, false);
	atomic_store(&s->told_lost, false);
	return i;
}

void ruleset_free(struct ruleset *rs, uint32_t slot)
{
	fwd_assert(rs->v[slot].state != RULESET_FREE);
	rs->v[slot].state = RULESET_FREE;
	rs->n_free++;
}

uint32_t ruleset_find(const struct ruleset *rs, uint32_t id)
{
	for (uint32_t i = 0; i < rs->used; i++)
		if (rs->v[i].state != RULESET_FREE && rs->v[i].id == id)
			return i;
	return RULESET_NONE;
}

bool ruleset_any_automatic(const struct ruleset *rs)
{
	for (uint32_t i = 0; i < rs->used; i++)
		if (rs->v[i].state == RULESET_ACTIVE && rs->v[i].rule.automatic)
			return true;
	return false;
}
