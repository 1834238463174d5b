/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_loop_wait.c - waits of the loop: readable, writable, broken, the same with each
 * engine
 */

#include "engine.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---------------------------------------------------------------- readable, writable */

/* Readable: when something comes, and at once while something is there. */
EngineTest(loop_wait, waits_until_readable)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_READABLE, fd[0]);
	engine_expect_nothing(eng);
	sock_write(fd[1], "hello");
	engine_expect(eng, OP_READABLE, fd[0], 0);
	for (int i = 0; i < 3; i++) {
		engine_start(eng, OP_READABLE, fd[0]);
		engine_expect(eng, OP_READABLE, fd[0], 0);
	}
	engine_close(eng);
	sock_close_pair(fd);
}

/* What the caller has read away by itself makes it wait again, what it has left does not. */
EngineTest(loop_wait, waits_for_what_the_caller_has_not_read)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (int i = 0; i < 3; i++) {
		sock_write(fd[1], "hello");
		engine_start(eng, OP_READABLE, fd[0]);
		engine_expect(eng, OP_READABLE, fd[0], 0);
		sock_drain(fd[0], 3);
		engine_start(eng, OP_READABLE, fd[0]);
		engine_expect(eng, OP_READABLE, fd[0], 0);
		sock_drain(fd[0], 2);
		cr_assert_lt(recv(fd[0], &(char){ 0 }, 1, MSG_DONTWAIT), 0);
		engine_start(eng, OP_READABLE, fd[0]);
		engine_expect_nothing(eng);
		sock_write(fd[1], "x");
		engine_expect(eng, OP_READABLE, fd[0], 0);
		sock_drain(fd[0], 1);
	}
	engine_close(eng);
	sock_close_pair(fd);
}

/* Receives and waits may take turns, as a pump's do. */
EngineTest(loop_wait, receives_and_waits_in_turns)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (int i = 0; i < 5; i++) {
		engine_start(eng, OP_RECV, fd[0]);
		engine_expect_nothing(eng);
		sock_write(fd[1], "one");
		engine_expect_data(eng, fd[0], "one");
		engine_start(eng, OP_READABLE, fd[0]);
		engine_expect_nothing(eng);
		sock_write(fd[1], "two");
		engine_expect(eng, OP_READABLE, fd[0], 0);
		engine_start(eng, OP_RECV, fd[0]);
		engine_expect_data(eng, fd[0], "two");
	}
	engine_close(eng);
	sock_close_pair(fd);
}

/* End of stream and errors are something to read. */
EngineTest(loop_wait, is_readable_at_the_end)
{
	struct engine *eng = engine_open(*engine);
	int fd[2], tcp[2];

	sock_pair(fd);
	engine_start(eng, OP_READABLE, fd[0]);
	engine_settle(eng);
	shutdown(fd[1], SHUT_WR);
	engine_expect(eng, OP_READABLE, fd[0], 0);
	sock_tcp_pair(tcp);
	engine_start(eng, OP_READABLE, tcp[0]);
	engine_settle(eng);
	sock_reset(tcp[1]);
	engine_expect(eng, OP_READABLE, tcp[0], 0);
	engine_close(eng);
	sock_close_pair(fd);
	close(tcp[0]);
}

/* Writable: at once while there is room, and when there is some again. */
EngineTest(loop_wait, waits_until_writable)
{
	struct engine *eng = engine_open(*engine);
	size_t n;
	int fd[2];

	sock_pair(fd);
	for (int i = 0; i < 3; i++) {
		engine_start(eng, OP_WRITABLE, fd[0]);
		engine_expect(eng, OP_WRITABLE, fd[0], 0);
		n = sock_fill(fd[0]);
		engine_start(eng, OP_WRITABLE, fd[0]);
		engine_expect_nothing(eng);
		sock_drain(fd[1], n);
		engine_expect(eng, OP_WRITABLE, fd[0], 0);
	}
	engine_close(eng);
	sock_close_pair(fd);
}

/* A reader that goes away ends the wait. */
EngineTest(loop_wait, is_writable_when_the_reader_goes_away)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	sock_fill(fd[0]);
	engine_start(eng, OP_WRITABLE, fd[0]);
	engine_settle(eng);
	close(fd[1]);
	engine_expect(eng, OP_WRITABLE, fd[0], 0);
	engine_close(eng);
	close(fd[0]);
}

/* The peer has said that it sends no more: that is no room, and no reason to wake up. */
EngineTest(loop_wait, waits_for_room_on_a_half_closed_connection)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (int i = 0; i < 3; i++) {
		size_t n = sock_fill(fd[0]);

		if (i == 0)
			shutdown(fd[1], SHUT_WR);
		engine_start(eng, OP_WRITABLE, fd[0]);
		engine_expect_nothing(eng);
		sock_drain(fd[1], n);
		engine_expect(eng, OP_WRITABLE, fd[0], 0);
	}
	engine_close(eng);
	sock_close_pair(fd);
}

/* ---------------------------------------------------------------- broken */

/* Neither bytes nor room nor the peer's FIN break a connection; a reset does. */
EngineTest(loop_wait, waits_until_broken)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_tcp_pair(fd);
	engine_start(eng, OP_BROKEN, fd[0]);
	engine_expect_nothing(eng);
	sock_write(fd[1], "hello");
	engine_expect_nothing(eng);
	shutdown(fd[1], SHUT_WR);
	engine_expect_nothing(eng);
	sock_drain(fd[0], 5);
	engine_expect_nothing(eng);
	sock_reset(fd[1]);
	engine_expect(eng, OP_BROKEN, fd[0], 0);
	engine_close(eng);
	close(fd[0]);
}

/* One that is broken already says so at once, but not from inside the call. */
EngineTest(loop_wait, is_broken_already)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_tcp_pair(fd);
	sock_reset(fd[1]);
	engine_start(eng, OP_BROKEN, fd[0]);
	cr_assert_eq(eng->n, 0);
	engine_expect(eng, OP_BROKEN, fd[0], 0);
	engine_close(eng);
	close(fd[0]);
}

/* The wait for an error goes on beside a receive and a wait for room. */
EngineTest(loop_wait, waits_until_broken_beside_other_operations)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_BROKEN, fd[0]);
	for (int i = 0; i < 3; i++) {
		size_t n = sock_fill(fd[0]);

		engine_start(eng, OP_RECV, fd[0]);
		engine_start(eng, OP_WRITABLE, fd[0]);
		engine_expect_nothing(eng);
		sock_write(fd[1], "hello");
		engine_expect_data(eng, fd[0], "hello");
		sock_drain(fd[1], n);
		engine_expect(eng, OP_WRITABLE, fd[0], 0);
	}
	close(fd[1]);
	engine_expect(eng, OP_BROKEN, fd[0], 0);
	engine_close(eng);
	close(fd[0]);
}

/* ---------------------------------------------------------------- others */

/* An event counter is readable, too: mail comes by one. */
EngineTest(loop_wait, waits_for_an_event_counter)
{
	struct engine *eng = engine_open(*engine);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint64_t n = 1;

	for (int i = 0; i < 3; i++) {
		engine_start(eng, OP_MAIL, fd);
		engine_expect_nothing(eng);
		cr_assert_eq(write(fd, &n, sizeof(n)), sizeof(n));
		engine_expect(eng, OP_MAIL, fd, 0);
		cr_assert_eq(read(fd, &n, sizeof(n)), sizeof(n));
	}
	engine_close(eng);
	close(fd);
}
