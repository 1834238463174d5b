/* SPDX-License-Identifier: Apache-2.0 */

/*
 * route.c - local routes and policy rules
 *
 * Flushing reads first and deletes afterwards, never inside a dump, and by keys
 * that only what is ours can match: the protocol number is always part of
 * them. Socket filters on dumps (NETLINK_GET_STRICT_CHK) only save work; what
 * decides is the check of each message here.
 */

#include "nl/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

enum {
	ROUTE_MSG_SIZE = 512,  /* the largest request: header, rtmsg, five attributes */
	ROUTE_MSG_PACKED = 96, /* of those, when nothing follows that would need room */
	ROUTE_KEYS_MIN = 64,   /* first size of the array of keys */
};

/* Enough of a route to delete it and no other. */
struct route_key {
	struct nl_route r;
	uint8_t type; /* RTN_LOCAL, ...; 0: any */
};

/* Routes found by a dump. */
struct route_keys {
	struct nl_route want; /* family, table and protocol are looked at */
	struct route_key *v;  /* owned */
	size_t n;
	size_t size;
};

struct route_attrs {
	struct nl_route *r; /* what is filled */
	size_t ip_len;
};

/* Rules counted by a dump. */
struct rule_count {
	uint8_t family;
	uint8_t protocol;
	bool any_priority;
	uint32_t priority; /* unless @any_priority */
	unsigned n;
};

struct rule_attrs {
	uint8_t protocol;
	uint32_t priority;
};

/* ------------------------------------------------------------ common */

static size_t route_ip_len(uint8_t family)
{
	return family == AF_INET ? 4 : 16;
}

/*
 * Send a request that adds or deletes; @same1 and @same2 are the errors that
 * say that there is nothing to change.
 */
static int route_change(struct nl *nl, struct nlmsghdr *nlh, int same1, int same2, const char *what,
			bool *ret_changed, struct err *err)
{
	struct err kernel;
	int r = nl_request(nl, nlh, what, &kernel);

	if (r < 0 && r != -same1 && r != -same2) {
		*err = kernel;
		return r;
	}
	if (ret_changed)
		*ret_changed = r == 0;
	return 0;
}

/* ------------------------------------------------------------ routes */

static void route_describe(char *buf, size_t size, const char *verb, const struct nl_route *r)
{
	char ip[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(r->dst.family, r->dst.bytes, ip, sizeof(ip));
	(void)snprintf(buf, size, "%s local route %s/%u, device %u, table %u", verb, ip,
		       r->dst.plen, r->oif, r->table);
}

static struct nlmsghdr *route_build(char *buf, uint16_t type, const struct route_key *k)
{
	const struct nl_route *r = &k->r;
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *rtm;

	nlh->nlmsg_type = type;
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = r->dst.family;
	rtm->rtm_dst_len = r->dst.plen;
	rtm->rtm_protocol = r->protocol;
	rtm->rtm_type = k->type;
	/* Only IPv4 has scopes; NOWHERE deletes whatever the scope. */
	if (type == RTM_DELROUTE)
		rtm->rtm_scope = RT_SCOPE_NOWHERE;
	else
		rtm->rtm_scope = r->dst.family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
	mnl_attr_put_u32(nlh, RTA_TABLE, r->table);
	if (r->dst.plen > 0)
		mnl_attr_put(nlh, RTA_DST, route_ip_len(r->dst.family), r->dst.bytes);
	if (r->src.family)
		mnl_attr_put(nlh, RTA_PREFSRC, route_ip_len(r->src.family), r->src.bytes);
	if (r->oif)
		mnl_attr_put_u32(nlh, RTA_OIF, r->oif);
	if (r->metric)
		mnl_attr_put_u32(nlh, RTA_PRIORITY, r->metric);
	return nlh;
}

static int route_del_key(struct nl *nl, const struct route_key *k, bool *ret_changed,
			 struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[ROUTE_MSG_SIZE];
	struct nlmsghdr *nlh = route_build(buf, RTM_DELROUTE, k);
	char what[128];

	route_describe(what, sizeof(what), "delete", &k->r);
	/* ESRCH: no such route, or no such table; ENOENT: the same from old kernels */
	return route_change(nl, nlh, ESRCH, ENOENT, what, ret_changed, err);
}

static int route_attr_cb(const struct nlattr *attr, void *data)
{
	struct route_attrs *a = data;

	switch (mnl_attr_get_type(attr)) {
	case RTA_DST:
		if (mnl_attr_validate2(attr, MNL_TYPE_BINARY, a->ip_len) < 0)
			return MNL_CB_ERROR;
		memcpy(a->r->dst.bytes, mnl_attr_get_payload(attr), a->ip_len);
		return MNL_CB_OK;
	case RTA_OIF:
	case RTA_PRIORITY:
	case RTA_TABLE:
		if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
			return MNL_CB_ERROR;
		break;
	default:
		return MNL_CB_OK;
	}
	if (mnl_attr_get_type(attr) == RTA_OIF)
		a->r->oif = mnl_attr_get_u32(attr);
	else if (mnl_attr_get_type(attr) == RTA_PRIORITY)
		a->r->metric = mnl_attr_get_u32(attr);
	else
		a->r->table = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int route_keys_add(struct route_keys *keys, const struct route_key *k)
{
	if (keys->n == keys->size) {
		size_t size = keys->size ? 2 * keys->size : ROUTE_KEYS_MIN;
		void *v = reallocarray(keys->v, size, sizeof(*keys->v));

		if (!v)
			return MNL_CB_ERROR;
		keys->v = v;
		keys->size = size;
	}
	keys->v[keys->n++] = *k;
	return MNL_CB_OK;
}

static int route_cb(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct route_keys *keys = data;
	struct route_key k = { 0 };
	struct route_attrs a = { .r = &k.r };

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm))
		return MNL_CB_OK;
	if (rtm->rtm_family != keys->want.dst.family || rtm->rtm_protocol != keys->want.protocol ||
	    rtm->rtm_flags & RTM_F_CLONED)
		return MNL_CB_OK;
	k.type = rtm->rtm_type;
	k.r.dst.family = rtm->rtm_family;
	k.r.dst.plen = rtm->rtm_dst_len;
	k.r.table = rtm->rtm_table;
	k.r.protocol = rtm->rtm_protocol;
	a.ip_len = route_ip_len(rtm->rtm_family);
	if (mnl_attr_parse(nlh, sizeof(*rtm), route_attr_cb, &a) < 0)
		return MNL_CB_ERROR;
	return k.r.table == keys->want.table ? route_keys_add(keys, &k) : MNL_CB_OK;
}

static void route_keys_restart(void *data)
{
	struct route_keys *keys = data;

	keys->n = 0;
}

/* Fill @keys with the routes that are wanted; a table that is not there has none. */
static int route_collect(struct nl *nl, struct route_keys *keys, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[ROUTE_MSG_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct err kernel;
	struct rtmsg *rtm;
	int r;

	nlh->nlmsg_type = RTM_GETROUTE;
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = keys->want.dst.family;
	rtm->rtm_protocol = keys->want.protocol;
	mnl_attr_put_u32(nlh, RTA_TABLE, keys->want.table);
	r = nl_dump(nl, nlh, route_cb, route_keys_restart, keys, "list routes", &kernel);
	if (r == -ENOENT) {
		keys->n = 0;
		return 0;
	}
	if (r < 0)
		*err = kernel;
	return r;
}

int nl_route_add(struct nl *nl, const struct nl_route *r, bool *ret_changed, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[ROUTE_MSG_SIZE];
	struct route_key k = { .r = *r, .type = RTN_LOCAL };
	struct nlmsghdr *nlh = route_build(buf, RTM_NEWROUTE, &k);
	char what[128];

	route_describe(what, sizeof(what), "add", r);
	nlh->nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
	return route_change(nl, nlh, EEXIST, EEXIST, what, ret_changed, err);
}

int nl_route_del(struct nl *nl, const struct nl_route *r, bool *ret_changed, struct err *err)
{
	struct route_key k = { .r = *r, .type = RTN_LOCAL };

	return route_del_key(nl, &k, ret_changed, err);
}

static void routes_change(struct nl *nl, const struct nl_route *v, unsigned n, uint16_t type,
			  uint16_t flags, int *ret_codes)
{
	_Alignas(struct nlmsghdr) char buf[NL_ROUTES * ROUTE_MSG_PACKED];
	size_t len = 0;
	int ret;

	fwd_assert(n <= NL_ROUTES);
	if (n == 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		struct route_key k = { .r = v[i], .type = RTN_LOCAL };
		struct nlmsghdr *nlh = route_build(buf + len, type, &k);

		nlh->nlmsg_flags |= flags;
		len += MNL_ALIGN(nlh->nlmsg_len);
	}
	ret = nl_request_many(nl, buf, len, ret_codes, n);
	for (unsigned i = 0; ret < 0 && i < n; i++)
		ret_codes[i] = ret;
}

void nl_routes_add(struct nl *nl, const struct nl_route *v, unsigned n, int *ret_codes)
{
	routes_change(nl, v, n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, ret_codes);
	for (unsigned i = 0; i < n; i++)
		if (ret_codes[i] == -EEXIST)
			ret_codes[i] = 0;
}

void nl_routes_del(struct nl *nl, const struct nl_route *v, unsigned n, int *ret_codes)
{
	routes_change(nl, v, n, RTM_DELROUTE, 0, ret_codes);
	for (unsigned i = 0; i < n; i++)
		if (ret_codes[i] == -ESRCH || ret_codes[i] == -ENOENT)
			ret_codes[i] = 0;
}

int nl_route_flush(struct nl *nl, int family, uint32_t table, uint8_t protocol, struct err *err)
{
	struct route_keys keys = {
		.want = { .dst.family = (uint8_t)family, .table = table, .protocol = protocol },
	};
	int n = 0;
	int r;

	if (protocol == 0) /* to the kernel that means: anybody's */
		return err_set(err, EINVAL, "flush routes of table %u: no protocol given", table);
	r = route_collect(nl, &keys, err);
	for (size_t i = 0; r == 0 && i < keys.n; i++) {
		bool changed = false;

		r = route_del_key(nl, &keys.v[i], &changed, err);
		n += changed;
	}
	free(keys.v);
	return r < 0 ? r : n;
}

/* ------------------------------------------------------------ rules */

static void rule_describe(char *buf, size_t size, const char *verb, const struct nl_rule *r)
{
	(void)snprintf(buf, size, "%s %s rule, priority %u, table %u", verb,
		       r->family == AF_INET ? "IPv4" : "IPv6", r->priority, r->table);
}

static struct nlmsghdr *rule_build(char *buf, uint16_t type, const struct nl_rule *r)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct fib_rule_hdr *frh;

	nlh->nlmsg_type = type;
	frh = mnl_nlmsg_put_extra_header(nlh, sizeof(*frh));
	frh->family = r->family;
	if (r->table) {
		frh->action = FR_ACT_TO_TBL;
		mnl_attr_put_u32(nlh, FRA_TABLE, r->table);
	}
	mnl_attr_put_u32(nlh, FRA_PRIORITY, r->priority);
	if (r->protocol)
		mnl_attr_put_u8(nlh, FRA_PROTOCOL, r->protocol);
	if (r->fwmark) {
		mnl_attr_put_u32(nlh, FRA_FWMARK, r->fwmark);
		mnl_attr_put_u32(nlh, FRA_FWMASK, UINT32_MAX);
	}
	if (r->ip_proto)
		mnl_attr_put_u8(nlh, FRA_IP_PROTO, r->ip_proto);
	if (r->sport_first || r->sport_last) {
		struct fib_rule_port_range range = { r->sport_first, r->sport_last };

		mnl_attr_put(nlh, FRA_SPORT_RANGE, sizeof(range), &range);
	}
	if (r->iif[0]) {
		char name[IFNAMSIZ];

		(void)snprintf(name, sizeof(name), "%.*s", IFNAMSIZ - 1, r->iif);
		mnl_attr_put_strz(nlh, FRA_IIFNAME, name);
	}
	return nlh;
}

static int rule_attr_cb(const struct nlattr *attr, void *data)
{
	struct rule_attrs *a = data;

	switch (mnl_attr_get_type(attr)) {
	case FRA_PROTOCOL:
		if (mnl_attr_validate(attr, MNL_TYPE_U8) < 0)
			return MNL_CB_ERROR;
		a->protocol = mnl_attr_get_u8(attr);
		break;
	case FRA_PRIORITY:
		if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
			return MNL_CB_ERROR;
		a->priority = mnl_attr_get_u32(attr);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

static int rule_cb(const struct nlmsghdr *nlh, void *data)
{
	const struct fib_rule_hdr *frh = mnl_nlmsg_get_payload(nlh);
	struct rule_count *c = data;
	struct rule_attrs a = { 0 };

	if (nlh->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*frh))
		return MNL_CB_OK;
	if (mnl_attr_parse(nlh, sizeof(*frh), rule_attr_cb, &a) < 0)
		return MNL_CB_ERROR;
	c->n += frh->family == c->family && a.protocol == c->protocol &&
		(c->any_priority || a.priority == c->priority);
	return MNL_CB_OK;
}

static void rule_restart(void *data)
{
	struct rule_count *c = data;

	c->n = 0;
}

static int rule_count(struct nl *nl, struct rule_count *c, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[ROUTE_MSG_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct fib_rule_hdr *frh;
	int r;

	nlh->nlmsg_type = RTM_GETRULE;
	frh = mnl_nlmsg_put_extra_header(nlh, sizeof(*frh));
	frh->family = c->family;
	r = nl_dump(nl, nlh, rule_cb, rule_restart, c, "list rules", err);
	return r < 0 ? r : (int)c->n;
}

int nl_rule_add(struct nl *nl, const struct nl_rule *r, bool *ret_changed, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[ROUTE_MSG_SIZE];
	struct nlmsghdr *nlh = rule_build(buf, RTM_NEWRULE, r);
	char what[128];

	rule_describe(what, sizeof(what), "add", r);
	nlh->nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
	return route_change(nl, nlh, EEXIST, EEXIST, what, ret_changed, err);
}

int nl_rule_del(struct nl *nl, const struct nl_rule *r, bool *ret_changed, struct err *err)
{
	_Alignas(struct nlmsghdr) char buf[ROUTE_MSG_SIZE];
	struct nlmsghdr *nlh = rule_build(buf, RTM_DELRULE, r);
	char what[128];

	rule_describe(what, sizeof(what), "delete", r);
	return route_change(nl, nlh, ENOENT, ESRCH, what, ret_changed, err);
}

int nl_rule_count(struct nl *nl, int family, uint8_t protocol, struct err *err)
{
	struct rule_count c = {
		.family = (uint8_t)family,
		.protocol = protocol,
		.any_priority = true,
	};

	return rule_count(nl, &c, err);
}

int nl_rule_flush(struct nl *nl, int family, uint8_t protocol, uint32_t priority, struct err *err)
{
	struct nl_rule key = {
		.family = (uint8_t)family,
		.protocol = protocol,
		.priority = priority,
	};
	struct rule_count c = {
		.family = (uint8_t)family,
		.protocol = protocol,
		.priority = priority,
	};
	int found;
	int n = 0;

	if (protocol == 0) /* to the kernel that means: anybody's */
		return err_set(err, EINVAL, "flush rules of priority %u: no protocol given",
			       priority);
	/* One deletion takes one rule that has both numbers: the key needs no more. */
	found = rule_count(nl, &c, err);
	for (int i = 0; i < found; i++) {
		bool changed = false;
		int r = nl_rule_del(nl, &key, &changed, err);

		if (r < 0)
			return r;
		n += changed;
	}
	return found < 0 ? found : n;
}
