/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The flows of a worker, for whoever wants to see them: a slice at a time, filled in by
 * the worker itself, into a buffer of the one who asks. Each slice is as of its own
 * moment; a flow that is there from the first to the last is in exactly one.
 */

#include <stdbool.h>
#include <stdint.h>

#include "fwd/addr.h"
#include "fwd/rule.h"
#include "fwd/stats.h"
#include "fwd/tcp.h"
#include "fwd/udp.h"

#define SNAPSHOT_FLOWS 128

struct snapshot_flow {
	enum proto proto;
	uint32_t rule;		    /* its id */
	const char *state;	    /* constant text, as is what follows */
	const char *fate;	    /* of the source address; NULL: not decided yet */
	const char *mode[SIDES];    /* of the bytes from there; NULL: none move yet */
	bool connected;		    /* @source and @target are known */
	struct addr client, local;  /* on the host */
	struct addr source, target; /* in the container: the client as it sees it, and itself */
	uint64_t bytes[SIDES];
	uint64_t age; /* nanoseconds */
};

struct snapshot {
	_Atomic bool busy; /* it is the worker's at the moment */
	int event;	   /* eventfd that the worker writes to when it is done; not owned */
	/* Where to go on; all 0 at the beginning. */
	enum proto proto;
	uint32_t next;
	/* What came. */
	bool end; /* there are no more */
	unsigned n;
	struct snapshot_flow v[SNAPSHOT_FLOWS];
};

/* For the worker: fill @s, and give it back. @udp may be NULL. */
void snapshot_fill(struct snapshot *s, const struct tcp *tcp, const struct udp *udp);

/* "kept", "port changed", ...: what became of a source address. */
const char *snapshot_fate_str(enum source_fate fate);
