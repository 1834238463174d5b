/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_loop_cancel.c - operations that are canceled complete exactly once, with
 * -ECANCELED or their own result, whatever happens at the same time
 *
 * The engine's record asserts that nothing completes twice, and at the end that
 * nothing is left.
 */

#include "engine.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

/* Operations that one can make wait on a socket which is full and has nothing to read. */
static const enum loop_op waiting[] = { OP_RECV, OP_READABLE, OP_WRITABLE, OP_BROKEN, OP_CONNECT };

/* A socket to which nothing can be sent, and from which nothing is to be read. */
static size_t silent_pair(int fd[2])
{
	sock_pair(fd);
	return sock_fill(fd[0]);
}

static void close_pair(struct engine *eng, const int fd[2])
{
	engine_forget(eng, fd[0]);
	close(fd[0]);
	close(fd[1]);
}

/* What waits is canceled, in the same turn or a later one. */
EngineTest(loop_cancel, ends_what_waits)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	silent_pair(fd);
	for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
		for (int turns = 0; turns < 3; turns++) {
			engine_start(eng, waiting[i], fd[0]);
			for (int turn = 0; turn < turns; turn++)
				engine_poll(eng);
			engine_cancel(eng, waiting[i], fd[0]);
			cr_assert_eq(eng->n, eng->seen, "a completion from inside the cancel");
			engine_expect(eng, waiting[i], fd[0], -ECANCELED);
			engine_expect_nothing(eng);
		}
	}
	close_pair(eng, fd);
	engine_close(eng);
}

/* A send that waits, or was refused already. */
EngineTest(loop_cancel, ends_a_send)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	silent_pair(fd);
	for (int turns = 0; turns < 3; turns++) {
		const struct engine_event *e;

		engine_send(eng, fd[0], "hello", 5);
		for (int turn = 0; turn < turns; turn++)
			engine_poll(eng);
		engine_cancel(eng, OP_SEND, fd[0]);
		e = engine_next(eng);
		cr_assert(e->res == -ECANCELED || e->res == -EAGAIN, "%d", e->res);
		engine_expect_nothing(eng);
	}
	close_pair(eng, fd);
	engine_close(eng);
}

/* Only what was meant is canceled, not its neighbours on the same descriptor. */
EngineTest(loop_cancel, leaves_the_others_alone)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];
	size_t n = silent_pair(fd);

	for (int i = 0; i < 3; i++) {
		engine_start(eng, OP_RECV, fd[0]);
		engine_start(eng, OP_WRITABLE, fd[0]);
		engine_start(eng, OP_BROKEN, fd[0]);
		engine_settle(eng);
		engine_cancel(eng, i == 0 ? OP_RECV : i == 1 ? OP_WRITABLE : OP_BROKEN, fd[0]);
		engine_expect(eng,
			      i == 0   ? OP_RECV
			      : i == 1 ? OP_WRITABLE
				       : OP_BROKEN,
			      fd[0], -ECANCELED);
		engine_expect_nothing(eng);
		if (i != 0) {
			sock_write(fd[1], "hello");
			engine_expect_data(eng, fd[0], "hello");
		}
		if (i != 1) {
			sock_drain(fd[1], n);
			engine_expect(eng, OP_WRITABLE, fd[0], 0);
			n = sock_fill(fd[0]);
		}
		if (i != 2) {
			engine_cancel(eng, OP_BROKEN, fd[0]);
			engine_expect(eng, OP_BROKEN, fd[0], -ECANCELED);
		}
	}
	close_pair(eng, fd);
	engine_close(eng);
}

/* A descriptor works as before after a cancel, and what came meanwhile is not lost. */
EngineTest(loop_cancel, does_not_harm_the_descriptor)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (int i = 0; i < 5; i++) {
		engine_start(eng, OP_RECV, fd[0]);
		engine_settle(eng);
		engine_cancel(eng, OP_RECV, fd[0]);
		engine_expect(eng, OP_RECV, fd[0], -ECANCELED);
		sock_write(fd[1], "hello");
		engine_expect_nothing(eng);
		engine_start(eng, OP_RECV, fd[0]);
		engine_expect_data(eng, fd[0], "hello");
	}
	close_pair(eng, fd);
	engine_close(eng);
}

/* One that is started again at once, before the cancel has come back. */
EngineTest(loop_cancel, may_be_followed_by_another_operation)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_RECV, fd[0]);
	engine_settle(eng);
	engine_cancel(eng, OP_RECV, fd[0]);
	engine_start(eng, OP_READABLE, fd[0]);
	engine_expect(eng, OP_RECV, fd[0], -ECANCELED);
	engine_expect_nothing(eng);
	sock_write(fd[1], "x");
	engine_expect(eng, OP_READABLE, fd[0], 0);
	close_pair(eng, fd);
	engine_close(eng);
}

/* How a cancel and what it meets may be timed. */
enum race { BEFORE_START, BEFORE_CANCEL, AFTER_CANCEL, TURN_BETWEEN, RACES };

static void race_write(enum race now, enum race race, int fd)
{
	if (now == race)
		sock_write(fd, "hello");
}

/* Bytes come at about the time of the cancel: they come with the receive, or are still there. */
EngineTest(loop_cancel, loses_no_bytes_in_a_race)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (unsigned i = 0; i < 4 * RACES; i++) {
		enum race race = (enum race)(i % RACES);
		const struct engine_event *e;

		race_write(BEFORE_START, race, fd[1]);
		engine_start(eng, OP_RECV, fd[0]);
		if (i / RACES > 1 && race != BEFORE_START)
			engine_poll(eng);
		race_write(BEFORE_CANCEL, race, fd[1]);
		race_write(TURN_BETWEEN, race, fd[1]);
		if (race == TURN_BETWEEN)
			engine_poll(eng);
		engine_cancel(eng, OP_RECV, fd[0]);
		race_write(AFTER_CANCEL, race, fd[1]);
		e = engine_next(eng);
		cr_assert(e->res == 5 || e->res == -ECANCELED, "%d", e->res);
		engine_put_buf(eng, e);
		if (e->res == 5)
			continue;
		engine_start(eng, OP_RECV, fd[0]);
		engine_expect_data(eng, fd[0], "hello");
	}
	engine_expect_nothing(eng);
	close_pair(eng, fd);
	engine_close(eng);
}

/* The same with waits: one completion each. */
EngineTest(loop_cancel, completes_waits_once_in_a_race)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (unsigned i = 0; i < 2 * RACES; i++) {
		enum race race = (enum race)(i % RACES);
		const struct engine_event *e;

		race_write(BEFORE_START, race, fd[1]);
		engine_start(eng, OP_READABLE, fd[0]);
		engine_start(eng, OP_WRITABLE, fd[0]);
		race_write(BEFORE_CANCEL, race, fd[1]);
		engine_cancel(eng, OP_READABLE, fd[0]);
		engine_cancel(eng, OP_WRITABLE, fd[0]);
		race_write(AFTER_CANCEL, race, fd[1]);
		for (int n = 0; n < 2; n++) {
			e = engine_next(eng);
			cr_assert(e->res == 0 || e->res == -ECANCELED, "%d", e->res);
		}
		engine_expect_nothing(eng);
		if (race != TURN_BETWEEN)
			sock_drain(fd[0], 5);
	}
	close_pair(eng, fd);
	engine_close(eng);
}

/* A connection is reset when its operations are canceled: each completes once. */
EngineTest(loop_cancel, completes_once_when_the_connection_breaks)
{
	static const struct linger now = { .l_onoff = 1 };
	struct engine *eng = engine_open(*engine);

	for (int i = 0; i < 4; i++) {
		int fd[2];

		sock_tcp_pair(fd);
		sock_fill(fd[0]);
		engine_start(eng, OP_RECV, fd[0]);
		engine_start(eng, OP_WRITABLE, fd[0]);
		engine_start(eng, OP_BROKEN, fd[0]);
		if (i & 1)
			engine_settle(eng);
		setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		if (i & 2)
			close_fd(&fd[1]);
		engine_cancel(eng, OP_RECV, fd[0]);
		engine_cancel(eng, OP_WRITABLE, fd[0]);
		engine_cancel(eng, OP_BROKEN, fd[0]);
		close_fd(&fd[1]);
		for (int n = 0; n < 3; n++)
			engine_next(eng);
		engine_expect_nothing(eng);
		engine_forget(eng, fd[0]);
		close(fd[0]);
	}
	engine_close(eng);
}

/* ---------------------------------------------------------------- from a handler */

static int victim = -1;

static void cancel_victim(struct engine *eng, const struct engine_event *e)
{
	if (victim < 0 || engine_fd(e) == victim)
		return;
	engine_cancel(eng, OP_RECV, victim);
	victim = -1;
}

/* The next of two receives, on either descriptor; what it did not bring is read away. */
static bool next_of_two(struct engine *eng)
{
	const struct engine_event *e = engine_next(eng);

	cr_assert_eq(e->ref.op, OP_RECV);
	cr_assert(e->res == 5 || e->res == -ECANCELED, "%d", e->res);
	engine_put_buf(eng, e);
	if (e->res < 0)
		recv(engine_fd(e), (char[5]){ 0 }, 5, MSG_DONTWAIT);
	return e->res < 0;
}

/* The handler of one receive cancels another, which may have something at the same time. */
EngineTest(loop_cancel, may_be_called_by_a_handler)
{
	struct engine *eng = engine_open(*engine);
	int a[2], b[2];

	sock_pair(a);
	sock_pair(b);
	eng->on_event = cancel_victim;
	for (unsigned i = 0; i < 8; i++) {
		bool both = i & 1, canceled;

		victim = i & 2 ? a[0] : b[0];
		engine_start(eng, OP_RECV, a[0]);
		engine_start(eng, OP_RECV, b[0]);
		if (i & 4)
			engine_settle(eng);
		sock_write(i & 2 ? b[1] : a[1], "hello");
		if (both)
			sock_write(i & 2 ? a[1] : b[1], "hello");
		canceled = next_of_two(eng);
		canceled |= next_of_two(eng);
		cr_assert(both || canceled);
		engine_expect_nothing(eng);
	}
	close_pair(eng, a);
	close_pair(eng, b);
	engine_close(eng);
}

/* ---------------------------------------------------------------- without buffers */

enum { PAIRS = 200 };

static int pairs[PAIRS][2];
static buf_id taken[ENGINE_BUFS + 64];
static unsigned n_taken;

/* Leave nothing in the pool but what the engine has taken for itself. */
static void take_all_bufs(struct engine *eng)
{
	buf_id id;

	while ((id = bufs_get(&eng->loop.bufs)) != BUF_NONE)
		taken[n_taken++] = id;
}

static void put_all_bufs(struct engine *eng)
{
	while (n_taken > 0)
		bufs_put(&eng->loop.bufs, taken[--n_taken]);
}

static void put_event_bufs(struct engine *eng)
{
	for (unsigned i = 0; i < eng->n; i++)
		engine_put_buf(eng, &eng->event[i]);
}

/* More receives, each with a byte to receive, than there are buffers. */
static void open_pairs(struct engine *eng)
{
	for (int i = 0; i < PAIRS; i++) {
		sock_pair(pairs[i]);
		sock_write(pairs[i][1], "x");
		engine_start(eng, OP_RECV, pairs[i][0]);
	}
}

static void close_pairs(struct engine *eng)
{
	for (int i = 0; i < PAIRS; i++)
		close_pair(eng, pairs[i]);
}

/* Receives that wait for a buffer can be canceled. */
EngineTest(loop_cancel, ends_receives_that_wait_for_a_buffer)
{
	struct engine *eng = engine_open(*engine);
	unsigned starved;

	take_all_bufs(eng);
	open_pairs(eng);
	engine_settle(eng);
	eng->seen = eng->n;
	starved = PAIRS - eng->n;
	cr_assert_gt(starved, 0);
	for (int i = 0; i < PAIRS; i++)
		if (eng->pending[pairs[i][0]][OP_RECV] > 0)
			engine_cancel(eng, OP_RECV, pairs[i][0]);
	for (; starved > 0; starved--)
		cr_assert_eq(engine_next(eng)->res, -ECANCELED);
	engine_expect_nothing(eng);
	put_all_bufs(eng);
	engine_expect_nothing(eng);
	close_pairs(eng);
	engine_close(eng);
}

/*
 * The handler of one receive cancels another that is about to find no buffer, in the
 * same turn. Then there are buffers again, and nothing to receive: it must still end.
 */
EngineTest(loop_cancel, is_not_lost_before_starvation)
{
	struct engine *eng = engine_open(*engine);
	bool ended = false;

	take_all_bufs(eng);
	eng->on_event = cancel_victim;
	open_pairs(eng);
	victim = pairs[PAIRS - 1][0];
	engine_poll(eng);
	if (eng->n == 0) {
		/* Not one buffer: there was no handler to cancel it. */
		engine_cancel(eng, OP_RECV, victim);
	}
	recv(pairs[PAIRS - 1][0], &(char){ 0 }, 1, MSG_DONTWAIT);
	put_all_bufs(eng);
	put_event_bufs(eng);
	for (int i = 0; i < PAIRS; i++) {
		const struct engine_event *e = engine_next(eng);

		ended |= engine_fd(e) == pairs[PAIRS - 1][0];
		put_event_bufs(eng);
	}
	cr_assert(ended);
	close_pairs(eng);
	engine_close(eng);
}
