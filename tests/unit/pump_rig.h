/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A pump between two socket pairs, over the fake loop:
 *
 *	test --@in--> src   [pump]   dst --@out--> test
 *
 * The stream is a pattern that tells each position. The test either completes
 * receives and sends with pieces of it, or writes to @in, has operations
 * performed, and reads from @out. Every function that lets the pump act checks
 * the invariants that hold between its completions.
 */

#include "fake_loop.h"
#include "fwd/pipes.h"
#include "fwd/pump.h"

struct pump_rig {
	struct fake_loop fake;
	struct pipes pipes;
	struct pump_env env;
	struct pump pump;
	int in, src, dst, out;
	uint64_t given, taken; /* bytes of the stream, into the pump and out of it */
};

/* The pump is set up and not started. */
void rig_open(struct pump_rig *r);

/* Another pump on the same sockets, also not started; the last one gave everything back. */
void rig_renew(struct pump_rig *r);

/* Nothing in flight: ask the pump for what it holds. Buffers and pipes are all back. */
void rig_reclaim(struct pump_rig *r);
void rig_close(struct pump_rig *r);

void rig_start(struct pump_rig *r);
void rig_cancel(struct pump_rig *r);

/* Complete the receive with the next @n bytes of the stream. */
void rig_recv(struct pump_rig *r, size_t n);

/* Complete the send with @n bytes, which must be the next ones. */
void rig_send(struct pump_rig *r, size_t n);
void rig_send_all(struct pump_rig *r);

/* Complete the operation of this kind with that result. */
void rig_complete(struct pump_rig *r, enum loop_op op, int res);

/* Perform it, at most @max bytes. False if there is none, or it would have to wait. */
bool rig_perform(struct pump_rig *r, enum loop_op op, size_t max);

/* Write up to @n bytes of the stream to @in; as many as there is room for. */
size_t rig_write(struct pump_rig *r, size_t n);

/* Read up to @n bytes from @out, which must be the next ones; 0 if there are none. */
size_t rig_read(struct pump_rig *r, size_t n);

/* From the start to splicing; @src is empty, and the pump waits for input. */
void rig_upgrade(struct pump_rig *r);

/* Skip the test, saying why, where the kernel has no pipe for us. */
void rig_need_pipe(struct pump_rig *r);

enum {
	RIG_RECV = 1 << OP_RECV,
	RIG_SEND = 1 << OP_SEND,
	RIG_READABLE = 1 << OP_READABLE,
	RIG_WRITABLE = 1 << OP_WRITABLE
};

/* The operations in flight are exactly these, as RIG_* bits. */
void rig_expect(const struct pump_rig *r, unsigned ops);
