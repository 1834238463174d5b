/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A rule: one contiguous range of host ports and where it leads. Pure data; a
 * port specification (portspec.h) makes several of them, exclusions already
 * cut out.
 */

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "fwd/addr.h"

enum proto { PROTO_TCP, PROTO_UDP, PROTO_NUM };

struct rule {
	enum proto proto;
	bool any;	       /* no address given: IPv4 and IPv6, as -4 and -6 allow */
	struct addr bind;      /* listening address (port unused), unless @any */
	char ifname[IFNAMSIZ]; /* listen on this device only; "" for all */
	uint16_t first, last;  /* host ports, both included; never 0 */
	uint16_t to_first;     /* container port of @first; the others follow in step */
	bool has_target;       /* a target address was given */
	struct addr target;    /* that address (port unused) */
	bool automatic;	       /* listen only while the container does */
	bool weak;	       /* a port that cannot be had is skipped, not an error */
	int passed;	       /* the socket that a service manager has passed; 0: we open one */
};

struct rules {
	struct rule *v; /* owned */
	unsigned n;
};

/* Enough for rule_str() of any rule. */
#define RULE_STRLEN 224

/* "tcp" or "udp". */
const char *proto_str(enum proto proto);

/* Print as the user would write it: "tcp 0.0.0.0%eth0/8080-8090:80"; returns @buf. */
const char *rule_str(const struct rule *r, char buf[RULE_STRLEN]);

/* The container port that host port @port (of the rule's range) leads to. */
static inline uint16_t rule_target_port(const struct rule *r, uint16_t port)
{
	return (uint16_t)(r->to_first + (port - r->first));
}

/*
 * Append a copy of @r. 0 or -ENOMEM. rules_free() frees the array and leaves
 * an empty one.
 */
int rules_add(struct rules *rules, const struct rule *r);
void rules_free(struct rules *rules);
