/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - carry out requests
 */
#include "fwd/serve.h"

#include <stdlib.h>

#include "fwd/answer.h"
#include "fwd/change.h"
#include "fwd/forwarder.h"
#include "util.h"

/* { "ok": true, "rules": [...] } */
static json_t *serve_rules(const struct forwarder *f, const uint32_t *slots, unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list,
				      answer_rule(&f->rules.v[slots[i]], slots[i], &f->ports));
	return json_pack("{s:b, s:o}", "ok", 1, "rules", list);
}

static json_t *serve_list(const struct forwarder *f)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < f->rules.used; i++)
		if (f->rules.v[i].state == RULESET_ACTIVE)
			json_array_append_new(list, answer_rule(&f->rules.v[i], i, &f->ports));
	return json_pack("{s:b, s:o}", "ok", 1, "rules", list);
}

static json_t *serve_add(struct forwarder *f, const struct request *req)
{
	uint32_t *slots = calloc(req->rules.n + 1ul, sizeof(*slots));
	json_t *answer = NULL;
	struct err err;

	if (slots && change_add(f, &req->rules, slots, &err) == 0)
		answer = serve_rules(f, slots, req->rules.n);
	else if (slots)
		answer = answer_error(err.text);
	free(slots);
	return answer;
}

static json_t *serve_delete(struct forwarder *f, const struct request *req)
{
	const struct change_delete d = {
		.rules = &req->rules, .ids = req->ids, .n_ids = req->n_ids, .drop = req->drop
	};
	uint32_t *slots = calloc(f->rules.max + 1ul, sizeof(*slots));
	json_t *answer = NULL;
	struct err err;
	int n;

	if (!slots)
		return NULL;
	n = change_delete(f, &d, slots, &err);
	if (n < 0)
		answer = answer_error(err.text);
	else
		answer = serve_rules(f, slots, (unsigned)n);
	free(slots);
	return answer;
}

static void serve_sum(struct rule_totals *to, const struct rule_totals *t)
{
	to->flows += t->flows;
	to->now += t->now;
	to->refused += t->refused;
	for (int side = 0; side < SIDES; side++) {
		to->bytes[side] += t->bytes[side];
		to->datagrams[side] += t->datagrams[side];
	}
	for (int fate = 0; fate < SOURCE_FATES; fate++)
		to->fate[fate] += t->fate[fate];
}

static json_t *serve_errors(const struct forwarder *f, struct stats *const *stats)
{
	json_t *o = json_object();

	for (unsigned e = 0; e < STATS_ERRORS; e++)
		json_object_set_new(o, stats_error_name((enum stats_error)e),
				    json_integer((json_int_t)stats_errors(stats, f->n_workers,
									  (enum stats_error)e)));
	return o;
}

static json_t *serve_stats(struct forwarder *f)
{
	struct stats *stats[WORKER_MAX];
	struct rule_totals total;
	json_t *list = json_array();
	uint64_t paused = 0;

	change_collect(f);
	forwarder_stats(f, stats);
	total = f->gone;
	for (uint32_t i = 0; i < f->rules.used; i++) {
		struct rule_totals t = { 0 };

		if (f->rules.v[i].state == RULESET_FREE)
			continue;
		stats_add_rule(stats, f->n_workers, i, &t);
		serve_sum(&total, &t);
		json_array_append_new(list, answer_rule_stats(&f->rules.v[i], &t));
	}
	for (unsigned i = 0; i < f->n_workers; i++)
		paused += stats_get(&stats[i]->accept_paused);
	return json_pack("{s:b, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:I}", "ok", 1, "version",
			 FWD_VERSION, "engine", f->shared.engine->name, "workers",
			 (json_int_t)f->n_workers, "max_flows", (json_int_t)f->shared.max_flows,
			 "rules", list, "total", answer_totals(&total), "errors",
			 serve_errors(f, stats), "accept_paused", (json_int_t)paused);
}

json_t *serve_request(void *forwarder, const struct request *req)
{
	struct forwarder *f = forwarder;

	switch (req->kind) {
	case REQUEST_LIST:
		return serve_list(f);
	case REQUEST_ADD:
		return serve_add(f, req);
	case REQUEST_DELETE:
		return serve_delete(f, req);
	case REQUEST_STATS:
		return serve_stats(f);
	default:
		return answer_error("no such request");
	}
}
