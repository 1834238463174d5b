/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which source address the container gets to see, and what to try when the
 * kernel refuses it. Pure: decides, and calls nothing.
 */

#include <stdbool.h>

#include "fwd/addr.h"

/* What became of the client's address, as the user is told. */
enum source_fate {
	SOURCE_KEPT,	/* address and port */
	SOURCE_PORT,	/* the address; another port */
	SOURCE_STANDIN, /* a client on the host's loopback, shown by a stand-in address */
	SOURCE_LOST,	/* neither */
	SOURCE_FATES
};

enum source_mode { SOURCE_MODE_KEEP, SOURCE_MODE_REQUIRE, SOURCE_MODE_OFF };

/*
 * Shown in place of the host's loopback addresses, which applications trust
 * (CVE-2021-20199): the IPv4 dummy address (RFC 7600) and one of the dummy IPv6
 * prefix (RFC 9780). No real host has them.
 */
extern const struct addr source_standin4; /* 192.0.0.8 */
extern const struct addr source_standin6; /* 100:0:0:1::1 */

struct source_policy {
	enum source_mode mode;
	bool loopback_to_loopback; /* --host-lo-to-ns-lo */
};

/* Where the container can be reached, learnt from inside it. */
struct source_targets {
	struct addr addr[ADDR_FAMILIES]; /* the container's own, else its loopback */
	bool have[ADDR_FAMILIES];
	bool transparent; /* foreign addresses can be bound in there */
};

/* One way to connect. */
struct source_try {
	struct addr target; /* connect(2) here */
	bool bind;	    /* bind(2) to @source first; its port may be 0 */
	struct addr source;
	enum source_fate fate; /* if it succeeds */
	bool may_meet_itself;  /* check that the socket has not connected to itself */
};

#define SOURCE_TRIES 8 /* two targets, at most four rungs each */

/*
 * Fill @ret with what to try, in order, for a connection of @client. The
 * target is @target if not NULL (an explicit one), else the container's address
 * of the client's family and then that of the other one, the other way round if
 * @other_first. @port is the container's. The number of tries; 0 if the policy
 * leaves none.
 */
unsigned source_ladder(const struct source_policy *policy, const struct source_targets *targets,
		       const struct addr *client, const struct addr *target, uint16_t port,
		       bool other_first, struct source_try ret[SOURCE_TRIES]);

/*
 * Try @i failed with errno @code: the next to try, or @n if there is no point. An
 * address that is taken leads one step down, a target that does not answer to
 * the next target.
 */
unsigned source_next(const struct source_try *tries, unsigned n, unsigned i, int code);

/* "source kept", "port changed", ... */
const char *source_fate_str(enum source_fate fate);
