/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A third engine, for unit tests: it starts nothing by itself. It keeps what it is
 * asked for until the test completes it, in the order, with the result and as short
 * as the test likes. Its buffers are real ones.
 *
 * It asserts what every engine may rely on: an operation is not started twice, and
 * what is canceled is in flight.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fwd/loop.h"

enum { FAKE_OPS_MAX = 16 };

struct fake_op {
	struct loop_ref ref;
	int fd;
	const uint8_t *data; /* OP_SEND */
	size_t len;
	bool canceled;
};

struct fake_loop {
	struct loop loop;
	struct fake_op op[FAKE_OPS_MAX]; /* in flight, in the order they were started */
	unsigned n;
	uint64_t started; /* so many in all */
	bool send_waits;  /* fake_perform() of a send without room: wait, or -EAGAIN */
};

/* Completions go to @handlers[op] with @ctx. There are @bufs buffers at least. */
void fake_init(struct fake_loop *f, loop_handler *const *handlers, void *ctx, uint32_t bufs);

/* Nothing may be in flight, and no buffer taken. */
void fake_fini(struct fake_loop *f);

/* The first in flight of this kind, or NULL. */
struct fake_op *fake_find(struct fake_loop *f, enum loop_op op);

/* Complete @op, which is gone then. */
void fake_complete(struct fake_loop *f, struct fake_op *op, int res);

/* Complete a receive with these bytes, at most BUF_SIZE. */
void fake_complete_recv(struct fake_loop *f, struct fake_op *op, const void *data, size_t len);

/*
 * Do for real what @op is for, moving at most @max bytes, and complete it with
 * what came of that. False, and it is still in flight, if it would have to wait.
 */
bool fake_perform(struct fake_loop *f, struct fake_op *op, size_t max);

/* Buffers that are taken. */
uint32_t fake_bufs_taken(const struct fake_loop *f);
