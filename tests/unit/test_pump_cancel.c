/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pump_cancel.c - a pump is closed: in every state, with every outcome of what
 * was in flight, in every order
 *
 * Nothing may be started after the cancel, every operation completes once, and
 * buffers and pipe come back: the rig sees to it.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <sys/socket.h>

#include "pump_rig.h"
#include "util.h"

enum { TIMEOUT = 10, BULK = 200 * 1000 };

static void at_start(struct pump_rig *r)
{
	rig_start(r);
}

static void sending_and_receiving(struct pump_rig *r)
{
	rig_start(r);
	rig_recv(r, 9);
}

static void sending_the_rest(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_send(r, 4);
}

static void sending_with_another_read(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_recv(r, 6);
}

static void sending_the_second(struct pump_rig *r)
{
	sending_with_another_read(r);
	rig_send_all(r);
}

static void sending_the_last(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_complete(r, OP_RECV, 0);
}

static void sending_before_a_reset(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_complete(r, OP_RECV, -ECONNRESET);
}

static void receiving_and_waiting_to_send(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_complete(r, OP_SEND, -EAGAIN);
}

static void waiting_to_send_with_another_read(struct pump_rig *r)
{
	receiving_and_waiting_to_send(r);
	rig_recv(r, 6);
}

static void waiting_to_send_the_last(struct pump_rig *r)
{
	receiving_and_waiting_to_send(r);
	rig_complete(r, OP_RECV, 0);
}

static void sending_a_full_buffer(struct pump_rig *r)
{
	rig_start(r);
	rig_recv(r, BUF_SIZE);
}

static void sending_before_a_full_buffer(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_recv(r, BUF_SIZE);
}

static void waiting_for_input(struct pump_rig *r)
{
	rig_upgrade(r);
}

static void waiting_for_room(struct pump_rig *r)
{
	int size = 1;

	cr_assert_eq(setsockopt(r->dst, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	rig_upgrade(r);
	rig_write(r, BULK);
	cr_assert(rig_perform(r, OP_READABLE, 0));
	rig_expect(r, RIG_WRITABLE);
}

static void waiting_for_room_at_the_end(struct pump_rig *r)
{
	waiting_for_room(r);
	shutdown(r->in, SHUT_WR);
	rig_complete(r, OP_WRITABLE, 0);
	rig_expect(r, RIG_WRITABLE);
}

static void broken_and_receiving(struct pump_rig *r)
{
	sending_and_receiving(r);
	rig_complete(r, OP_SEND, -EPIPE);
}

static void broken(struct pump_rig *r)
{
	sending_with_another_read(r);
	rig_complete(r, OP_SEND, -EPIPE);
}

static void ended(struct pump_rig *r)
{
	rig_start(r);
	rig_complete(r, OP_RECV, 0);
}

static void before_the_start(struct pump_rig *r)
{
	(void)r;
}

static const struct {
	void (*reach)(struct pump_rig *r);
	unsigned in_flight;
} places[] = {
	{ before_the_start, 0 },
	{ at_start, RIG_RECV },
	{ sending_and_receiving, RIG_RECV | RIG_SEND },
	{ sending_the_rest, RIG_RECV | RIG_SEND },
	{ sending_with_another_read, RIG_SEND },
	{ sending_the_second, RIG_RECV | RIG_SEND },
	{ sending_the_last, RIG_SEND },
	{ sending_before_a_reset, RIG_SEND },
	{ receiving_and_waiting_to_send, RIG_RECV | RIG_WRITABLE },
	{ waiting_to_send_with_another_read, RIG_WRITABLE },
	{ waiting_to_send_the_last, RIG_WRITABLE },
	{ sending_a_full_buffer, RIG_SEND },
	{ sending_before_a_full_buffer, RIG_SEND },
	{ waiting_for_input, RIG_READABLE },
	{ waiting_for_room, RIG_WRITABLE },
	{ waiting_for_room_at_the_end, RIG_WRITABLE },
	{ broken_and_receiving, RIG_RECV },
	{ broken, 0 },
	{ ended, 0 },
};

static unsigned row_index[ARRAY_SIZE(places)];

/* How what was canceled may yet come out. */
enum outcome { CANCELED, SUCCESS, PART, FAILURE, ENDED, OUTCOMES };

static void come_out(struct pump_rig *r, const struct fake_op *op, enum outcome how)
{
	enum loop_op kind = (enum loop_op)op->ref.op;

	if (how == CANCELED)
		rig_complete(r, kind, -ECANCELED);
	else if (how == FAILURE)
		rig_complete(r, kind, -ECONNRESET);
	else if (how == ENDED || kind == OP_READABLE || kind == OP_WRITABLE)
		rig_complete(r, kind, 0);
	else if (kind == OP_RECV)
		rig_recv(r, how == SUCCESS ? BUF_SIZE : 3);
	else
		rig_send(r, how == SUCCESS ? op->len : op->len / 2);
}

static void sweep_one(unsigned place, enum outcome first, enum outcome second, unsigned order)
{
	struct pump_rig r;
	bool was_final;
	int error;

	rig_open(&r);
	places[place].reach(&r);
	rig_expect(&r, places[place].in_flight);
	was_final = pump_is_final(&r.pump);
	error = was_final ? r.pump.error : ECANCELED;
	rig_cancel(&r);
	cr_assert_eq(r.pump.error, error);
	cr_assert(was_final || r.pump.state == PUMP_BROKEN);
	if (r.fake.n > 0)
		come_out(&r, &r.fake.op[order % r.fake.n], first);
	if (r.fake.n > 0)
		come_out(&r, &r.fake.op[0], second);
	cr_assert_eq(r.fake.n, 0);
	cr_assert_eq(r.pump.error, error);
	rig_close(&r);
}

ParameterizedTestParameters(pump_cancel, leaves_nothing_behind)
{
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, ARRAY_SIZE(places), NULL);
}

/* From one place: all outcomes of at most two operations, in both orders. */
ParameterizedTest(const unsigned *place, pump_cancel, leaves_nothing_behind, .timeout = TIMEOUT)
{
	for (int first = 0; first < OUTCOMES; first++)
		for (int second = 0; second < OUTCOMES; second++)
			for (unsigned order = 0; order < 2; order++)
				sweep_one(*place, (enum outcome)first, (enum outcome)second, order);
}

/* A pipe with bytes in it is not used again. */
Test(pump_cancel, closes_a_pipe_with_bytes_in_it, .timeout = TIMEOUT)
{
	struct pump_rig r;

	rig_open(&r);
	waiting_for_room(&r);
	rig_cancel(&r);
	rig_complete(&r, OP_WRITABLE, -ECANCELED);
	cr_assert_gt(r.pump.piped, 0);
	rig_reclaim(&r);
	cr_assert_eq(r.pipes.n_idle, 0);
	rig_close(&r);
}
