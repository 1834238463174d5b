/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A pump moves the bytes of one direction of a TCP flow from socket @src to
 * socket @dst, keeping what it has read until it has written it. It begins by
 * copying, and splices while the traffic is bulk.
 *
 * The owner hands it each completion of its operations and looks at @state
 * afterwards. The pump shuts nothing down: that FIN or RST must be passed on is
 * what its final states say.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fwd/bufs.h"
#include "fwd/loop.h"
#include "fwd/pipes.h"

enum pump_state {
	PUMP_IDLE,     /* not started */
	PUMP_COPYING,  /* recv into a buffer, send */
	PUMP_SPLICING, /* splice(2) through a borrowed pipe */
	PUMP_EOF,      /* final: @src ended by FIN and @dst has every byte */
	PUMP_RESET,    /* final: @src ended by an error and @dst has every byte read before */
	PUMP_BROKEN,   /* final: @dst takes no more; what was read is lost with it */
	PUMP_STATES
};

/* One piece of data on its way from recv to send. */
struct pump_buf {
	buf_id id; /* BUF_NONE: no piece */
	uint32_t off, len;
};

struct pump {
	int src, dst;  /* not owned */
	uint32_t slot; /* of the flow, for references */
	uint16_t generation;
	uint8_t side;		 /* of the flow, for references */
	uint8_t state;		 /* enum pump_state */
	bool src_ended;		 /* FIN or an error was read: no more to come */
	bool src_reset;		 /* it was an error */
	bool eof_is_reset;	 /* set by the owner: @src is known to be dead, EOF hides it */
	bool upgrade;		 /* splice as soon as what was copied is gone */
	uint8_t small;		 /* wake-ups in a row that moved little: go back to copying */
	uint8_t in_flight;	 /* operations, as bits 1 << enum loop_op */
	int error;		 /* errno of the end, for the log: 0 after a FIN */
	struct pump_buf sending; /* handed to send */
	struct pump_buf next;	 /* read meanwhile */
	struct pipe pipe;	 /* borrowed while @piped > 0, or during one call */
	size_t piped;		 /* bytes in it, exactly */
	uint64_t bytes;		 /* passed on */
};

/* What a pump works with; outlives it. */
struct pump_env {
	struct loop *loop;
	struct pipes *pipes;
};

/*
 * Set up a pump between two connected, non-blocking sockets. References to its
 * operations carry @slot, @generation and @side. It does nothing until
 * pump_start().
 */
void pump_init(struct pump *p, int src, int dst, struct loop_ref owner);

/* Start reading. */
void pump_start(const struct pump_env *env, struct pump *p);

/* A completion: OP_RECV, OP_SEND, OP_READABLE or OP_WRITABLE. */
void pump_complete(const struct pump_env *env, struct pump *p, enum loop_op op, int res,
		   buf_id buf);

/*
 * Ask for the end of what is in flight. The completions still go to
 * pump_complete(); they no longer move anything.
 */
void pump_cancel(const struct pump_env *env, struct pump *p);

/* Give back buffers and pipe. Nothing may be in flight. */
void pump_fini(const struct pump_env *env, struct pump *p);

static inline bool pump_is_final(const struct pump *p)
{
	return p->state >= PUMP_EOF;
}

/* Bytes were read that @dst has not taken yet. */
static inline bool pump_holds_data(const struct pump *p)
{
	return p->sending.id != BUF_NONE || p->piped > 0;
}

/* "copying", "splicing", ... */
const char *pump_state_str(enum pump_state state);
