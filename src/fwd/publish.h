/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the annotations of a container ask for, as options of fwd.
 *
 *	fwd.publish = item *( separator item )
 *	separator   = "," | white space
 *	item        = [ where "/" ] entry [ "/" protocol ] | "%" interface [ "/" protocol ]
 *	protocol    = "tcp" | "udp" | "tcp+udp"
 *	fwd.options = option *( white space option )
 *
 * where and entry are those of portspec.h; "tcp" is the default. As in a specification of
 * -t, which means the same here, items after a "," listen where the one before them does,
 * unless they say otherwise. White space begins anew.
 *
 * Exclusions hold for the items of the same addresses and protocol, of which there must be
 * at least one: alone they would publish all ports but a few.
 *
 * Options are few, each with its value behind a "=": those that say how to forward, none
 * that names a file, a namespace or a descriptor, or that makes fwd less confined. Who
 * writes annotations may be trusted with ports, and not with that.
 */

#include "err.h"

enum { PUBLISH_ARGS = 256 };

struct publish {
	char *v[PUBLISH_ARGS + 1]; /* owned; arguments for conf_parse(), NULL behind them */
	unsigned n;
};

/* Add @arg as it is. 0 or -errno with @err. */
int publish_add(struct publish *p, const char *arg, struct err *err);

/*
 * Add what @text, the value of fwd.publish, asks for. What is wrong within a specification
 * is left to portspec_parse(). 0 or -errno with @err.
 */
int publish_specs(const char *text, struct publish *p, struct err *err);

/* The same for fwd.options. Values are left to conf_parse(). */
int publish_options(const char *text, struct publish *p, struct err *err);

void publish_free(struct publish *p);
