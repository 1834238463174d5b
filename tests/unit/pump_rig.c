/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump_rig.c - a pump between two socket pairs, over the fake loop
 */
#include "pump_rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

/* Prime, so that no power of two that gets lost or doubled leaves the pattern as it was. */
enum { PATTERN_PERIOD = 65521, RIG_BUFS = 64, RIG_PIPES = 4 };

static const struct loop_ref rig_owner = { .side = 1, .generation = 0xfffe, .slot = 0xabcdef };

static uint8_t pattern[PATTERN_PERIOD + BUF_SIZE];

static void pattern_init(void)
{
	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)((i % PATTERN_PERIOD) * 2654435761u >> 23);
}

static const uint8_t *pattern_at(uint64_t position)
{
	return pattern + position % PATTERN_PERIOD;
}

/* ---------------------------------------------------------------- invariants */

static uint64_t rig_queued(int fd)
{
	int queued = 0;

	cr_assert_eq(ioctl(fd, FIONREAD, &queued), 0);
	return (uint64_t)queued;
}

static void rig_check_pipe(const struct pump *p)
{
	size_t queued = pipe_is_none(&p->pipe) ? 0 : (size_t)rig_queued(p->pipe.rd);

	cr_assert_eq(p->piped, queued, "%zu bytes counted, %zu in the pipe", p->piped, queued);
}

/* No byte is lost or made up: each is in one of the places on its way. */
static void rig_check_account(const struct pump_rig *r)
{
	const struct pump *p = &r->pump;
	uint64_t held = p->piped;

	if (p->state == PUMP_BROKEN || r->out < 0 || p->src != r->src)
		return;
	held += p->sending.id == BUF_NONE ? 0 : p->sending.len;
	held += p->next.id == BUF_NONE ? 0 : p->next.len;
	cr_assert_eq(r->given, rig_queued(r->src) + held + p->bytes);
	cr_assert_eq(p->bytes, r->taken + rig_queued(r->out));
}

static void rig_check(struct pump_rig *r)
{
	const struct pump *p = &r->pump;
	unsigned in_flight = 0, held = (p->sending.id != BUF_NONE) + (p->next.id != BUF_NONE);

	for (unsigned i = 0; i < r->fake.n; i++) {
		const struct fake_op *op = &r->fake.op[i];
		bool of_src = op->ref.op == OP_RECV || op->ref.op == OP_READABLE;

		in_flight |= 1u << op->ref.op;
		cr_assert_eq(op->fd, of_src ? p->src : p->dst);
		cr_assert_eq(op->ref.side, rig_owner.side);
		cr_assert_eq(op->ref.generation, rig_owner.generation);
		cr_assert_eq(op->ref.slot, rig_owner.slot);
	}
	cr_assert_eq(p->in_flight, in_flight, "counted %#x, started %#x", p->in_flight, in_flight);
	cr_assert_eq(fake_bufs_taken(&r->fake), held, "buffers taken, and %u held", held);
	rig_check_pipe(p);
	if (p->state == PUMP_COPYING || p->state == PUMP_SPLICING)
		cr_assert_neq(in_flight, 0, "the pump has come to a standstill");
	if (p->state == PUMP_EOF || p->state == PUMP_RESET) {
		cr_assert_eq(in_flight, 0);
		cr_assert_not(pump_holds_data(p), "an end before everything was passed on");
		cr_assert(pipe_is_none(&p->pipe));
		cr_assert_eq(p->state == PUMP_RESET, p->error != 0);
	}
	rig_check_account(r);
}

static void rig_handler(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	struct pump_rig *r = ctx;
	bool was_final = pump_is_final(&r->pump);
	uint64_t started = r->fake.started;
	struct pump before = r->pump;

	pump_complete(&r->env, &r->pump, (enum loop_op)ref.op, res, buf);
	if (!was_final)
		return;
	cr_assert_eq(r->fake.started, started, "a pump that has ended starts something");
	cr_assert_eq(r->pump.state, before.state);
	cr_assert_eq(r->pump.error, before.error);
	cr_assert_eq(r->pump.bytes, before.bytes);
}

/* ---------------------------------------------------------------- set-up */

static loop_handler *const rig_handlers[OP_NUM] = {
	[OP_RECV] = rig_handler,
	[OP_SEND] = rig_handler,
	[OP_READABLE] = rig_handler,
	[OP_WRITABLE] = rig_handler,
};

void rig_renew(struct pump_rig *r)
{
	r->given = r->taken = 0;
	pump_init(&r->pump, r->src, r->dst, rig_owner);
	rig_check(r);
}

void rig_open(struct pump_rig *r)
{
	int in[2], out[2];

	signal(SIGPIPE, SIG_IGN); /* splice(2) has no MSG_NOSIGNAL */
	pattern_init();
	*r = (struct pump_rig){ 0 };
	fake_init(&r->fake, rig_handlers, r, RIG_BUFS);
	cr_assert_eq(pipes_init(&r->pipes, RIG_PIPES), 0);
	r->env = (struct pump_env){ .loop = &r->fake.loop, .pipes = &r->pipes };
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, in), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, out), 0);
	r->in = in[0];
	r->src = in[1];
	r->dst = out[0];
	r->out = out[1];
	rig_renew(r);
}

void rig_reclaim(struct pump_rig *r)
{
	cr_assert_eq(r->fake.n, 0, "%u operations are in flight", r->fake.n);
	pump_fini(&r->env, &r->pump);
	cr_assert_eq(fake_bufs_taken(&r->fake), 0, "%u buffers have leaked",
		     fake_bufs_taken(&r->fake));
	cr_assert(pipe_is_none(&r->pump.pipe));
	cr_assert_eq(r->pipes.n_open, r->pipes.n_idle, "a pipe has leaked");
}

void rig_close(struct pump_rig *r)
{
	rig_reclaim(r);
	fake_fini(&r->fake);
	pipes_fini(&r->pipes);
	close_fd(&r->in);
	close_fd(&r->src);
	close_fd(&r->dst);
	close_fd(&r->out);
}

void rig_need_pipe(struct pump_rig *r)
{
	struct pipe pipe;

	if (!pipes_get(&r->pipes, &pipe))
		cr_skip_test("this user's pipes are over fs.pipe-user-pages-soft");
	pipes_put(&r->pipes, &pipe, true);
}

/* ---------------------------------------------------------------- acting */

void rig_start(struct pump_rig *r)
{
	pump_start(&r->env, &r->pump);
	rig_check(r);
}

void rig_cancel(struct pump_rig *r)
{
	uint64_t started = r->fake.started;

	pump_cancel(&r->env, &r->pump);
	rig_check(r);
	cr_assert(pump_is_final(&r->pump));
	cr_assert_eq(r->fake.started, started);
	for (unsigned i = 0; i < r->fake.n; i++)
		cr_assert(r->fake.op[i].canceled, "operation %u is left", r->fake.op[i].ref.op);
}

void rig_recv(struct pump_rig *r, size_t n)
{
	uint64_t at = r->given;

	r->given += n;
	fake_complete_recv(&r->fake, fake_find(&r->fake, OP_RECV), pattern_at(at), n);
	rig_check(r);
}

void rig_send(struct pump_rig *r, size_t n)
{
	struct fake_op *op = fake_find(&r->fake, OP_SEND);

	cr_assert_not_null(op, "nothing is being sent");
	cr_assert_leq(n, op->len);
	cr_assert_leq(r->taken + op->len, r->given, "more is sent than was read");
	cr_assert_eq(memcmp(op->data, pattern_at(r->taken), op->len), 0,
		     "not what comes next at byte %ju", (uintmax_t)r->taken);
	if (!pump_is_final(&r->pump))
		r->taken += n;
	fake_complete(&r->fake, op, (int)n);
	rig_check(r);
}

void rig_send_all(struct pump_rig *r)
{
	const struct fake_op *op = fake_find(&r->fake, OP_SEND);

	cr_assert_not_null(op, "nothing is being sent");
	rig_send(r, op->len);
}

void rig_complete(struct pump_rig *r, enum loop_op op, int res)
{
	fake_complete(&r->fake, fake_find(&r->fake, op), res);
	rig_check(r);
}

bool rig_perform(struct pump_rig *r, enum loop_op op, size_t max)
{
	struct fake_op *found = fake_find(&r->fake, op);
	bool ret;

	ret = found && fake_perform(&r->fake, found, max);
	rig_check(r);
	return ret;
}

size_t rig_write(struct pump_rig *r, size_t n)
{
	size_t done = 0;

	while (done < n) {
		size_t piece = n - done < BUF_SIZE ? n - done : BUF_SIZE;
		ssize_t ret = send(r->in, pattern_at(r->given), piece, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (ret < 0) {
			cr_assert_eq(errno, EAGAIN, "%s", strerror(errno));
			break;
		}
		r->given += (uint64_t)ret;
		done += (size_t)ret;
	}
	return done;
}

size_t rig_read(struct pump_rig *r, size_t n)
{
	uint8_t buf[BUF_SIZE];
	size_t done = 0;

	while (done < n) {
		size_t piece = n - done < BUF_SIZE ? n - done : BUF_SIZE;
		ssize_t ret = recv(r->out, buf, piece, MSG_DONTWAIT);

		if (ret <= 0)
			break;
		cr_assert_leq(r->taken + (uint64_t)ret, r->given, "more came out than went in");
		cr_assert_eq(memcmp(buf, pattern_at(r->taken), (size_t)ret), 0,
			     "not what comes next at byte %ju", (uintmax_t)r->taken);
		r->taken += (uint64_t)ret;
		done += (size_t)ret;
	}
	return done;
}

void rig_expect(const struct pump_rig *r, unsigned ops)
{
	cr_assert_eq(r->pump.in_flight, ops, "in flight is %#x, not %#x, in state %s",
		     r->pump.in_flight, ops, pump_state_str((enum pump_state)r->pump.state));
}

void rig_upgrade(struct pump_rig *r)
{
	rig_need_pipe(r);
	rig_start(r);
	rig_recv(r, BUF_SIZE);
	rig_send_all(r);
	cr_assert_eq(r->pump.state, PUMP_SPLICING);
	rig_expect(r, RIG_READABLE);
}
