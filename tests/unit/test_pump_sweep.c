/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pump_sweep.c - a pump under all short sequences of completions, and under
 * long random ones with real sockets
 *
 * The rig checks after each step that no byte is lost, made up or out of order,
 * no buffer or pipe leaks, and that the pump never stands still before its end.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <sys/socket.h>

#include "pump_rig.h"
#include "util.h"

enum { TIMEOUT = 10, SEEDS = 60, RUN_STEPS = 1000, LAST_STEPS = 100000, MOOD_STEPS = 40 };

/* ---------------------------------------------------------------- all short sequences */

/* What may happen next, if its operation is in flight. */
enum step {
	RECV_LITTLE,
	RECV_FULL,
	RECV_END,
	RECV_ERROR,
	SEND_ALL,
	SEND_HALF,
	SEND_ERROR,
	SEND_NO_ROOM,
	ROOM,	 /* writable */
	WAKE_UP, /* readable, for nothing */
	STEPS
};

enum { DEPTH = 8 };

static bool step_is_possible(const struct pump_rig *r, enum step step)
{
	unsigned needs = step <= RECV_ERROR ? RIG_RECV
			 : step == ROOM	    ? RIG_WRITABLE
			 : step == WAKE_UP  ? RIG_READABLE
					    : RIG_SEND;

	return r->pump.in_flight & needs;
}

static void take_step(struct pump_rig *r, enum step step)
{
	switch (step) {
	case RECV_LITTLE:
		rig_recv(r, 100);
		break;
	case RECV_FULL:
		rig_recv(r, BUF_SIZE);
		break;
	case RECV_END:
	case RECV_ERROR:
		rig_complete(r, OP_RECV, step == RECV_END ? 0 : -ECONNRESET);
		break;
	case SEND_ALL:
		rig_send_all(r);
		break;
	case SEND_HALF:
		rig_send(r, fake_find(&r->fake, OP_SEND)->len / 2);
		break;
	case SEND_ERROR:
	case SEND_NO_ROOM:
		rig_complete(r, OP_SEND, step == SEND_ERROR ? -EPIPE : -EAGAIN);
		break;
	default:
		rig_complete(r, step == ROOM ? OP_WRITABLE : OP_READABLE, 0);
		break;
	}
}

/* Close it as its owner would, whatever it does. */
static void finish(struct pump_rig *r)
{
	rig_cancel(r);
	while (r->fake.n > 0)
		rig_complete(r, (enum loop_op)r->fake.op[0].ref.op, -ECANCELED);
	rig_reclaim(r);
}

/*
 * Go along @path, then try each step that is possible there. A pump cannot be
 * copied, so each path begins at the start. Returns the number of paths.
 */
static unsigned sweep(struct pump_rig *r, enum step path[DEPTH], unsigned n)
{
	bool possible[STEPS];
	unsigned ret = 1;

	rig_renew(r);
	rig_start(r);
	for (unsigned i = 0; i < n; i++)
		take_step(r, path[i]);
	for (int step = 0; step < STEPS; step++)
		possible[step] = n < DEPTH && step_is_possible(r, (enum step)step);
	finish(r);
	for (int step = 0; step < STEPS; step++) {
		if (!possible[step])
			continue;
		path[n] = (enum step)step;
		ret += sweep(r, path, n + 1);
	}
	return ret;
}

/* All sequences of so many completions, with each outcome, and a cancel after each. */
Test(pump_sweep, survives_every_short_sequence, .timeout = TIMEOUT)
{
	enum step path[DEPTH];
	struct pump_rig r;
	unsigned n;

	rig_open(&r);
	n = sweep(&r, path, 0);
	cr_assert_gt(n, 3000, "only %u sequences", n);
	rig_close(&r);
}

/* ---------------------------------------------------------------- long random ones */

/* xorshift64*: the same sequence everywhere. */
static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717u >> 16;
}

static size_t random_below(uint64_t *state, size_t n)
{
	return (size_t)(random_next(state) % n);
}

/* How much is written or moved at a time, at most: it changes now and then. */
static size_t random_mood(uint64_t *state)
{
	static const size_t moods[] = { 8, 600, 5000, BUF_SIZE, 2 * BUF_SIZE, 300 * 1000 };

	return moods[random_below(state, ARRAY_SIZE(moods))];
}

/* What a run has met, so that a run which meets nothing is noticed. */
struct seen {
	unsigned splicing, back, waits_for_room, two_buffers, ended;
};

static void note(const struct pump_rig *r, enum pump_state before, struct seen *seen)
{
	const struct pump *p = &r->pump;

	seen->splicing += before == PUMP_COPYING && p->state == PUMP_SPLICING;
	seen->back += before == PUMP_SPLICING && p->state == PUMP_COPYING;
	seen->waits_for_room += !!(p->in_flight & RIG_WRITABLE);
	seen->two_buffers += p->next.id != BUF_NONE;
}

/* One thing happens: input, output, or one of the operations gets somewhere. */
static void random_step(struct pump_rig *r, uint64_t *state, size_t mood, struct seen *seen)
{
	enum pump_state before = (enum pump_state)r->pump.state;
	size_t size = 1 + random_below(state, mood);
	unsigned what = (unsigned)random_below(state, 4);

	if (what == 0 && r->in >= 0)
		rig_write(r, size);
	else if (what == 1)
		rig_read(r, size);
	else if (r->fake.n > 0)
		rig_perform(r, (enum loop_op)r->fake.op[random_below(state, r->fake.n)].ref.op,
			    what == 2 ? size : SIZE_MAX);
	note(r, before, seen);
}

/* That many, or until the pump has ended. */
static void random_steps(struct pump_rig *r, uint64_t *state, size_t n, struct seen *seen)
{
	size_t mood = 0;

	for (size_t i = 0; i < n && !pump_is_final(&r->pump); i++) {
		if (i % MOOD_STEPS == 0)
			mood = random_mood(state);
		random_step(r, state, mood, seen);
	}
}

/* How much room there is, and whether a send waits for some. */
static void random_room(struct pump_rig *r, uint64_t *state)
{
	static const int sizes[] = { 1, 40 * 1000, 200 * 1000 };
	int in = sizes[random_below(state, ARRAY_SIZE(sizes))];
	int out = sizes[random_below(state, ARRAY_SIZE(sizes))];

	r->fake.send_waits = random_below(state, 2);
	cr_assert_eq(setsockopt(r->in, SOL_SOCKET, SO_SNDBUF, &in, sizeof(in)), 0);
	cr_assert_eq(setsockopt(r->dst, SOL_SOCKET, SO_SNDBUF, &out, sizeof(out)), 0);
}

static void random_run(uint64_t seed, struct seen *seen)
{
	uint64_t state = seed;
	struct pump_rig r;

	rig_open(&r);
	random_room(&r, &state);
	rig_start(&r);
	random_steps(&r, &state, RUN_STEPS, seen);
	close_fd(&r.in);
	random_steps(&r, &state, LAST_STEPS, seen);
	rig_read(&r, SIZE_MAX);
	cr_assert_eq(r.pump.state, PUMP_EOF, "seed %ju: %s", (uintmax_t)seed,
		     pump_state_str((enum pump_state)r.pump.state));
	cr_assert_eq(r.taken, r.given, "seed %ju", (uintmax_t)seed);
	cr_assert_eq(r.pump.bytes, r.given);
	rig_close(&r);
	seen->ended++;
}

/* Input of any sizes, operations performed in any order and cut short: all of it comes out. */
Test(pump_sweep, passes_on_every_byte_in_any_order_of_events, .timeout = TIMEOUT)
{
	struct seen seen = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		random_run(seed, &seen);
	cr_assert_eq(seen.ended, SEEDS);
	cr_assert_gt(seen.two_buffers, SEEDS);
	if (seen.splicing == 0)
		cr_skip_test("this user's pipes are over fs.pipe-user-pages-soft: only copied");
	cr_assert_gt(seen.splicing, SEEDS / 4);
	cr_assert_gt(seen.back, SEEDS / 4);
	cr_assert_gt(seen.waits_for_room, SEEDS);
}

/* What is in flight after a cancel does what it would have done, or not, in any order. */
static void random_cancel(uint64_t seed)
{
	uint64_t state = seed;
	struct seen seen = { 0 };
	struct pump_rig r;

	rig_open(&r);
	random_room(&r, &state);
	rig_start(&r);
	random_steps(&r, &state, random_below(&state, 300), &seen);
	rig_cancel(&r);
	while (r.fake.n > 0) {
		enum loop_op op = (enum loop_op)r.fake.op[random_below(&state, r.fake.n)].ref.op;

		if (random_below(&state, 2) == 0 || !rig_perform(&r, op, random_mood(&state)))
			rig_complete(&r, op, -ECANCELED);
	}
	rig_close(&r);
}

/* A cancel at any moment of such a run leaves nothing behind. */
Test(pump_sweep, can_be_canceled_at_any_moment, .timeout = TIMEOUT)
{
	for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++)
		random_cancel(seed);
}

/* The destination vanishes at some moment: the pump ends, and nothing is left behind. */
static void random_break(uint64_t seed)
{
	uint64_t state = seed;
	struct seen seen = { 0 };
	struct pump_rig r;

	rig_open(&r);
	random_room(&r, &state);
	rig_start(&r);
	random_steps(&r, &state, random_below(&state, 300), &seen);
	close_fd(&r.out);
	random_steps(&r, &state, LAST_STEPS, &seen);
	cr_assert_eq(r.pump.state, PUMP_BROKEN);
	cr_assert(r.pump.error == EPIPE || r.pump.error == ECONNRESET);
	finish(&r);
	rig_close(&r);
}

/* A destination that vanishes at any moment of such a run breaks the pump, no more. */
Test(pump_sweep, breaks_at_any_moment, .timeout = TIMEOUT)
{
	for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++)
		random_break(seed);
}
