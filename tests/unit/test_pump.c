/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pump.c - a pump that copies: what it reads, sends and keeps, and how it ends
 *
 * The rig checks after each step that the operations and buffers are those the
 * pump knows of, and that the bytes are the right ones.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "pump_rig.h"
#include "util.h"

enum { TIMEOUT = 10 };

static struct pump_rig rig;

static void set_up(void)
{
	rig_open(&rig);
}

static void tear_down(void)
{
	rig_close(&rig);
}

TestSuite(pump, .init = set_up, .fini = tear_down);

/* A pump does nothing until it is started. */
Test(pump, is_idle_before_the_start, .timeout = TIMEOUT)
{
	cr_assert_eq(rig.pump.state, PUMP_IDLE);
	rig_expect(&rig, 0);
	cr_assert_not(pump_holds_data(&rig.pump));
	cr_assert_not(pump_is_final(&rig.pump));
}

/* It starts by reading, and by nothing else. */
Test(pump, starts_with_a_receive, .timeout = TIMEOUT)
{
	rig_start(&rig);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_expect(&rig, RIG_RECV);
	rig_cancel(&rig);
	rig_complete(&rig, OP_RECV, -ECANCELED);
}

/* A message is sent as it came, while the wait for the next one goes on. */
Test(pump, receives_again_while_it_sends, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_expect(&rig, RIG_RECV | RIG_SEND);
	cr_assert_eq(fake_find(&rig.fake, OP_SEND)->len, 5);
	cr_assert(pump_holds_data(&rig.pump));
	rig_send(&rig, 5);
	rig_expect(&rig, RIG_RECV);
	cr_assert_not(pump_holds_data(&rig.pump));
	cr_assert_eq(rig.pump.bytes, 5);
	rig_complete(&rig, OP_RECV, 0);
}

/* Connections that wait hold no buffer. */
Test(pump, holds_no_buffer_when_all_is_sent, .timeout = TIMEOUT)
{
	rig_start(&rig);
	for (size_t n = 1; n < 100; n++) {
		rig_recv(&rig, n);
		rig_send_all(&rig);
		cr_assert_eq(fake_bufs_taken(&rig.fake), 0);
	}
	rig_complete(&rig, OP_RECV, 0);
}

/* With one message being sent and another one read, reading stops until the first is gone. */
Test(pump, stops_reading_with_two_buffers, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_recv(&rig, 6);
	rig_expect(&rig, RIG_SEND);
	cr_assert_eq(fake_bufs_taken(&rig.fake), 2);
	rig_send(&rig, 5);
	rig_expect(&rig, RIG_RECV | RIG_SEND);
	cr_assert_eq(fake_find(&rig.fake, OP_SEND)->len, 6);
	rig_recv(&rig, 7);
	rig_expect(&rig, RIG_SEND);
	rig_send_all(&rig);
	rig_send_all(&rig);
	rig_complete(&rig, OP_RECV, 0);
}

/* What a short send left over is sent again, exactly that and before anything else. */
Test(pump, sends_the_rest_of_a_short_send, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 100);
	rig_recv(&rig, 50);
	for (size_t left = 100; left > 0; left--) {
		cr_assert_eq(fake_find(&rig.fake, OP_SEND)->len, left);
		rig_send(&rig, 1);
		cr_assert_eq(rig.pump.bytes, 100 - left + 1);
	}
	cr_assert_eq(fake_find(&rig.fake, OP_SEND)->len, 50);
	rig_send(&rig, 20);
	rig_send(&rig, 30);
	rig_complete(&rig, OP_RECV, 0);
}

/* A send that took nothing is made again. */
Test(pump, repeats_a_send_of_nothing, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 10);
	rig_send(&rig, 0);
	cr_assert_eq(fake_find(&rig.fake, OP_SEND)->len, 10);
	rig_send(&rig, 10);
	rig_complete(&rig, OP_RECV, 0);
}

/* Without room for a single byte it waits until there is some, and sends the same again. */
Test(pump, waits_for_room_to_send, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 10);
	for (size_t left = 10; left > 0; left--) {
		rig_complete(&rig, OP_SEND, -EAGAIN);
		rig_expect(&rig, RIG_RECV | RIG_WRITABLE);
		cr_assert_eq(rig.pump.state, PUMP_COPYING);
		rig_complete(&rig, OP_WRITABLE, 0);
		rig_expect(&rig, RIG_RECV | RIG_SEND);
		cr_assert_eq(fake_find(&rig.fake, OP_SEND)->len, left);
		rig_send(&rig, 1);
	}
	rig_complete(&rig, OP_RECV, 0);
	cr_assert_eq(rig.pump.state, PUMP_EOF);
}

/* While it waits for room it reads one buffer more, and the end behind that. */
Test(pump, reads_on_while_it_waits_for_room, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 10);
	rig_complete(&rig, OP_SEND, -EAGAIN);
	rig_recv(&rig, 20);
	rig_expect(&rig, RIG_WRITABLE);
	rig_complete(&rig, OP_WRITABLE, 0);
	rig_send_all(&rig);
	rig_complete(&rig, OP_SEND, -EAGAIN);
	rig_complete(&rig, OP_RECV, 0);
	rig_expect(&rig, RIG_WRITABLE);
	rig_complete(&rig, OP_WRITABLE, 0);
	rig_send_all(&rig);
	cr_assert_eq(rig.pump.state, PUMP_EOF);
}

/* A full buffer that finds no room at first is still the beginning of bulk. */
Test(pump, begins_to_splice_after_it_waited_for_room, .timeout = TIMEOUT)
{
	rig_need_pipe(&rig);
	rig_start(&rig);
	rig_recv(&rig, BUF_SIZE);
	rig_complete(&rig, OP_SEND, -EAGAIN);
	rig_expect(&rig, RIG_WRITABLE);
	rig_complete(&rig, OP_WRITABLE, 0);
	rig_send_all(&rig);
	cr_assert_eq(rig.pump.state, PUMP_SPLICING);
	rig_cancel(&rig);
	rig_complete(&rig, OP_READABLE, -ECANCELED);
}

/* A FIN with nothing on its way is the end at once. */
Test(pump, ends_at_end_of_stream, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_complete(&rig, OP_RECV, 0);
	cr_assert_eq(rig.pump.state, PUMP_EOF);
	cr_assert_eq(rig.pump.error, 0);
}

/* How a source can end: by FIN, or by an error. */
static const struct {
	int res;
	enum pump_state want;
} ends[] = {
	{ 0, PUMP_EOF },
	{ -ECONNRESET, PUMP_RESET },
	{ -ETIMEDOUT, PUMP_RESET },
	{ -EHOSTUNREACH, PUMP_RESET },
};

static unsigned row_index[ARRAY_SIZE(ends)];

static struct criterion_test_params end_rows(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		row_index[i] = i;
	return cr_make_param_array(unsigned, row_index, ARRAY_SIZE(ends), NULL);
}

static void assert_ended(unsigned row, uint64_t bytes)
{
	cr_assert_eq(rig.pump.state, ends[row].want, "%s", pump_state_str(rig.pump.state));
	cr_assert_eq(rig.pump.error, -ends[row].res);
	cr_assert_eq(rig.pump.bytes, bytes);
}

ParameterizedTestParameters(pump, passes_on_everything_before_the_end)
{
	return end_rows();
}

/* A source that ends while data is on its way: the end comes when the last byte is sent. */
ParameterizedTest(const unsigned *row, pump, passes_on_everything_before_the_end,
		  .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_complete(&rig, OP_RECV, ends[*row].res);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_expect(&rig, RIG_SEND);
	rig_send(&rig, 2);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_send(&rig, 3);
	assert_ended(*row, 5);
}

ParameterizedTestParameters(pump, reads_the_end_behind_a_second_buffer)
{
	return end_rows();
}

/* With two buffers held the end is read later, and still comes after both. */
ParameterizedTest(const unsigned *row, pump, reads_the_end_behind_a_second_buffer,
		  .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_recv(&rig, 6);
	rig_send_all(&rig);
	rig_complete(&rig, OP_RECV, ends[*row].res);
	rig_expect(&rig, RIG_SEND);
	rig_send_all(&rig);
	assert_ended(*row, 11);
}

ParameterizedTestParameters(pump, ends_with_the_source_after_all_was_sent)
{
	return end_rows();
}

/* A source that ends when nothing is on its way ends the pump at once. */
ParameterizedTest(const unsigned *row, pump, ends_with_the_source_after_all_was_sent,
		  .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_send_all(&rig);
	rig_complete(&rig, OP_RECV, ends[*row].res);
	assert_ended(*row, 5);
}

/* Of a source that is known to be dead an end is no FIN: its error was seen by somebody else. */
Test(pump, takes_an_end_for_a_reset_if_told_so, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig.pump.eof_is_reset = true;
	rig_complete(&rig, OP_RECV, 0);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_send_all(&rig);
	cr_assert_eq(rig.pump.state, PUMP_RESET);
	cr_assert_eq(rig.pump.error, ECONNRESET);
}

/* A destination that takes no more breaks the pump, though the receive is still in flight. */
Test(pump, breaks_when_a_send_fails, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_complete(&rig, OP_SEND, -EPIPE);
	cr_assert_eq(rig.pump.state, PUMP_BROKEN);
	cr_assert_eq(rig.pump.error, EPIPE);
	rig_expect(&rig, RIG_RECV);
	rig_cancel(&rig);
	cr_assert_eq(rig.pump.error, EPIPE);
	rig_complete(&rig, OP_RECV, -ECANCELED);
}

/* A pump that broke gives back both of its buffers. */
Test(pump, breaks_with_two_buffers, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_recv(&rig, 6);
	rig_complete(&rig, OP_SEND, -ECONNRESET);
	cr_assert_eq(rig.pump.state, PUMP_BROKEN);
	cr_assert_eq(rig.pump.error, ECONNRESET);
	rig_expect(&rig, 0);
}

/* A destination that fails after the source has ended: what was read is lost, so no FIN. */
Test(pump, breaks_when_the_last_send_fails, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_complete(&rig, OP_RECV, 0);
	rig_complete(&rig, OP_SEND, -EPIPE);
	cr_assert_eq(rig.pump.state, PUMP_BROKEN);
	cr_assert_eq(rig.pump.error, EPIPE);
}

static const int late[] = { 1, 0, -ECONNRESET, -ECANCELED };

/* Whatever completes after the end is only cleared away; the rig sees to the rest. */
Test(pump, never_acts_after_the_end, .timeout = TIMEOUT)
{
	for (size_t i = 0; i < ARRAY_SIZE(late); i++) {
		rig_renew(&rig);
		rig_start(&rig);
		rig_recv(&rig, 5);
		rig_complete(&rig, OP_SEND, -EPIPE);
		if (late[i] > 0)
			rig_recv(&rig, BUF_SIZE);
		else
			rig_complete(&rig, OP_RECV, late[i]);
		cr_assert_eq(rig.pump.state, PUMP_BROKEN);
		rig_expect(&rig, 0);
		rig_reclaim(&rig);
	}
}

/* Every state has a name for the log. */
Test(pump, has_a_name_for_each_state, .timeout = TIMEOUT)
{
	for (int i = 0; i < PUMP_STATES; i++) {
		cr_assert_not_null(pump_state_str((enum pump_state)i));
		for (int j = 0; j < i; j++)
			cr_assert_str_neq(pump_state_str((enum pump_state)i),
					  pump_state_str((enum pump_state)j));
	}
}

/* Starting a pump twice is a bug. */
Test(pump, aborts_on_a_second_start, .signal = SIGABRT, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_start(&rig);
}

/* A completion of what is not in flight is a bug. */
Test(pump, aborts_on_a_completion_of_nothing, .signal = SIGABRT, .timeout = TIMEOUT)
{
	rig_start(&rig);
	pump_complete(&rig.env, &rig.pump, OP_SEND, 1, BUF_NONE);
}

/* A send that took more than it was given is a bug. */
Test(pump, aborts_on_a_send_of_too_much, .signal = SIGABRT, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, 5);
	rig_complete(&rig, OP_SEND, 6);
}

/* A pump with something in flight must not be taken apart. */
Test(pump, aborts_when_freed_in_flight, .signal = SIGABRT, .timeout = TIMEOUT)
{
	rig_start(&rig);
	pump_fini(&rig.env, &rig.pump);
}
