/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - a real engine, and a record of what it completes
 */
#include "engine.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fwd/dgram.h"
#include "util.h"

enum { SETTLE_TURNS = 5, GENERATION = 0xfff0, SIDE = 1 };

static const struct loop_ops *const engine_ops[] = { &loop_epoll_ops, &loop_uring_ops };

static struct engine the_engine;

struct criterion_test_params engine_engines(void)
{
	static unsigned engines[] = { 0, 1 };

	return cr_make_param_array(unsigned, engines, ARRAY_SIZE(engines), NULL);
}

static struct loop_ref engine_ref(enum loop_op op, int fd)
{
	return (struct loop_ref){
		.op = (uint8_t)op, .side = SIDE, .generation = GENERATION, .slot = (uint32_t)fd
	};
}

static bool engine_goes_on(const struct loop_ref *ref, int res)
{
	return res >= 0 && (ref->op == OP_ACCEPT || loop_op_is_datagrams(ref->op));
}

static void engine_handler(void *ctx, struct loop_ref ref, int res, buf_id buf)
{
	bool has_buf = (ref.op == OP_RECV && res > 0) || (loop_op_is_datagrams(ref.op) && res >= 0);
	struct engine *eng = ctx;
	struct engine_event *e = &eng->event[eng->n];

	cr_assert(eng->running, "a completion from inside the call that started it");
	eng->running = false; /* no handler inside a handler */
	cr_assert_lt(eng->n, ENGINE_EVENTS);
	cr_assert_lt(ref.slot, ENGINE_FDS);
	cr_assert_eq(ref.side, SIDE);
	cr_assert_eq(ref.generation, GENERATION);
	cr_assert_gt(eng->pending[ref.slot][ref.op], 0, "operation %u completes twice", ref.op);
	cr_assert_eq(buf != BUF_NONE, has_buf, "operation %u, result %d", ref.op, res);
	if (!engine_goes_on(&ref, res))
		eng->pending[ref.slot][ref.op]--;
	*e = (struct engine_event){ .ref = ref, .res = res, .buf = buf };
	eng->n++;
	if (eng->on_event)
		eng->on_event(eng, e);
	eng->running = true;
}

static int engine_fd_of(void *ctx, struct loop_ref ref)
{
	(void)ctx;
	return (int)ref.slot;
}

struct engine *engine_open(unsigned engine)
{
	static loop_handler *handlers[OP_NUM];
	const char *lacks;
	struct err err;

	if (engine_ops[engine] == &loop_uring_ops && loop_uring_probe(&lacks, &err) < 0)
		cr_skip_test("io_uring: %s", err.text);
	for (int op = OP_NONE + 1; op < OP_NUM; op++)
		handlers[op] = engine_handler;
	the_engine.loop = (struct loop){ .ops = engine_ops[engine],
					 .handlers = handlers,
					 .fd_of = engine_fd_of,
					 .ctx = &the_engine,
					 .max_fds = ENGINE_FDS };
	cr_assert_eq(bufs_init(&the_engine.loop.bufs, ENGINE_BUFS, BUF_SIZE, &err), 0, "%s",
		     err.text);
	cr_assert_eq(bufs_init(&the_engine.loop.dgrams, ENGINE_BUFS, DGRAM_SIZE, &err), 0, "%s",
		     err.text);
	cr_assert_eq(the_engine.loop.ops->init(&the_engine.loop, &err), 0, "%s", err.text);
	return &the_engine;
}

void engine_put_buf(struct engine *eng, const struct engine_event *e)
{
	struct engine_event *own = &eng->event[e - eng->event];

	if (own->buf == BUF_NONE)
		return;
	bufs_put(own->ref.op == OP_RECV ? &eng->loop.bufs : &eng->loop.dgrams, own->buf);
	own->buf = BUF_NONE;
}

void engine_close(struct engine *eng)
{
	for (unsigned fd = 0; fd < ENGINE_FDS; fd++)
		for (unsigned op = 0; op < OP_NUM; op++)
			cr_assert_eq(eng->pending[fd][op], 0, "operation %u on %u is left", op, fd);
	for (unsigned i = 0; i < eng->n; i++)
		engine_put_buf(eng, &eng->event[i]);
	eng->loop.ops->fini(&eng->loop);
	cr_assert_null(eng->loop.engine);
	bufs_fini(&eng->loop.bufs);
	bufs_fini(&eng->loop.dgrams);
}

/* ---------------------------------------------------------------- operations */

void engine_start(struct engine *eng, enum loop_op op, int fd)
{
	const struct loop_ops *ops = eng->loop.ops;
	struct loop_ref ref = engine_ref(op, fd);

	cr_assert_lt(fd, ENGINE_FDS);
	eng->pending[fd][op]++;
	if (op == OP_ACCEPT)
		ops->accept(&eng->loop, fd, ref);
	else if (op == OP_RECV)
		ops->recv(&eng->loop, fd, ref);
	else if (loop_op_is_datagrams(op))
		ops->datagrams(&eng->loop, fd, ref);
	else if (op == OP_BROKEN)
		ops->broken(&eng->loop, fd, ref);
	else if (op == OP_WRITABLE || op == OP_CONNECT)
		ops->writable(&eng->loop, fd, ref);
	else
		ops->readable(&eng->loop, fd, ref);
}

void engine_send(struct engine *eng, int fd, const void *data, size_t len)
{
	eng->pending[fd][OP_SEND]++;
	eng->loop.ops->send(&eng->loop, fd, data, len, engine_ref(OP_SEND, fd));
}

void engine_cancel(struct engine *eng, enum loop_op op, int fd)
{
	eng->loop.ops->cancel(&eng->loop, fd, engine_ref(op, fd));
}

void engine_forget(struct engine *eng, int fd)
{
	eng->loop.ops->forget(&eng->loop, fd);
}

static void engine_run(struct engine *eng, uint64_t deadline)
{
	eng->running = true;
	cr_assert_eq(eng->loop.ops->run(&eng->loop, deadline), 0);
	eng->running = false;
}

void engine_poll(struct engine *eng)
{
	engine_run(eng, now_ns());
}

void engine_settle(struct engine *eng)
{
	for (int i = 0; i < SETTLE_TURNS; i++)
		engine_poll(eng);
}

const struct engine_event *engine_next(struct engine *eng)
{
	uint64_t end = now_ns() + ENGINE_PATIENCE_MS * 1000000ull;

	while (eng->seen == eng->n) {
		engine_run(eng, end);
		cr_assert_lt(now_ns(), end, "nothing completes by itself");
	}
	return &eng->event[eng->seen++];
}

void engine_expect(struct engine *eng, enum loop_op op, int fd, int res)
{
	const struct engine_event *e = engine_next(eng);

	cr_assert_eq(e->ref.op, op, "operation %u, not %u", e->ref.op, op);
	cr_assert_eq(engine_fd(e), fd);
	cr_assert_eq(e->res, res, "result %d, not %d", e->res, res);
}

void engine_expect_data(struct engine *eng, int fd, const char *text)
{
	const struct engine_event *e = engine_next(eng);

	cr_assert_eq(e->ref.op, OP_RECV);
	cr_assert_eq(engine_fd(e), fd);
	cr_assert_eq(e->res, (int)strlen(text), "result %d, not %zu", e->res, strlen(text));
	cr_assert_eq(memcmp(bufs_data(&eng->loop.bufs, e->buf), text, strlen(text)), 0);
	engine_put_buf(eng, e);
}

void engine_expect_nothing(struct engine *eng)
{
	engine_settle(eng);
	cr_assert_eq(eng->n, eng->seen, "operation %u completes with %d",
		     eng->event[eng->seen].ref.op, eng->event[eng->seen].res);
}

/* ---------------------------------------------------------------- descriptors */

void sock_pair(int fd[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0,
		     "%s", strerror(errno));
}

void sock_close_pair(const int fd[2])
{
	close(fd[0]);
	close(fd[1]);
}

void sock_reset(int fd)
{
	static const struct linger now = { .l_onoff = 1 };

	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
}

int sock_listen(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0)
		cr_skip_test("no loopback device: %s", strerror(errno));
	cr_assert_eq(listen(fd, 64), 0);
	return fd;
}

int sock_connect(int listener)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	cr_assert_geq(fd, 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
	if (connect(fd, (struct sockaddr *)&sin, len) != 0)
		cr_skip_test("no loopback device: %s", strerror(errno));
	return fd;
}

void sock_tcp_pair(int fd[2])
{
	int listener = sock_listen();

	fd[0] = sock_connect(listener);
	cr_assert_eq(set_nonblock(fd[0]), 0);
	fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	cr_assert_geq(fd[1], 0);
	close(listener);
}

size_t sock_fill(int fd)
{
	static const char data[65536];
	size_t done = 0;
	ssize_t n;

	/* Down to single bytes, so that not even one more would fit. */
	for (size_t piece = sizeof(data); piece > 0; piece /= 4)
		while ((n = send(fd, data, piece, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			done += (size_t)n;
	return done;
}

void sock_drain(int fd, size_t n)
{
	static char data[65536];

	while (n > 0) {
		ssize_t ret = recv(fd, data, n < sizeof(data) ? n : sizeof(data), MSG_DONTWAIT);

		cr_assert_gt(ret, 0, "%s", strerror(errno));
		n -= (size_t)ret;
	}
}

void sock_write(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL),
		     (ssize_t)strlen(text));
}

void engine_need_fds(unsigned n)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= n)
		return;
	limit.rlim_cur = n;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		cr_skip_test("not allowed to open %u descriptors", n);
}
