/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_loop_many.c - many at once: connections, datagrams, descriptors, and more
 * receives than there are buffers
 */

#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fwd/dgram.h"
#include "util.h"

/* ---------------------------------------------------------------- accept */

enum { CLIENTS = 40 };

static int accept_next(struct engine *eng, int listener)
{
	const struct engine_event *e = engine_next(eng);

	cr_assert_eq(e->ref.op, OP_ACCEPT);
	cr_assert_eq(engine_fd(e), listener);
	cr_assert_geq(e->res, 0, "%s", strerror(-e->res));
	return e->res;
}

static void stop_accepting(struct engine *eng, int listener)
{
	engine_cancel(eng, OP_ACCEPT, listener);
	engine_expect(eng, OP_ACCEPT, listener, -ECANCELED);
	engine_expect_nothing(eng);
	engine_forget(eng, listener);
	close(listener);
}

/* Each connection once, those that were there and those that come. */
EngineTest(loop_many, accepts_every_connection)
{
	struct engine *eng = engine_open(*engine);
	int listener = sock_listen(), client[CLIENTS];

	for (int i = 0; i < CLIENTS / 2; i++)
		client[i] = sock_connect(listener);
	engine_start(eng, OP_ACCEPT, listener);
	cr_assert_eq(eng->n, 0);
	for (int i = 0; i < CLIENTS / 2; i++)
		close(accept_next(eng, listener));
	engine_expect_nothing(eng);
	for (int i = CLIENTS / 2; i < CLIENTS; i++) {
		client[i] = sock_connect(listener);
		close(accept_next(eng, listener));
	}
	stop_accepting(eng, listener);
	engine_close(eng);
	for (int i = 0; i < CLIENTS; i++)
		close(client[i]);
}

/* What is accepted does not block and does not outlive an exec. */
EngineTest(loop_many, accepts_descriptors_as_it_should)
{
	struct engine *eng = engine_open(*engine);
	int listener = sock_listen(), client = sock_connect(listener), fd;

	engine_start(eng, OP_ACCEPT, listener);
	fd = accept_next(eng, listener);
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	sock_write(client, "hello");
	engine_start(eng, OP_RECV, fd);
	engine_expect_data(eng, fd, "hello");
	stop_accepting(eng, listener);
	engine_close(eng);
	close(fd);
	close(client);
}

/* After a cancel nothing more is accepted: what comes waits for whoever accepts next. */
EngineTest(loop_many, accepts_nothing_after_a_cancel)
{
	struct engine *eng = engine_open(*engine);
	int listener = sock_listen(), client, fd;

	engine_start(eng, OP_ACCEPT, listener);
	engine_settle(eng);
	engine_cancel(eng, OP_ACCEPT, listener);
	engine_expect(eng, OP_ACCEPT, listener, -ECANCELED);
	client = sock_connect(listener);
	engine_expect_nothing(eng);
	engine_start(eng, OP_ACCEPT, listener);
	fd = accept_next(eng, listener);
	stop_accepting(eng, listener);
	engine_close(eng);
	close(fd);
	close(client);
}

static void limit_descriptors(rlim_t n)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = n;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Without descriptors accepting ends, and can be started again when there are some. */
EngineTest(loop_many, ends_accepting_without_descriptors)
{
	struct engine *eng = engine_open(*engine);
	int listener = sock_listen(), client = sock_connect(listener), fd;
	struct rlimit was;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	limit_descriptors(1);
	engine_start(eng, OP_ACCEPT, listener);
	engine_expect(eng, OP_ACCEPT, listener, -EMFILE);
	engine_expect_nothing(eng);
	limit_descriptors(was.rlim_cur);
	engine_start(eng, OP_ACCEPT, listener);
	fd = accept_next(eng, listener);
	stop_accepting(eng, listener);
	engine_close(eng);
	close(fd);
	close(client);
}

/* ---------------------------------------------------------------- descriptors */

enum { PAIRS = 1000 };

static int pairs[PAIRS][2];

static void open_pairs(unsigned n)
{
	engine_need_fds(2 * n + 64);
	for (unsigned i = 0; i < n; i++)
		sock_pair(pairs[i]);
}

static void close_pairs(struct engine *eng, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		engine_forget(eng, pairs[i][0]);
		engine_forget(eng, pairs[i][1]);
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
}

/* Which of the pairs, and which end of it. */
static unsigned pair_of(const struct engine_event *e, unsigned n, unsigned *ret_end)
{
	static uint16_t place[ENGINE_FDS]; /* 2 * pair + end */

	if (place[pairs[n - 1][1]] == 0)
		for (unsigned i = 0; i < 2 * n; i++)
			place[pairs[i / 2][i % 2]] = (uint16_t)i;
	cr_assert_lt(e->ref.slot, ENGINE_FDS);
	*ret_end = place[e->ref.slot] % 2;
	return place[e->ref.slot] / 2;
}

/* A receive and a send on each of two thousand descriptors: each its own bytes. */
EngineTest(loop_many, serves_two_thousand_descriptors)
{
	static char message[PAIRS][2][16];
	struct engine *eng = engine_open(*engine);
	unsigned received = 0;

	open_pairs(PAIRS);
	for (unsigned i = 0; i < PAIRS; i++) {
		for (unsigned end = 0; end < 2; end++) {
			snprintf(message[i][end], sizeof(message[i][end]), "%u.%u", i, end);
			engine_start(eng, OP_RECV, pairs[i][end]);
		}
	}
	engine_settle(eng);
	for (unsigned i = 0; i < PAIRS; i++)
		for (unsigned end = 0; end < 2; end++)
			engine_send(eng, pairs[i][end], message[i][end], strlen(message[i][end]));
	for (unsigned n = 0; n < 4 * PAIRS; n++) {
		const struct engine_event *e = engine_next(eng);
		unsigned end, i = pair_of(e, PAIRS, &end);
		const char *want = message[i][e->ref.op == OP_SEND ? end : !end];

		cr_assert_eq(e->res, (int)strlen(want));
		if (e->ref.op == OP_SEND)
			continue;
		cr_assert_eq(memcmp(bufs_data(&eng->loop.bufs, e->buf), want, strlen(want)), 0);
		engine_put_buf(eng, e);
		received++;
	}
	cr_assert_eq(received, 2 * PAIRS);
	engine_expect_nothing(eng);
	close_pairs(eng, PAIRS);
	engine_close(eng);
}

/* As many waits, all of them canceled at once. */
EngineTest(loop_many, cancels_two_thousand_waits)
{
	struct engine *eng = engine_open(*engine);

	open_pairs(PAIRS);
	for (unsigned i = 0; i < PAIRS; i++) {
		engine_start(eng, OP_READABLE, pairs[i][0]);
		engine_start(eng, OP_RECV, pairs[i][1]);
	}
	engine_settle(eng);
	for (unsigned i = 0; i < PAIRS; i++) {
		engine_cancel(eng, OP_READABLE, pairs[i][0]);
		engine_cancel(eng, OP_RECV, pairs[i][1]);
	}
	for (unsigned n = 0; n < 2 * PAIRS; n++)
		cr_assert_eq(engine_next(eng)->res, -ECANCELED);
	engine_expect_nothing(eng);
	close_pairs(eng, PAIRS);
	engine_close(eng);
}

/* As many waits for an error, and all of them come at once. */
EngineTest(loop_many, sees_every_broken_connection)
{
	struct engine *eng = engine_open(*engine);

	open_pairs(PAIRS);
	for (unsigned i = 0; i < PAIRS; i++)
		engine_start(eng, OP_BROKEN, pairs[i][0]);
	engine_settle(eng);
	for (unsigned i = 0; i < PAIRS; i++) {
		engine_forget(eng, pairs[i][1]);
		close_fd(&pairs[i][1]);
	}
	for (unsigned n = 0; n < PAIRS; n++) {
		const struct engine_event *e = engine_next(eng);

		cr_assert_eq(e->ref.op, OP_BROKEN);
		cr_assert_eq(e->res, 0);
	}
	engine_expect_nothing(eng);
	engine_close(eng);
	for (unsigned i = 0; i < PAIRS; i++)
		close(pairs[i][0]);
}

/* A number that is used again for another connection has nothing of the one before. */
EngineTest(loop_many, forgets_a_closed_descriptor)
{
	struct engine *eng = engine_open(*engine);
	int first = -1;

	for (int i = 0; i < 50; i++) {
		int fd[2];

		sock_pair(fd);
		first = i == 0 ? fd[0] : first;
		cr_assert_eq(fd[0], first);
		if (i % 2) {
			engine_start(eng, OP_RECV, fd[0]);
			engine_expect_nothing(eng);
			shutdown(fd[1], SHUT_WR);
			engine_expect(eng, OP_RECV, fd[0], 0);
		} else {
			engine_start(eng, OP_READABLE, fd[0]);
			engine_start(eng, OP_BROKEN, fd[0]);
			engine_expect_nothing(eng);
			sock_write(fd[1], "x");
			engine_expect(eng, OP_READABLE, fd[0], 0);
			engine_cancel(eng, OP_BROKEN, fd[0]);
			engine_expect(eng, OP_BROKEN, fd[0], -ECANCELED);
		}
		engine_forget(eng, fd[0]);
		close(fd[0]);
		close(fd[1]);
	}
	engine_close(eng);
}

/* ---------------------------------------------------------------- buffers */

enum { READERS = 200 };

static buf_id taken[ENGINE_BUFS + 64];
static unsigned n_taken;

/* Leave nothing in the pool but what the engine has taken for itself. */
static void take_all_bufs(struct engine *eng)
{
	buf_id id;

	while ((id = bufs_get(&eng->loop.bufs)) != BUF_NONE)
		taken[n_taken++] = id;
}

/*
 * More receives with something to receive than there are buffers: the rest wait,
 * and each buffer that is put back lets one go on, until all have come.
 */
EngineTest(loop_many, goes_on_receiving_when_a_buffer_is_put_back)
{
	struct engine *eng = engine_open(*engine);
	unsigned come;

	open_pairs(READERS);
	take_all_bufs(eng);
	for (unsigned i = 0; i < READERS; i++) {
		sock_write(pairs[i][1], "x");
		engine_start(eng, OP_RECV, pairs[i][0]);
	}
	engine_settle(eng);
	come = eng->n;
	cr_assert_lt(come, READERS, "nobody starves");
	eng->seen = eng->n;
	engine_expect_nothing(eng);
	while (eng->n < READERS) {
		cr_assert_gt(n_taken, 0, "%u of %u", eng->n, READERS);
		bufs_put(&eng->loop.bufs, taken[--n_taken]);
		engine_settle(eng);
		cr_assert_eq(eng->n, ++come, "one buffer, one receive");
	}
	eng->seen = eng->n;
	while (n_taken > 0)
		bufs_put(&eng->loop.bufs, taken[--n_taken]);
	engine_expect_nothing(eng);
	close_pairs(eng, READERS);
	engine_close(eng);
}

/* Receives that wait for a buffer do not keep the loop from its other work. */
EngineTest(loop_many, serves_others_while_receives_starve)
{
	struct engine *eng = engine_open(*engine);
	const uint64_t ms = 1000000;
	uint64_t begin;
	unsigned come;

	open_pairs(READERS);
	take_all_bufs(eng);
	for (unsigned i = 1; i < READERS; i++) {
		sock_write(pairs[i][1], "x");
		engine_start(eng, OP_RECV, pairs[i][0]);
	}
	engine_settle(eng);
	come = eng->seen = eng->n;
	cr_assert_lt(come, READERS - 1);
	engine_start(eng, OP_READABLE, pairs[0][0]);
	engine_expect_nothing(eng);
	sock_write(pairs[0][1], "x");
	engine_expect(eng, OP_READABLE, pairs[0][0], 0);
	engine_send(eng, pairs[0][0], "hello", 5);
	engine_expect(eng, OP_SEND, pairs[0][0], 5);
	begin = now_ns();
	cr_assert_eq(eng->loop.ops->run(&eng->loop, begin + 5 * ms), 0);
	cr_assert_geq(now_ns() - begin, 4 * ms, "it does not wait");
	while (n_taken > 0)
		bufs_put(&eng->loop.bufs, taken[--n_taken]);
	for (; come < READERS - 1; come++)
		engine_put_buf(eng, engine_next(eng));
	engine_expect_nothing(eng);
	close_pairs(eng, READERS);
	engine_close(eng);
}

/* ---------------------------------------------------------------- datagrams */

enum { DATAGRAMS = 100 };

/* A bound socket and one that is connected to it. */
static void open_udp(int fd[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);

	for (int i = 0; i < 2; i++) {
		fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		cr_assert_geq(fd[i], 0);
	}
	if (bind(fd[0], (struct sockaddr *)&sin, sizeof(sin)) != 0)
		cr_skip_test("no loopback device: %s", strerror(errno));
	cr_assert_eq(getsockname(fd[0], (struct sockaddr *)&sin, &len), 0);
	if (connect(fd[1], (struct sockaddr *)&sin, len) != 0)
		cr_skip_test("no loopback device: %s", strerror(errno));
}

static void expect_datagram(struct engine *eng, int fd, const char *text)
{
	const struct engine_event *e = engine_next(eng);
	struct dgram d;

	cr_assert_eq(e->ref.op, OP_UDP_LISTENER);
	cr_assert_eq(engine_fd(e), fd);
	cr_assert_eq(e->res, (int)strlen(text), "result %d", e->res);
	cr_assert(dgram_parse(bufs_data(&eng->loop.dgrams, e->buf), false, &d));
	cr_assert_eq(d.len, strlen(text));
	cr_assert_eq(memcmp(d.data, text, d.len), 0);
	cr_assert(addr_same_ip(&d.from, &addr_loopback4));
	engine_put_buf(eng, e);
}

static void stop_receiving(struct engine *eng, const int fd[2])
{
	engine_cancel(eng, OP_UDP_LISTENER, fd[0]);
	engine_expect(eng, OP_UDP_LISTENER, fd[0], -ECANCELED);
	engine_expect_nothing(eng);
	engine_forget(eng, fd[0]);
	close(fd[0]);
	close(fd[1]);
}

/* Every datagram in its order, with its sender, until receiving is canceled. */
EngineTest(loop_many, receives_every_datagram)
{
	struct engine *eng = engine_open(*engine);
	char text[32];
	int fd[2];

	open_udp(fd);
	sock_write(fd[1], "early");
	engine_start(eng, OP_UDP_LISTENER, fd[0]);
	cr_assert_eq(eng->n, 0);
	expect_datagram(eng, fd[0], "early");
	engine_expect_nothing(eng);
	for (int i = 0; i < DATAGRAMS; i++) {
		snprintf(text, sizeof(text), "datagram %d", i);
		sock_write(fd[1], text);
	}
	for (int i = 0; i < DATAGRAMS; i++) {
		snprintf(text, sizeof(text), "datagram %d", i);
		expect_datagram(eng, fd[0], text);
	}
	engine_expect_nothing(eng);
	stop_receiving(eng, fd);
	engine_close(eng);
}

/* A datagram of nothing is a datagram. */
EngineTest(loop_many, receives_an_empty_datagram)
{
	struct engine *eng = engine_open(*engine);
	int fd[2];

	open_udp(fd);
	engine_start(eng, OP_UDP_LISTENER, fd[0]);
	cr_assert_eq(send(fd[1], "", 0, 0), 0);
	expect_datagram(eng, fd[0], "");
	sock_write(fd[1], "next");
	expect_datagram(eng, fd[0], "next");
	stop_receiving(eng, fd);
	engine_close(eng);
}

/* Without a buffer datagrams wait, and come when buffers are put back. */
EngineTest(loop_many, goes_on_with_datagrams_when_buffers_are_put_back)
{
	struct engine *eng = engine_open(*engine);
	unsigned held = 0;
	buf_id id;
	int fd[2];

	open_udp(fd);
	while ((id = bufs_get(&eng->loop.dgrams)) != BUF_NONE)
		taken[n_taken++] = id;
	engine_start(eng, OP_UDP_LISTENER, fd[0]);
	engine_settle(eng);
	for (unsigned i = 0; i < READERS; i++) {
		sock_write(fd[1], "x");
		engine_settle(eng);
		held = eng->n;
	}
	cr_assert_lt(held, READERS, "nobody starves");
	while (n_taken > 0)
		bufs_put(&eng->loop.dgrams, taken[--n_taken]);
	for (unsigned i = 0; i < READERS; i++)
		engine_put_buf(eng, engine_next(eng));
	engine_expect_nothing(eng);
	stop_receiving(eng, fd);
	engine_close(eng);
}
