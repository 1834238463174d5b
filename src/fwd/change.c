/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change.c - add and delete rules while workers run
 *
 * Adding: slots are filled, ports opened, the agent told which ports applications will
 * answer from; only when all of that has worked are workers given the listeners.
 * Until then everything can be undone, and nobody has seen it.
 *
 * Deleting: listeners close, the workers are told to let go, the agent to forget. The
 * slot waits until they have (change_collect()); then its counters are added to those of
 * rules that are gone.
 */
#include "fwd/change.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "fwd/log.h"
#include "util.h"

#define CHANGE_WAIT_NS 1000000000ull

/* ---------------------------------------------------------------- UDP ports of answers */

/* Whether the agent's rules for @a and @b are one; see attach_change_udp() for 65535. */
static bool change_same_ports(const struct attach_ports *a, const struct attach_ports *b)
{
	uint16_t last = UINT16_MAX - 1;

	return a->table == b->table && a->first == b->first &&
	       (a->last == b->last || (a->last >= last && b->last >= last));
}

/* Tell the agent of the UDP rule in @slot; not of its end while another needs the same. */
static int change_tell_agent(struct forwarder *f, uint32_t slot, bool add, struct err *err)
{
	struct attach_ports ports = forwarder_udp_ports(&f->rules.v[slot]);

	if (f->rules.v[slot].rule.proto != PROTO_UDP)
		return 0;
	for (uint32_t i = 0; !add && i < f->rules.used; i++) {
		const struct ruleset_slot *s = &f->rules.v[i];
		struct attach_ports other = forwarder_udp_ports(s);

		if (i != slot && s->state == RULESET_ACTIVE && s->rule.proto == PROTO_UDP &&
		    change_same_ports(&ports, &other))
			return 0;
	}
	return agent_change_udp(&f->agent, &ports, add, err);
}

/* ---------------------------------------------------------------- add */

/* Slots that nobody has seen; their ids are free again, too. */
static void change_give_back(struct forwarder *f, const uint32_t *slots, unsigned n)
{
	f->rules.last_id -= n;
	for (unsigned i = 0; i < n; i++)
		ruleset_free(&f->rules, slots[i]);
}

static int change_take_slots(struct forwarder *f, const struct rules *rules, uint32_t *slots,
			     struct err *err)
{
	change_collect(f);
	for (unsigned i = 0; i < rules->n; i++) {
		slots[i] = ruleset_take(&f->rules, &rules->v[i]);
		if (slots[i] != RULESET_NONE)
			continue;
		change_give_back(f, slots, i);
		return err_set(err, ENOSPC, "too many rules: there can be %u at a time",
			       f->rules.max);
	}
	return 0;
}

static int change_tell_agent_all(struct forwarder *f, const uint32_t *slots, unsigned n,
				 struct err *err)
{
	struct err ignored;
	int ret = 0;
	unsigned i;

	for (i = 0; ret == 0 && i < n; i++)
		ret = change_tell_agent(f, slots[i], true, err);
	if (ret == 0)
		return 0;
	for (unsigned k = 0; k < n; k++)
		f->rules.v[slots[k]].state = RULESET_DELETED;
	/* The one that failed may have been done in part. */
	while (i-- > 0)
		change_tell_agent(f, slots[i], false, &ignored);
	return ret;
}

int change_add(struct forwarder *f, const struct rules *rules, uint32_t *ret_slots, struct err *err)
{
	char text[RULE_STRLEN];
	int ret;

	for (unsigned i = 0; i < rules->n; i++)
		if (rules->v[i].automatic && !f->have_diag)
			return forwarder_no_diag(err);
	ret = change_take_slots(f, rules, ret_slots, err);
	if (ret < 0)
		return ret;
	ret = ports_open(&f->ports, ret_slots, rules->n, err);
	if (ret == 0) {
		ret = change_tell_agent_all(f, ret_slots, rules->n, err);
		if (ret < 0)
			ports_abandon(&f->ports);
	}
	if (ret < 0) {
		change_give_back(f, ret_slots, rules->n);
		return ret;
	}
	ports_hand_over(&f->ports, f->workers);
	for (unsigned i = 0; i < rules->n; i++)
		log_info("rule %u added: %s", f->rules.v[ret_slots[i]].id,
			 rule_str(&rules->v[i], text));
	if (ruleset_any_automatic(&f->rules))
		forwarder_update_ports(f);
	return 0;
}

/* ---------------------------------------------------------------- delete */

static bool change_same_rule(const struct rule *a, const struct rule *b)
{
	return a->proto == b->proto && a->any == b->any && a->first == b->first &&
	       a->last == b->last && a->to_first == b->to_first && a->has_target == b->has_target &&
	       a->automatic == b->automatic && (a->any || addr_same_ip(&a->bind, &b->bind)) &&
	       (!a->has_target || addr_same_ip(&a->target, &b->target)) &&
	       strcmp(a->ifname, b->ifname) == 0;
}

/* Mark the active rules that are the same as @r. */
static int change_mark_rule(const struct ruleset *rs, const struct rule *r, bool *marked,
			    struct err *err)
{
	char text[RULE_STRLEN];
	bool found = false;

	for (uint32_t i = 0; i < rs->used; i++) {
		if (rs->v[i].state != RULESET_ACTIVE || !change_same_rule(&rs->v[i].rule, r))
			continue;
		marked[i] = true;
		found = true;
	}
	return found ? 0 : err_set(err, ENOENT, "no such rule: %s", rule_str(r, text));
}

static int change_mark(const struct ruleset *rs, const struct change_delete *d, bool *marked,
		       struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < d->rules->n; i++)
		ret = change_mark_rule(rs, &d->rules->v[i], marked, err);
	for (unsigned i = 0; ret == 0 && i < d->n_ids; i++) {
		uint32_t slot = ruleset_find(rs, d->ids[i]);

		if (slot == RULESET_NONE || (rs->v[slot].state == RULESET_DELETED && !d->drop))
			ret = err_set(err, ENOENT, "no such rule: %u", d->ids[i]);
		else
			marked[slot] = true;
	}
	return ret;
}

/* A socket of the service manager is dealt out among the workers, and the manager's to close. */
static int change_may_delete(const struct ruleset *rs, const bool *marked, struct err *err)
{
	for (uint32_t i = 0; i < rs->used; i++)
		if (marked[i] && rs->v[i].rule.passed)
			return err_set(err, EPERM,
				       "rule %u is a socket of the service manager: stop its unit",
				       rs->v[i].id);
	return 0;
}

static void change_delete_slot(struct forwarder *f, uint32_t slot, bool drop)
{
	struct ruleset_slot *s = &f->rules.v[slot];
	char text[RULE_STRLEN];
	struct err err;

	ports_delete(&f->ports, slot, drop);
	s->n_told++;
	log_info("rule %u deleted: %s%s", s->id, rule_str(&s->rule, text),
		 drop ? ", with its flows" : "");
	if (s->state == RULESET_ACTIVE && change_tell_agent(f, slot, false, &err) < 0)
		log_warn("%s", err.text);
	s->state = RULESET_DELETED;
}

static bool change_all_let_go(const struct forwarder *f, const uint32_t *slots, int n)
{
	struct stats *stats[WORKER_MAX];

	forwarder_stats(f, stats);
	for (int i = 0; i < n; i++)
		if (!stats_rule_let_go(stats, f->n_workers, slots[i], f->rules.v[slots[i]].n_told))
			return false;
	return true;
}

/* A UDP port is free only when its workers have closed it: whoever asks may want it next. */
static void change_wait(const struct forwarder *f, const uint32_t *slots, int n)
{
	uint64_t deadline = now_ns() + CHANGE_WAIT_NS, ignored;
	struct pollfd p = { .fd = f->shared.let_go, .events = POLLIN };

	while (!change_all_let_go(f, slots, n) && now_ns() < deadline) {
		if (poll(&p, 1, CHANGE_WAIT_NS / 1000000) > 0 &&
		    read(p.fd, &ignored, sizeof(ignored)) < 0)
			break;
	}
}

int change_delete(struct forwarder *f, const struct change_delete *d, uint32_t *ret_slots,
		  struct err *err)
{
	bool *marked = calloc(f->rules.max + 1ul, sizeof(*marked));
	int ret, n = 0;

	if (!marked)
		return err_sys(err, ENOMEM, "delete");
	change_collect(f);
	ret = change_mark(&f->rules, d, marked, err);
	if (ret == 0)
		ret = change_may_delete(&f->rules, marked, err);
	for (uint32_t i = 0; ret == 0 && i < f->rules.used; i++) {
		if (!marked[i])
			continue;
		change_delete_slot(f, i, d->drop);
		ret_slots[n++] = i;
	}
	free(marked);
	change_wait(f, ret_slots, n);
	return ret < 0 ? ret : n;
}

/* ---------------------------------------------------------------- afterwards */

void change_collect(struct forwarder *f)
{
	struct stats *stats[WORKER_MAX];

	forwarder_stats(f, stats);
	for (uint32_t i = 0; i < f->rules.used; i++) {
		const struct ruleset_slot *s = &f->rules.v[i];

		if (s->state != RULESET_DELETED ||
		    !stats_rule_is_over(stats, f->n_workers, i, s->n_told))
			continue;
		stats_add_rule(stats, f->n_workers, i, &f->gone);
		stats_clear_rule(stats, f->n_workers, i);
		ruleset_free(&f->rules, i);
	}
}
