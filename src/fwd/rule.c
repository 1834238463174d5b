/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rule.c - print forwarding rules, and keep a list of them
 */

#include "fwd/rule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "util.h"

static const char *const proto_names[] = { [PROTO_TCP] = "tcp", [PROTO_UDP] = "udp" };
_Static_assert(ARRAY_SIZE(proto_names) == PROTO_NUM, "one name per protocol");

enum {
	RULE_IP_STRLEN = ADDR_STRLEN + 2, /* with brackets */
	RULE_BIND_STRLEN = RULE_IP_STRLEN + 1 + IFNAMSIZ + 1,
	RULE_TARGET_STRLEN = RULE_IP_STRLEN + sizeof(":/65535-65535"),
};

/* IPv6 goes into brackets: "2001:db8::1" alone also reads as port and target. */
static const char *rule_ip_str(const struct addr *a, char buf[RULE_IP_STRLEN])
{
	char ip[ADDR_STRLEN];

	snprintf(buf, RULE_IP_STRLEN, addr_family(a) == ADDR_V6 ? "[%s]" : "%s",
		 addr_ip_str(a, ip));
	return buf;
}

/* "", "1.2.3.4/", "%eth0/" or "1.2.3.4%eth0/" */
static const char *rule_bind_str(const struct rule *r, char buf[RULE_BIND_STRLEN])
{
	bool has_ifname = r->ifname[0];
	char ip[RULE_IP_STRLEN] = "";

	if (!r->any)
		rule_ip_str(&r->bind, ip);
	snprintf(buf, RULE_BIND_STRLEN, "%s%s%s%s", ip, has_ifname ? "%" : "", r->ifname,
		 !r->any || has_ifname ? "/" : "");
	return buf;
}

/* "", ":80", ":80-89", ":1.2.3.4" or ":1.2.3.4/80" */
static const char *rule_target_str(const struct rule *r, char buf[RULE_TARGET_STRLEN])
{
	bool has_port = r->to_first != r->first;
	char ip[RULE_IP_STRLEN] = "";
	char port[sizeof("65535-65535")] = "";

	if (r->has_target)
		rule_ip_str(&r->target, ip);
	if (has_port && r->last == r->first)
		snprintf(port, sizeof(port), "%u", r->to_first);
	else if (has_port)
		snprintf(port, sizeof(port), "%u-%u", r->to_first, rule_target_port(r, r->last));
	snprintf(buf, RULE_TARGET_STRLEN, "%s%s%s%s", r->has_target || has_port ? ":" : "", ip,
		 r->has_target && has_port ? "/" : "", port);
	return buf;
}

const char *proto_str(enum proto proto)
{
	fwd_assert(proto < PROTO_NUM);
	return proto_names[proto];
}

const char *rule_str(const struct rule *r, char buf[RULE_STRLEN])
{
	char bind[RULE_BIND_STRLEN];
	char target[RULE_TARGET_STRLEN];
	char last[sizeof("-65535")] = "";

	if (r->last != r->first)
		snprintf(last, sizeof(last), "-%u", r->last);
	snprintf(buf, RULE_STRLEN, "%s %s%u%s%s%s", proto_str(r->proto), rule_bind_str(r, bind),
		 r->first, last, rule_target_str(r, target), r->automatic ? ",auto" : "");
	return buf;
}

int rules_add(struct rules *rules, const struct rule *r)
{
	struct rule *v = reallocarray(rules->v, rules->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	v[rules->n] = *r;
	rules->v = v;
	rules->n++;
	return 0;
}

void rules_free(struct rules *rules)
{
	free(rules->v);
	*rules = (struct rules){ 0 };
}
