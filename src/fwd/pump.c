/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump.c - move bytes one way between two sockets
 *
 * Theory of operation. Copying costs least for small messages, splice(2) for
 * bulk, so a pump changes between the two:
 *
 *                   a receive filled its buffer, and that is sent
 *     IDLE --> COPYING ------------------------------------> SPLICING
 *                 ^      several wake-ups that moved little     |
 *                 `---------------------------------------------'
 *     either --FIN read, all passed on--> EOF
 *            --error read, all passed on--> RESET
 *            --error while writing--> BROKEN
 *
 * COPYING: one receive and one send may be in flight at once, so a request
 * and the wait for the next cost one system call. At most two buffers are held:
 * the one being sent and the one read meanwhile; then reading stops. A send that
 * finds no room waits until @dst is writable.
 *
 * SPLICING: on readable, fill the pipe up to PIPE_FILL, then drain it, and
 * again until the socket is empty; one wait is in flight, for @src if the
 * pipe is empty, for @dst if not. The pipe goes back to its pool as soon as it
 * is empty and nothing more is there.
 *
 * Invariants: @piped is exactly what the pipe holds. EAGAIN cannot tell a full
 * pipe from an empty socket (tests/kernel/splice_eagain.c), so only EAGAIN
 * with an empty pipe says that the socket is empty. An error of @src is acted
 * upon when everything read before it has been passed on, as TCP would.
 */
#include "fwd/pump.h"

#include <errno.h>
#include <fcntl.h>

#include "util.h"

#define PUMP_BUDGET (4u * 1024 * 1024) /* bytes to splice before others get their turn */
#define PUMP_SMALL  4096u	       /* a wake-up that moved less counts as small */
#define PUMP_SMALLS 4		       /* that many in a row: copy again */

const char *pump_state_str(enum pump_state state)
{
	static const char *const names[] = {
		[PUMP_IDLE] = "idle", [PUMP_COPYING] = "copying", [PUMP_SPLICING] = "splicing",
		[PUMP_EOF] = "eof",   [PUMP_RESET] = "reset",	  [PUMP_BROKEN] = "broken",
	};
	_Static_assert(ARRAY_SIZE(names) == PUMP_STATES, "a name for each state");

	return names[state];
}

void pump_init(struct pump *p, int src, int dst, struct loop_ref owner)
{
	*p = (struct pump){
		.src = src,
		.dst = dst,
		.slot = owner.slot,
		.generation = owner.generation,
		.side = owner.side,
		.sending.id = BUF_NONE,
		.next.id = BUF_NONE,
		.pipe = PIPE_NONE,
	};
}

/* ---------------------------------------------------------------- operations in flight */

static struct loop_ref pump_ref(const struct pump *p, enum loop_op op)
{
	return (struct loop_ref){
		.op = (uint8_t)op, .side = p->side, .generation = p->generation, .slot = p->slot
	};
}

static bool pump_waits(const struct pump *p, enum loop_op op)
{
	return p->in_flight & 1u << op;
}

static void pump_mark(struct pump *p, enum loop_op op)
{
	fwd_assert(!pump_waits(p, op));
	p->in_flight |= (uint8_t)(1u << op);
}

static void pump_recv(const struct pump_env *env, struct pump *p)
{
	pump_mark(p, OP_RECV);
	env->loop->ops->recv(env->loop, p->src, pump_ref(p, OP_RECV));
}

static void pump_send(const struct pump_env *env, struct pump *p)
{
	pump_mark(p, OP_SEND);
	env->loop->ops->send(env->loop, p->dst,
			     bufs_data(&env->loop->bufs, p->sending.id) + p->sending.off,
			     p->sending.len, pump_ref(p, OP_SEND));
}

static void pump_wait_readable(const struct pump_env *env, struct pump *p)
{
	pump_mark(p, OP_READABLE);
	env->loop->ops->readable(env->loop, p->src, pump_ref(p, OP_READABLE));
}

static void pump_wait_writable(const struct pump_env *env, struct pump *p)
{
	pump_mark(p, OP_WRITABLE);
	env->loop->ops->writable(env->loop, p->dst, pump_ref(p, OP_WRITABLE));
}

/* ---------------------------------------------------------------- ends */

static void pump_drop(const struct pump_env *env, struct pump_buf *b)
{
	if (b->id != BUF_NONE)
		bufs_put(&env->loop->bufs, b->id);
	b->id = BUF_NONE;
}

static void pump_break(struct pump *p, int code)
{
	p->state = PUMP_BROKEN;
	p->error = code;
}

/* @src gave its last byte: by FIN if @code is 0, else by that error. */
static void pump_source_ended(struct pump *p, int code)
{
	/* Whoever saw the error first took it with him; the next one only sees the end. */
	if (code == 0 && p->eof_is_reset)
		code = ECONNRESET;
	p->src_ended = true;
	p->src_reset = code != 0;
	p->error = code;
}

/* Everything read has been passed on: if nothing more can come, that is the end. */
static bool pump_ends(struct pump *p)
{
	if (p->src_ended)
		p->state = p->src_reset ? PUMP_RESET : PUMP_EOF;
	return p->src_ended;
}

/* ---------------------------------------------------------------- splicing */

enum fill { FILL_MORE, FILL_EMPTY, FILL_ENDED };

/* Gather bytes in the pipe until it has PIPE_FILL, or @src has none. */
static enum fill pump_fill(struct pump *p, size_t *moved)
{
	while (p->piped < PIPE_FILL) {
		ssize_t n = splice(p->src, NULL, p->pipe.wr, NULL, PIPE_FILL,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n > 0) {
			p->piped += (size_t)n;
			*moved += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			/* With bytes in the pipe it may be full: drain, and ask again. */
			return p->piped > 0 ? FILL_MORE : FILL_EMPTY;
		} else if (n == 0 || errno != EINTR) {
			pump_source_ended(p, n == 0 ? 0 : errno);
			return FILL_ENDED;
		}
	}
	return FILL_MORE;
}

/* Push what the pipe holds. 0: it is empty; -EAGAIN: @dst is full; or -errno. */
static int pump_drain(struct pump *p)
{
	while (p->piped > 0) {
		ssize_t n = splice(p->pipe.rd, NULL, p->dst, NULL, p->piped,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		fwd_assert(n > 0); /* we hold the write end: never EOF */
		p->piped -= (size_t)n;
		p->bytes += (uint64_t)n;
	}
	return 0;
}

/* Count wake-ups that were not worth a pipe; true when it is time to copy again. */
static bool pump_is_small(struct pump *p, size_t moved)
{
	p->small = moved < PUMP_SMALL ? (uint8_t)(p->small + 1) : 0;
	return p->small >= PUMP_SMALLS;
}

static void pump_copy(const struct pump_env *env, struct pump *p)
{
	p->state = PUMP_COPYING;
	p->upgrade = false;
	p->small = 0;
	pump_recv(env, p);
}

/* @src is empty and so is the pipe: give it back and wait. */
static void pump_splice_idle(const struct pump_env *env, struct pump *p, size_t moved)
{
	pipes_put(env->pipes, &p->pipe, true);
	if (pump_is_small(p, moved))
		pump_copy(env, p);
	else
		pump_wait_readable(env, p);
}

static void pump_splice(const struct pump_env *env, struct pump *p)
{
	enum fill fill = p->src_ended ? FILL_ENDED : FILL_MORE;
	uint64_t before = p->bytes;
	size_t moved = 0;

	if (pipe_is_none(&p->pipe) && !pipes_get(env->pipes, &p->pipe)) {
		pump_copy(env, p);
		return;
	}
	for (;;) {
		int ret;

		if (fill != FILL_ENDED)
			fill = pump_fill(p, &moved);
		ret = pump_drain(p);
		if (ret == -EAGAIN) {
			pump_wait_writable(env, p);
			return;
		}
		if (ret < 0) {
			pump_break(p, -ret);
			return;
		}
		if (fill == FILL_ENDED) {
			pipes_put(env->pipes, &p->pipe, true);
			pump_ends(p);
			return;
		}
		if (fill == FILL_EMPTY || moved >= PUMP_BUDGET) {
			/* What it drained was worth the wake-up, too. */
			if (p->bytes - before > moved)
				moved = (size_t)(p->bytes - before);
			pump_splice_idle(env, p, moved);
			return;
		}
	}
}

/* ---------------------------------------------------------------- copying */

/* What was read has been sent: go on with what was read meanwhile, or end, or splice. */
static void pump_sent_all(const struct pump_env *env, struct pump *p)
{
	pump_drop(env, &p->sending);
	if (p->next.id != BUF_NONE) {
		p->sending = p->next;
		p->next.id = BUF_NONE;
		pump_send(env, p);
	}
	if (p->sending.id == BUF_NONE && pump_ends(p))
		return;
	if (p->src_ended || pump_waits(p, OP_RECV))
		return;
	if (!p->upgrade) {
		pump_recv(env, p);
	} else if (p->sending.id == BUF_NONE) {
		p->state = PUMP_SPLICING;
		pump_splice(env, p);
	}
}

static void pump_on_send(const struct pump_env *env, struct pump *p, int res)
{
	if (res == -EAGAIN) {
		pump_wait_writable(env, p);
		return;
	}
	if (res < 0) {
		pump_break(p, -res);
		return;
	}
	fwd_assert((uint32_t)res <= p->sending.len);
	p->bytes += (uint32_t)res;
	p->sending.off += (uint32_t)res;
	p->sending.len -= (uint32_t)res;
	if (p->sending.len > 0)
		pump_send(env, p);
	else
		pump_sent_all(env, p);
}

static void pump_on_recv(const struct pump_env *env, struct pump *p, int res, buf_id buf)
{
	if (res <= 0) {
		pump_source_ended(p, -res);
		if (p->sending.id == BUF_NONE)
			pump_ends(p);
		return;
	}
	/* A full buffer: this is bulk. What is read from here on is spliced. */
	p->upgrade = (uint32_t)res == BUF_SIZE;
	if (p->sending.id != BUF_NONE) {
		p->next = (struct pump_buf){ .id = buf, .len = (uint32_t)res };
		return;
	}
	p->sending = (struct pump_buf){ .id = buf, .len = (uint32_t)res };
	pump_send(env, p);
	if (!p->upgrade)
		pump_recv(env, p);
}

/* ---------------------------------------------------------------- for the owner */

void pump_start(const struct pump_env *env, struct pump *p)
{
	fwd_assert(p->state == PUMP_IDLE);
	pump_copy(env, p);
}

void pump_complete(const struct pump_env *env, struct pump *p, enum loop_op op, int res, buf_id buf)
{
	fwd_assert(pump_waits(p, op));
	p->in_flight &= (uint8_t) ~(1u << op);
	if (res == -ECANCELED || pump_is_final(p)) {
		/* Closing: only the buffer matters. */
		pump_drop(env, &(struct pump_buf){ .id = buf });
		return;
	}
	switch (op) {
	case OP_RECV:
		pump_on_recv(env, p, res, buf);
		break;
	case OP_SEND:
		pump_on_send(env, p, res);
		break;
	default:
		/* Readable, or writable: the system calls tell what is the matter. */
		if (p->state == PUMP_COPYING)
			pump_send(env, p);
		else
			pump_splice(env, p);
		break;
	}
}

void pump_cancel(const struct pump_env *env, struct pump *p)
{
	static const struct {
		uint8_t op;
		bool of_src;
	} ops[] = {
		{ OP_RECV, true }, { OP_READABLE, true }, { OP_SEND, false }, { OP_WRITABLE, false }
	};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (pump_waits(p, ops[i].op))
			env->loop->ops->cancel(env->loop, ops[i].of_src ? p->src : p->dst,
					       pump_ref(p, ops[i].op));
	if (!pump_is_final(p))
		pump_break(p, ECANCELED);
}

void pump_fini(const struct pump_env *env, struct pump *p)
{
	fwd_assert(p->in_flight == 0);
	pump_drop(env, &p->sending);
	pump_drop(env, &p->next);
	pipes_put(env->pipes, &p->pipe, p->piped == 0);
}
