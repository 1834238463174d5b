/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The rules in force: a fixed table of slots, so that a rule can come and go
 * while workers run. Only the main thread takes and frees slots; a worker reads
 * a slot while it has a listener or a flow of that rule (ruleset.c says why that is
 * enough).
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fwd/rule.h"

#define RULESET_NONE UINT32_MAX

enum ruleset_state {
	RULESET_FREE,
	RULESET_ACTIVE,	 /* listens, or will */
	RULESET_DELETED, /* does not; flows may go on */
};

struct ruleset_slot {
	struct rule rule;
	uint32_t id;			   /* for the user: from 1, never used twice */
	uint8_t udp_table;		   /* which of the tables for routes to UDP clients */
	uint8_t state;			   /* enum ruleset_state; the main thread's alone */
	uint32_t n_told;		   /* messages to each worker about its end; likewise */
	_Atomic bool told_port, told_lost; /* the user knows that one was not kept */
};

struct ruleset {
	struct ruleset_slot *v; /* [max]; owned */
	uint32_t max;
	uint32_t used;	 /* slots from here on have never been used */
	uint32_t n_free; /* of those below */
	uint32_t last_id;
};

/* Room for @max rules. 0 or -ENOMEM. */
int ruleset_init(struct ruleset *rs, uint32_t max);
void ruleset_fini(struct ruleset *rs);

/* Put a copy of @rule into a free slot: its index, or RULESET_NONE if there is none. */
uint32_t ruleset_take(struct ruleset *rs, const struct rule *rule);

/* Nothing refers to the slot any more: it may be taken again. */
void ruleset_free(struct ruleset *rs, uint32_t slot);

/* The slot of rule @id, or RULESET_NONE. */
uint32_t ruleset_find(const struct ruleset *rs, uint32_t id);

/* Whether any active rule is automatic. */
bool ruleset_any_automatic(const struct ruleset *rs);
