/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_loop.c - what is received and sent over the loop, the same with each engine
 */

#include "engine.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

/* ---------------------------------------------------------------- receive */

/* A receive waits until there is something, and brings what there is. */
EngineTest(loop, receives_what_comes)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_RECV, fd[0]);
	engine_expect_nothing(eng);
	sock_write(fd[1], "hello");
	engine_expect_data(eng, fd[0], "hello");
	engine_expect_nothing(eng);
	engine_close(eng);
	sock_close_pair(fd);
}

/* What is there already is received as well, but not before the next turn. */
EngineTest(loop, receives_what_is_there)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	for (int i = 0; i < 10; i++) {
		sock_write(fd[1], "hello");
		engine_start(eng, OP_RECV, fd[0]);
		cr_assert_eq(eng->n, eng->seen);
		engine_expect_data(eng, fd[0], "hello");
	}
	engine_close(eng);
	sock_close_pair(fd);
}

/* A buffer takes BUF_SIZE bytes; the next receive brings the rest. */
EngineTest(loop, receives_a_buffer_at_most)
{
	struct engine *eng = engine_open(*engine);
	size_t sent, got = 0;
	int fd[2];

	sock_pair(fd);
	sent = sock_fill(fd[1]);
	cr_assert_gt(sent, BUF_SIZE);
	while (got < sent) {
		const struct engine_event *e;

		engine_start(eng, OP_RECV, fd[0]);
		e = engine_next(eng);
		cr_assert(e->res > 0 && e->res <= (int)BUF_SIZE);
		got += (size_t)e->res;
		engine_put_buf(eng, e);
	}
	cr_assert_eq(got, sent);
	engine_close(eng);
	sock_close_pair(fd);
}

/* End of stream is a receive of nothing, as often as one asks. */
EngineTest(loop, receives_the_end_of_a_stream)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_RECV, fd[0]);
	engine_settle(eng);
	shutdown(fd[1], SHUT_WR);
	engine_expect(eng, OP_RECV, fd[0], 0);
	engine_start(eng, OP_RECV, fd[0]);
	engine_expect(eng, OP_RECV, fd[0], 0);
	engine_close(eng);
	sock_close_pair(fd);
}

/* Bytes and the end behind them, there before anybody asks: first the bytes, then the end. */
EngineTest(loop, receives_the_end_behind_the_last_bytes)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	sock_write(fd[1], "bye");
	shutdown(fd[1], SHUT_WR);
	engine_start(eng, OP_RECV, fd[0]);
	engine_expect_data(eng, fd[0], "bye");
	engine_start(eng, OP_RECV, fd[0]);
	engine_expect(eng, OP_RECV, fd[0], 0);
	engine_close(eng);
	sock_close_pair(fd);
}

/* The same when both come while the receive waits. */
EngineTest(loop, receives_the_end_that_comes_with_the_last_bytes)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_RECV, fd[0]);
	engine_settle(eng);
	sock_write(fd[1], "bye");
	shutdown(fd[1], SHUT_WR);
	engine_expect_data(eng, fd[0], "bye");
	engine_start(eng, OP_RECV, fd[0]);
	engine_expect(eng, OP_RECV, fd[0], 0);
	engine_close(eng);
	sock_close_pair(fd);
}

/* A reset is an error, not an end. */
EngineTest(loop, receives_a_reset)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_tcp_pair(fd);
	engine_start(eng, OP_RECV, fd[0]);
	engine_settle(eng);
	sock_reset(fd[1]);
	engine_expect(eng, OP_RECV, fd[0], -ECONNRESET);
	engine_close(eng);
	close(fd[0]);
}

/* Six bytes with an urgent one in their midst, and then silence. */
static void send_urgent(int fd)
{
	cr_assert_eq(send(fd, "abc", 3, MSG_MORE), 3);
	cr_assert_eq(send(fd, "x", 1, MSG_OOB), 1);
	cr_assert_eq(send(fd, "def", 3, 0), 3);
}

/* Urgent data stops a receive short; what lies behind it must not be forgotten. */
EngineTest(loop, receives_what_lies_behind_urgent_data)
{
	struct engine *eng = engine_open(*engine);

	for (int early = 0; early < 2; early++) {
		char text[16] = "";
		size_t got = 0;
		int fd[2];

		sock_tcp_pair(fd);
		if (early)
			send_urgent(fd[1]);
		engine_start(eng, OP_RECV, fd[0]);
		if (!early) {
			engine_settle(eng);
			send_urgent(fd[1]);
		}
		while (got < 6) {
			const struct engine_event *e = engine_next(eng);

			cr_assert(e->res > 0 && got + (size_t)e->res <= 6);
			memcpy(text + got, bufs_data(&eng->loop.bufs, e->buf), (size_t)e->res);
			got += (size_t)e->res;
			engine_put_buf(eng, e);
			if (got < 6)
				engine_start(eng, OP_RECV, fd[0]);
		}
		cr_assert_str_eq(text, "abcdef");
		engine_forget(eng, fd[0]);
		sock_close_pair(fd);
	}
	engine_close(eng);
}

/* ---------------------------------------------------------------- send */

/*
 * Start a send for which there is no room: an engine either waits, or says so at once
 * and lets the caller wait. True for the latter.
 */
static bool start_refused_send(struct engine *eng, int fd, const char *text)
{
	engine_send(eng, fd, text, strlen(text));
	engine_settle(eng);
	if (eng->seen == eng->n)
		return false;
	engine_expect(eng, OP_SEND, fd, -EAGAIN);
	engine_start(eng, OP_WRITABLE, fd);
	engine_expect_nothing(eng);
	return true;
}

/* There is room now: the whole of it goes. */
static void finish_refused_send(struct engine *eng, int fd, const char *text, bool refused)
{
	if (refused) {
		engine_expect(eng, OP_WRITABLE, fd, 0);
		engine_send(eng, fd, text, strlen(text));
	}
	engine_expect(eng, OP_SEND, fd, (int)strlen(text));
}

/* A send tells how much it took, and that arrives. */
EngineTest(loop, sends_what_it_is_given)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	engine_send(eng, fd[0], "hello", 5);
	engine_expect(eng, OP_SEND, fd[0], 5);
	engine_start(eng, OP_RECV, fd[1]);
	engine_expect_data(eng, fd[1], "hello");
	engine_close(eng);
	sock_close_pair(fd);
}

/* A send without room waits, or is made again when there is some. */
EngineTest(loop, sends_when_there_is_room)
{
	struct engine *eng = engine_open(*engine);
	bool refused;
	size_t n;
	int fd[2];

	sock_pair(fd);
	n = sock_fill(fd[0]);
	refused = start_refused_send(eng, fd[0], "hello");
	sock_drain(fd[1], n);
	finish_refused_send(eng, fd[0], "hello", refused);
	engine_start(eng, OP_RECV, fd[1]);
	engine_expect_data(eng, fd[1], "hello");
	engine_close(eng);
	sock_close_pair(fd);
}

/* A send came back: go on with the rest, or wait for room. */
static size_t go_on_sending(struct engine *eng, int fd, const uint8_t *data, size_t len)
{
	const struct engine_event *e = engine_next(eng);
	size_t n = e->ref.op == OP_SEND && e->res > 0 ? (size_t)e->res : 0;

	cr_assert(e->res >= 0 || e->res == -EAGAIN, "%d", e->res);
	cr_assert_leq(n, len);
	if (e->res == -EAGAIN)
		engine_start(eng, OP_WRITABLE, fd);
	else if (n < len)
		engine_send(eng, fd, data + n, len - n);
	return n;
}

/* A send that does not fit may be short; what it took is what arrives. */
EngineTest(loop, sends_in_pieces_what_does_not_fit)
{
	enum { SIZE = 4 << 20 };
	static uint8_t data[SIZE], got[SIZE];
	struct engine *eng = engine_open(*engine);
	size_t sent = 0, received = 0;
	int fd[2];

	sock_pair(fd);
	for (uint32_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 24);
	engine_send(eng, fd[0], data, SIZE);
	while (received < SIZE) {
		ssize_t n = recv(fd[1], got + received, SIZE - received, MSG_DONTWAIT);

		received += n > 0 ? (size_t)n : 0;
		engine_poll(eng);
		if (eng->seen < eng->n)
			sent += go_on_sending(eng, fd[0], data + sent, SIZE - sent);
	}
	while (sent < SIZE)
		sent += go_on_sending(eng, fd[0], data + sent, SIZE - sent);
	cr_assert_eq(memcmp(data, got, SIZE), 0);
	engine_close(eng);
	sock_close_pair(fd);
}

/* Nobody to send to is an error, and no signal. */
EngineTest(loop, fails_to_send_to_nobody)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	sock_pair(fd);
	close(fd[1]);
	engine_send(eng, fd[0], "hello", 5);
	engine_expect(eng, OP_SEND, fd[0], -EPIPE);
	engine_close(eng);
	close(fd[0]);
}

/* The same while it waits for room. */
EngineTest(loop, fails_to_send_when_the_reader_goes_away)
{
	struct engine *eng = engine_open(*engine);
	const struct engine_event *e;
	bool refused;
	int fd[2];

	sock_pair(fd);
	sock_fill(fd[0]);
	refused = start_refused_send(eng, fd[0], "hello");
	close(fd[1]);
	if (refused) {
		engine_expect(eng, OP_WRITABLE, fd[0], 0);
		engine_send(eng, fd[0], "hello", 5);
	}
	e = engine_next(eng);
	cr_assert(e->res == -EPIPE || e->res == -ECONNRESET, "%d", e->res);
	engine_close(eng);
	close(fd[0]);
}

/* The two directions of a descriptor do not wait for each other. */
EngineTest(loop, receives_while_it_sends)
{
	struct engine *eng = engine_open(*engine);
	bool refused;
	size_t n;
	int fd[2];

	sock_pair(fd);
	n = sock_fill(fd[0]);
	refused = start_refused_send(eng, fd[0], "ping");
	engine_start(eng, OP_RECV, fd[0]);
	engine_expect_nothing(eng);
	sock_write(fd[1], "pong");
	engine_expect_data(eng, fd[0], "pong");
	engine_expect_nothing(eng);
	engine_start(eng, OP_RECV, fd[0]);
	sock_drain(fd[1], n);
	finish_refused_send(eng, fd[0], "ping", refused);
	sock_write(fd[1], "pong");
	engine_expect_data(eng, fd[0], "pong");
	engine_close(eng);
	sock_close_pair(fd);
}

/* ---------------------------------------------------------------- deadline */

/* A turn in which nothing happens ends at its deadline, not before and not much later. */
EngineTest(loop, returns_by_the_deadline)
{
	struct engine *eng = engine_open(*engine);
	const uint64_t ms = 1000000;
	uint64_t begin, took;
	int fd[2];

	sock_pair(fd);
	engine_start(eng, OP_RECV, fd[0]);
	engine_settle(eng);
	for (int i = 1; i <= 3; i++) {
		begin = now_ns();
		cr_assert_eq(eng->loop.ops->run(&eng->loop, begin + 5 * ms), 0);
		took = now_ns() - begin;
		cr_assert(took >= 4 * ms && took < 1000 * ms, "%ju ns", (uintmax_t)took);
	}
	begin = now_ns();
	for (int i = 0; i < 100; i++)
		cr_assert_eq(eng->loop.ops->run(&eng->loop, begin - ms), 0);
	cr_assert_lt(now_ns() - begin, 500 * ms);
	engine_cancel(eng, OP_RECV, fd[0]);
	engine_expect(eng, OP_RECV, fd[0], -ECANCELED);
	engine_close(eng);
	sock_close_pair(fd);
}
