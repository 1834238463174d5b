/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The flows of one thread: a fixed table of slots, referred to by index and
 * generation. Nothing is allocated after start.
 */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/addr.h"
#include "fwd/pump.h"
#include "fwd/source.h"
#include "fwd/stats.h"

enum flow_state {
	FLOW_FREE,	  /* on the free list; owns nothing */
	FLOW_WAITING,	  /* accepted; waits for a container-side socket to be had */
	FLOW_CONNECTING,  /* has one, and its connect is under way */
	FLOW_OPEN,	  /* both pumps run */
	FLOW_ENDING,	  /* one pump has ended by FIN just now: mostly the other soon follows */
	FLOW_HALF_CLOSED, /* it has not: from here on we watch for errors */
	FLOW_DRAINING,	  /* one side is dead; what it sent is still being passed on */
	FLOW_CLOSING,	  /* operations are being cancelled; no way back */
	FLOW_DONE,	  /* nothing in flight: is reaped after the batch */
	FLOW_STATES
};

#define FLOW_NONE UINT32_MAX

struct flow {
	uint8_t state;	     /* enum flow_state; by flow_set_state() alone */
	bool reset;	     /* end with RST instead of FIN */
	bool connecting;     /* OP_CONNECT is in flight */
	bool watched[SIDES]; /* OP_BROKEN of that side is in flight */
	uint8_t fate;	     /* enum source_fate, from FLOW_OPEN on */
	uint8_t try_index;   /* into its ladder */
	uint16_t generation;
	uint16_t port; /* host port */
	uint32_t rule;
	uint32_t next, prev; /* in the list of its state */
	int fd[SIDES];	     /* owned; -1 where there is none */
	struct addr client;
	uint64_t opened;	 /* now_ns() */
	uint64_t deadline;	 /* now_ns(), in the states that have one */
	uint64_t seen;		 /* bytes moved when the deadline was set */
	struct pump pump[SIDES]; /* [side]: from that side to the other */
};

struct flow_list {
	uint32_t head, tail;
	uint32_t n;
};

struct flows {
	struct flow *v;
	uint32_t max;
	uint32_t used; /* slots below this have been in use */
	struct flow_list list[FLOW_STATES];
};

/* Reserve @max slots. 0 or -errno with @err. */
int flows_init(struct flows *fs, uint32_t max, struct err *err);
void flows_fini(struct flows *fs);

/* A reference to @f; the caller adds @op. */
struct loop_ref flow_ref(const struct flows *fs, const struct flow *f, enum side side);

/*
 * Take a free slot for an accepted connection @fd; it takes @fd and is in
 * FLOW_WAITING. NULL, with @fd untouched, if there is none.
 */
struct flow *flow_new(struct flows *fs, int fd);

/* Change state, which must be a step that the diagram in flow.c allows. */
void flow_set_state(struct flows *fs, struct flow *f, enum flow_state state);

/* Give a slot in FLOW_DONE back. Its descriptors must have been closed. */
void flow_free(struct flows *fs, struct flow *f);

/* The flow that @ref means. A stale reference is a bug of ours and asserts. */
struct flow *flow_of(struct flows *fs, struct loop_ref ref);

/* The oldest in @state, or NULL. In states with a deadline it is the first to be due. */
struct flow *flow_oldest(const struct flows *fs, enum flow_state state);

/* Make @f the youngest of its state. */
void flow_touch(struct flows *fs, struct flow *f);

/* Nothing of @f is in flight. */
bool flow_is_quiet(const struct flow *f);

const char *flow_state_str(enum flow_state state);
