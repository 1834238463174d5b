/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer.c - what is said on the control socket
 */
#include "fwd/answer.h"

#include <stdlib.h>
#include <string.h>

#include "util.h"

#define NS 1000000000ull

json_t *answer_text(const char *s)
{
	json_t *text = json_string(s);
	char copy[512];
	size_t n = 0;

	if (text)
		return text;
	/* An interface may have any name, and a text that was cut may end anywhere. */
	for (; *s && n < sizeof(copy) - 1; s++)
		copy[n++] = (unsigned char)*s < 0x80 ? *s : '?';
	return json_stringn(copy, n);
}

json_t *answer_error(const char *why)
{
	return json_pack("{s:b, s:o}", "ok", 0, "error", answer_text(why));
}

char *answer_line(json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
	size_t len = text ? strlen(text) : 0;
	char *line = text ? realloc(text, len + 2) : NULL;

	if (line)
		memcpy(line + len, "\n", 2);
	else
		free(text);
	json_decref(answer);
	return line;
}

/* ---------------------------------------------------------------- flows */

static json_t *answer_addr(const struct addr *a, bool known)
{
	char text[ADDR_STRLEN];

	return known ? json_string(addr_str(a, text)) : json_null();
}

static json_t *answer_flow(const struct snapshot_flow *e)
{
	return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:s?, s:{s:I, s:I}, s:{s:s?, s:s?}, "
			 "s:f}",
			 "proto", proto_str(e->proto), "state", e->state, "rule",
			 (json_int_t)e->rule, "client", answer_addr(&e->client, true), "local",
			 answer_addr(&e->local, true), "container",
			 answer_addr(&e->target, e->connected), "shown_as",
			 answer_addr(&e->source, e->connected), "source", e->fate, "bytes", "in",
			 (json_int_t)e->bytes[SIDE_CLIENT], "out",
			 (json_int_t)e->bytes[SIDE_CONTAINER], "mode", "in", e->mode[SIDE_CLIENT],
			 "out", e->mode[SIDE_CONTAINER], "age", (double)e->age / (double)NS);
}

json_t *answer_flows(const struct snapshot *s, bool more)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->n; i++)
		json_array_append_new(list, answer_flow(&s->v[i]));
	return json_pack("{s:b, s:o, s:b}", "ok", 1, "flows", list, "more", more);
}

/* ---------------------------------------------------------------- rules */

/* Ports of a rule that follow each other on one address are one entry. */
static json_t *answer_bound(const struct ruleset_slot *s, const struct ports_socket *first,
			    uint16_t last)
{
	char ip[ADDR_STRLEN];

	return json_pack("{s:s, s:o, s:i, s:i}", "address",
			 first->dual_stack ? "*" : addr_ip_str(&first->bound, ip), "device",
			 s->rule.ifname[0] ? answer_text(s->rule.ifname) : json_null(),
			 "first_port", (int)first->port, "last_port", (int)last);
}

static json_t *answer_listens(const struct ruleset_slot *s, uint32_t slot,
			      const struct ports *ports)
{
	json_t *list = json_array();
	const struct ports_socket *first = NULL;
	uint16_t last = 0;

	for (unsigned i = 0; i < ports->n; i++) {
		const struct ports_socket *p = &ports->v[i];

		if (p->rule != slot || p->fd < 0 || (first && p->port == last))
			continue;
		if (first && (p->port != last + 1 || p->dual_stack != first->dual_stack ||
			      !addr_same_ip(&p->bound, &first->bound))) {
			json_array_append_new(list, answer_bound(s, first, last));
			first = NULL;
		}
		if (!first)
			first = p;
		last = p->port;
	}
	if (first)
		json_array_append_new(list, answer_bound(s, first, last));
	return list;
}

/* The specification without the protocol, as -t and -u take it. */
static json_t *answer_spec(const struct rule *r)
{
	char text[RULE_STRLEN];

	return answer_text(strchr(rule_str(r, text), ' ') + 1);
}

json_t *answer_rule(const struct ruleset_slot *s, uint32_t slot, const struct ports *ports)
{
	return json_pack("{s:I, s:s, s:o, s:o}", "id", (json_int_t)s->id, "proto",
			 proto_str(s->rule.proto), "rule", answer_spec(&s->rule), "listens",
			 answer_listens(s, slot, ports));
}

/* ---------------------------------------------------------------- counters */

json_t *answer_totals(const struct rule_totals *t)
{
	return json_pack(
		"{s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I, s:I, s:I}, s:I}", "flows",
		"now", (json_int_t)t->now, "ever", (json_int_t)t->flows, "bytes", "in",
		(json_int_t)t->bytes[SIDE_CLIENT], "out", (json_int_t)t->bytes[SIDE_CONTAINER],
		"datagrams", "in", (json_int_t)t->datagrams[SIDE_CLIENT], "out",
		(json_int_t)t->datagrams[SIDE_CONTAINER], "source", "kept",
		(json_int_t)t->fate[SOURCE_KEPT], "port_changed", (json_int_t)t->fate[SOURCE_PORT],
		"stand_in", (json_int_t)t->fate[SOURCE_STANDIN], "lost",
		(json_int_t)t->fate[SOURCE_LOST], "refused", (json_int_t)t->refused);
}

json_t *answer_rule_stats(const struct ruleset_slot *s, const struct rule_totals *t)
{
	json_t *o = json_pack("{s:I, s:s, s:o, s:b}", "id", (json_int_t)s->id, "proto",
			      proto_str(s->rule.proto), "rule", answer_spec(&s->rule), "deleted",
			      s->state == RULESET_DELETED);

	return json_object_update_new(o, answer_totals(t)) == 0 ? o : NULL;
}
