/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pump_splice.c - a pump that splices: when it changes to that and back, and
 * that its count of what is in the pipe is right whatever the sockets do
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pump_rig.h"
#include "util.h"

enum {
	TIMEOUT = 10,
	BULK = 200 * 1000,	  /* more than a socket pair takes at once in one piece */
	BUDGET = 4 * 1024 * 1024, /* as in pump.c */
	WAKE_UPS_MAX = 16,	  /* by then a pump must have noticed that little comes */
};

static struct pump_rig rig;

static void set_up(void)
{
	rig_open(&rig);
}

static void tear_down(void)
{
	rig_close(&rig);
}

TestSuite(pump_splice, .init = set_up, .fini = tear_down);

/* Let the pump and the reader go on until nothing more comes out. */
static void drain(void)
{
	size_t n;

	do {
		n = rig_read(&rig, SIZE_MAX);
		n += rig_perform(&rig, OP_READABLE, 0);
		n += rig_perform(&rig, OP_WRITABLE, 0);
	} while (n > 0);
}

/* Make @fd take little, so that it is soon full. */
static void make_small(int fd)
{
	int size = 1;

	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
}

/* Splicing, with more in the pipe than the destination takes. */
static void fill_pipe(void)
{
	make_small(rig.dst);
	rig_upgrade(&rig);
	cr_assert_gt(rig_write(&rig, BULK), 0);
	cr_assert(rig_perform(&rig, OP_READABLE, 0));
	rig_expect(&rig, RIG_WRITABLE);
	cr_assert_gt(rig.pump.piped, 0);
}

static void cancel_rest(void)
{
	rig_cancel(&rig);
	for (enum loop_op op = OP_RECV; op <= OP_WRITABLE; op++)
		if (fake_find(&rig.fake, op))
			rig_complete(&rig, op, -ECANCELED);
}

/* After a full buffer nothing is received: what follows is for splice. */
Test(pump_splice, begins_when_a_full_buffer_is_sent, .timeout = TIMEOUT)
{
	rig_need_pipe(&rig);
	rig_start(&rig);
	rig_recv(&rig, BUF_SIZE);
	rig_expect(&rig, RIG_SEND);
	rig_send(&rig, BUF_SIZE - 1);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_send(&rig, 1);
	cr_assert_eq(rig.pump.state, PUMP_SPLICING);
	rig_expect(&rig, RIG_READABLE);
	cr_assert_eq(rig.pump.bytes, BUF_SIZE);
	cancel_rest();
}

/* A buffer that is not quite full is no bulk. */
Test(pump_splice, does_not_begin_after_less, .timeout = TIMEOUT)
{
	rig_start(&rig);
	rig_recv(&rig, BUF_SIZE - 1);
	rig_expect(&rig, RIG_RECV | RIG_SEND);
	rig_send_all(&rig);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_complete(&rig, OP_RECV, 0);
}

/* A full buffer behind another one: both are sent first, in their order. */
Test(pump_splice, begins_after_both_buffers_are_sent, .timeout = TIMEOUT)
{
	rig_need_pipe(&rig);
	rig_start(&rig);
	rig_recv(&rig, 7);
	rig_recv(&rig, BUF_SIZE);
	rig_send_all(&rig);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_expect(&rig, RIG_SEND);
	rig_send_all(&rig);
	cr_assert_eq(rig.pump.state, PUMP_SPLICING);
	cancel_rest();
}

/* What lies in the source when splicing begins is moved at once. */
Test(pump_splice, moves_what_is_there_already, .timeout = TIMEOUT)
{
	rig_need_pipe(&rig);
	rig_start(&rig);
	rig_recv(&rig, BUF_SIZE);
	rig_write(&rig, 50000);
	rig_send_all(&rig);
	cr_assert_eq(rig_read(&rig, SIZE_MAX), 50000);
	cr_assert_eq(rig.pump.bytes, BUF_SIZE + 50000);
	rig_expect(&rig, RIG_READABLE);
	cancel_rest();
}

/* Each wake-up moves all that the source has. */
Test(pump_splice, moves_what_comes_later, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	for (int i = 0; i < 20; i++) {
		size_t n = rig_write(&rig, 20000 + 1000 * (size_t)i);

		cr_assert(rig_perform(&rig, OP_READABLE, 0));
		cr_assert_eq(rig_read(&rig, SIZE_MAX), n);
		rig_expect(&rig, RIG_READABLE);
	}
	cancel_rest();
}

/* A pump that waits for input has no pipe, and the next wake-up uses an old one. */
Test(pump_splice, gives_the_pipe_back_while_it_waits, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	for (int i = 0; i < 20; i++) {
		cr_assert(pipe_is_none(&rig.pump.pipe));
		cr_assert_eq(rig.pipes.n_idle, 1);
		cr_assert_eq(rig.pipes.n_open, 1);
		rig_write(&rig, 10000);
		cr_assert(rig_perform(&rig, OP_READABLE, 0));
		rig_read(&rig, SIZE_MAX);
	}
	cancel_rest();
}

/* Wake up with @n bytes; false when the pump has gone back to copying. */
static bool wake_up(size_t n)
{
	rig_write(&rig, n);
	cr_assert(rig_perform(&rig, OP_READABLE, 0));
	cr_assert_eq(rig_read(&rig, SIZE_MAX), n);
	return rig.pump.state == PUMP_SPLICING;
}

/* Several wake-ups for next to nothing: copying costs less. */
Test(pump_splice, goes_back_to_copying_for_small_messages, .timeout = TIMEOUT)
{
	int n = 1;

	rig_upgrade(&rig);
	while (n < WAKE_UPS_MAX && wake_up(100))
		n++;
	cr_assert(n > 1 && n < WAKE_UPS_MAX, "after %d wake-ups", n);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_expect(&rig, RIG_RECV);
	cr_assert_eq(rig.pipes.n_idle, 1);
	rig_complete(&rig, OP_RECV, 0);
}

/* One that moves much begins the count anew. */
Test(pump_splice, goes_on_when_a_large_message_comes_between, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	for (int i = 0; i < WAKE_UPS_MAX; i++) {
		cr_assert(wake_up(20000));
		cr_assert(wake_up(100));
		cr_assert(wake_up(100));
	}
	cancel_rest();
}

/* Back at copying, the next full buffer makes it splice again. */
Test(pump_splice, begins_again_after_copying, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	for (int round = 0; round < 5; round++) {
		while (rig.pump.state == PUMP_SPLICING)
			wake_up(10);
		rig_recv(&rig, 33);
		rig_send_all(&rig);
		cr_assert_eq(rig.pump.state, PUMP_COPYING);
		rig_recv(&rig, BUF_SIZE);
		rig_send_all(&rig);
		cr_assert_eq(rig.pump.state, PUMP_SPLICING);
	}
	cancel_rest();
}

/* A full destination: wait until it is writable, and keep the exact rest. */
Test(pump_splice, waits_for_room_and_keeps_count, .timeout = TIMEOUT)
{
	fill_pipe();
	while (rig.taken < rig.given) {
		cr_assert_gt(rig_read(&rig, 4096), 0);
		rig_perform(&rig, OP_WRITABLE, 0);
		rig_perform(&rig, OP_READABLE, 0);
	}
	cr_assert_eq(rig.pump.piped, 0);
	cr_assert_eq(rig.pump.bytes, rig.given);
	cancel_rest();
}

/* Writable, but not for long: a wake-up for nothing changes nothing. */
Test(pump_splice, waits_again_when_there_is_no_room_after_all, .timeout = TIMEOUT)
{
	size_t piped;

	fill_pipe();
	piped = rig.pump.piped;
	for (int i = 0; i < WAKE_UPS_MAX; i++) {
		rig_complete(&rig, OP_WRITABLE, 0);
		rig_expect(&rig, RIG_WRITABLE);
		cr_assert_eq(rig.pump.piped, piped);
	}
	drain();
	cr_assert_eq(rig.taken, rig.given);
	cancel_rest();
}

/* While it waits for room it does not look at the source, so the sender stops, too. */
Test(pump_splice, holds_the_sender_back, .timeout = TIMEOUT)
{
	uint64_t given;

	fill_pipe();
	while (rig_write(&rig, BULK) > 0)
		;
	given = rig.given;
	rig_complete(&rig, OP_WRITABLE, 0);
	rig_write(&rig, BULK);
	rig_complete(&rig, OP_WRITABLE, 0);
	cr_assert_leq(rig.pump.piped, 2 * PIPE_FILL);
	cr_assert_leq(rig.given - given, 2 * PIPE_FILL);
	drain();
	cr_assert_eq(rig.taken, rig.given);
	cancel_rest();
}

/* A FIN with nothing more to read ends the pump, and its pipe is back. */
Test(pump_splice, ends_at_end_of_stream, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	close_fd(&rig.in);
	cr_assert(rig_perform(&rig, OP_READABLE, 0));
	cr_assert_eq(rig.pump.state, PUMP_EOF);
	cr_assert_eq(rig.pump.error, 0);
	cr_assert_eq(rig.pipes.n_idle, 1);
}

/* A FIN behind data: the data first. */
Test(pump_splice, passes_on_everything_before_the_end, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	rig_write(&rig, 50000);
	close_fd(&rig.in);
	cr_assert(rig_perform(&rig, OP_READABLE, 0));
	cr_assert_eq(rig.pump.state, PUMP_EOF);
	cr_assert_eq(rig_read(&rig, SIZE_MAX), 50000);
	cr_assert_eq(rig.taken, rig.given);
}

/* A FIN behind data that finds no room: the end waits until the pipe is empty. */
Test(pump_splice, ends_when_the_pipe_is_empty, .timeout = TIMEOUT)
{
	fill_pipe();
	close_fd(&rig.in);
	rig_complete(&rig, OP_WRITABLE, 0);
	cr_assert_eq(rig.pump.state, PUMP_SPLICING);
	drain();
	cr_assert_eq(rig.pump.state, PUMP_EOF);
	cr_assert_eq(rig.taken, rig.given);
	cr_assert_eq(rig.pump.bytes, rig.given);
}

/* An AF_UNIX socket that is closed with bytes unread resets its peer. */
static void reset_source(void)
{
	cr_assert_eq(write(rig.src, "x", 1), 1);
	close_fd(&rig.in);
}

/* An error of the source with nothing more to read. */
Test(pump_splice, ends_with_a_reset, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	reset_source();
	cr_assert(rig_perform(&rig, OP_READABLE, 0));
	cr_assert_eq(rig.pump.state, PUMP_RESET);
	cr_assert_eq(rig.pump.error, ECONNRESET);
	cr_assert_eq(rig.pipes.n_idle, 1);
}

/* An error of the source behind data that finds no room: the data first. */
Test(pump_splice, passes_on_everything_before_a_reset, .timeout = TIMEOUT)
{
	fill_pipe();
	reset_source();
	rig_complete(&rig, OP_WRITABLE, 0);
	cr_assert_eq(rig.pump.state, PUMP_SPLICING);
	drain();
	cr_assert_eq(rig.pump.state, PUMP_RESET);
	cr_assert_eq(rig.pump.error, ECONNRESET);
	cr_assert_eq(rig.taken, rig.given);
}

/* Of a source that is known to be dead an end is no FIN. */
Test(pump_splice, takes_an_end_for_a_reset_if_told_so, .timeout = TIMEOUT)
{
	fill_pipe();
	rig.pump.eof_is_reset = true;
	close_fd(&rig.in);
	drain();
	cr_assert_eq(rig.pump.state, PUMP_RESET);
	cr_assert_eq(rig.pump.error, ECONNRESET);
	cr_assert_eq(rig.taken, rig.given);
}

/* A destination that is gone breaks the pump, and a pipe with bytes in it is closed. */
Test(pump_splice, breaks_when_the_destination_is_gone, .timeout = TIMEOUT)
{
	rig_upgrade(&rig);
	rig_write(&rig, 50000);
	close_fd(&rig.out);
	cr_assert(rig_perform(&rig, OP_READABLE, 0));
	cr_assert_eq(rig.pump.state, PUMP_BROKEN);
	cr_assert_eq(rig.pump.error, EPIPE);
	rig_reclaim(&rig);
	cr_assert_eq(rig.pipes.n_open, 0);
}

/* The same while it waits for room. */
Test(pump_splice, breaks_while_it_waits_for_room, .timeout = TIMEOUT)
{
	fill_pipe();
	close_fd(&rig.out);
	cr_assert(rig_perform(&rig, OP_WRITABLE, 0));
	cr_assert_eq(rig.pump.state, PUMP_BROKEN);
	rig_expect(&rig, 0);
	rig_reclaim(&rig);
	cr_assert_eq(rig.pipes.n_open, 0);
}

/* Without a pipe the bulk is copied, and pipes are asked for again and again. */
Test(pump_splice, copies_while_there_is_no_pipe, .timeout = TIMEOUT)
{
	const unsigned rounds = 1000;

	rig.pipes.over_limit = true;
	rig.pipes.until_try = rounds;
	rig_start(&rig);
	for (unsigned i = 0; i < rounds; i++) {
		rig_recv(&rig, BUF_SIZE);
		rig_send_all(&rig);
		cr_assert_eq(rig.pump.state, PUMP_COPYING);
		rig_expect(&rig, RIG_RECV);
	}
	cr_assert_eq(rig.pipes.until_try, 0);
	rig_complete(&rig, OP_RECV, 0);
	cr_assert_eq(rig.pump.state, PUMP_EOF);
}

/* When there is no pipe any more at a wake-up, that wake-up becomes a receive. */
Test(pump_splice, copies_when_the_pipe_does_not_come_back, .timeout = TIMEOUT)
{
	struct pipe pipe;

	rig_upgrade(&rig);
	cr_assert(pipes_get(&rig.pipes, &pipe));
	rig.pipes.over_limit = true;
	rig.pipes.until_try = 1000;
	rig_complete(&rig, OP_READABLE, 0);
	cr_assert_eq(rig.pump.state, PUMP_COPYING);
	rig_expect(&rig, RIG_RECV);
	rig_complete(&rig, OP_RECV, 0);
	pipes_put(&rig.pipes, &pipe, true);
}

/* A source that never runs dry, and a destination that is never full: others get their turn. */
Test(pump_splice, yields_when_its_budget_is_spent, .timeout = TIMEOUT)
{
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct pump *p = &rig.pump;

	cr_assert(zero >= 0 && null >= 0);
	rig_upgrade(&rig);
	p->src = rig.fake.op[0].fd = zero;
	p->dst = null;
	for (int i = 1; i < 5; i++) {
		uint64_t before = p->bytes;

		rig_complete(&rig, OP_READABLE, 0);
		rig_expect(&rig, RIG_READABLE);
		cr_assert_geq(p->bytes - before, BUDGET);
		cr_assert_leq(p->bytes - before, BUDGET + 2 * PIPE_FILL);
		cr_assert(pipe_is_none(&p->pipe));
	}
	cancel_rest();
	close(zero);
	close(null);
}
