/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Routes and policy rules (rtnetlink(7), ip-rule(8)). */

#include "nl/nl.h"

/*
 * A route of type RTN_LOCAL ("ip route add local DST dev DEV src SRC table T"):
 * packets to @dst are taken for our own. That is the only kind that fwd makes.
 */
struct nl_route {
	struct nl_ip dst; /* family must be set; plen 0: default */
	struct nl_ip src; /* preferred source; family 0: none */
	unsigned oif;	  /* device */
	uint32_t table;
	uint32_t metric;
	uint8_t protocol; /* who made it (RTPROT_*) */
};

/*
 * Add or delete. Adding one that exists, or deleting one that does not, is
 * success: @ret_changed (may be NULL) says whether anything changed. 0 or
 * -errno with @err.
 */
int nl_route_add(struct nl *nl, const struct nl_route *r, bool *ret_changed, struct err *err);
int nl_route_del(struct nl *nl, const struct nl_route *r, bool *ret_changed, struct err *err);

/* The same for several, by one system call. 0 or -errno of each in @ret_codes. */
#define NL_ROUTES 64u /* at most */
void nl_routes_add(struct nl *nl, const struct nl_route *v, unsigned n, int *ret_codes);
void nl_routes_del(struct nl *nl, const struct nl_route *v, unsigned n, int *ret_codes);

/* Delete every route of @family in @table that carries @protocol. Their number, or -errno. */
int nl_route_flush(struct nl *nl, int family, uint32_t table, uint8_t protocol, struct err *err);

/* A policy rule; fields that are 0 do not select. */
struct nl_rule {
	uint8_t family;
	uint8_t protocol;     /* who made it (FRA_PROTOCOL) */
	uint8_t ip_proto;     /* IPPROTO_UDP, ... (Linux 4.17) */
	uint16_t sport_first; /* source ports (Linux 4.17) */
	uint16_t sport_last;
	uint32_t priority;
	uint32_t table;
	uint32_t fwmark; /* exact match */
	char iif[16];	 /* incoming device; "lo" for what is sent here */
};

/* As nl_route_add() and nl_route_del(). */
int nl_rule_add(struct nl *nl, const struct nl_rule *r, bool *ret_changed, struct err *err);
int nl_rule_del(struct nl *nl, const struct nl_rule *r, bool *ret_changed, struct err *err);

/* How many rules of @family carry @protocol, or -errno. */
int nl_rule_count(struct nl *nl, int family, uint8_t protocol, struct err *err);

/*
 * Delete every rule of @family that carries @protocol and has @priority. Their
 * number, or -errno.
 */
int nl_rule_flush(struct nl *nl, int family, uint8_t protocol, uint32_t priority, struct err *err);
