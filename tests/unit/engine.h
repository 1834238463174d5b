/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One of the real engines, and a record of what it completes. The slot of a
 * reference is the descriptor; its generation is whatever the test likes.
 *
 * The handlers assert what holds for every engine: nothing completes from inside
 * the call that starts it, each operation completes once, and a buffer comes with
 * a successful receive and with nothing else.
 */

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdbool.h>
#include <stdint.h>

#include "fwd/loop.h"

enum {
	ENGINE_TIMEOUT = 10,
	ENGINE_BUFS = 320,    /* more than an engine keeps for itself */
	ENGINE_EVENTS = 8192, /* completions that are remembered */
	ENGINE_FDS = 8192,
	ENGINE_PATIENCE_MS = 2000, /* what takes longer does not come */
};

struct engine_event {
	struct loop_ref ref;
	int res;
	buf_id buf;
};

/* The descriptor that an event is of. */
static inline int engine_fd(const struct engine_event *e)
{
	return (int)e->ref.slot;
}

struct engine {
	struct loop loop;
	struct engine_event event[ENGINE_EVENTS];
	unsigned n;
	unsigned seen;			      /* of them, by the test */
	uint16_t pending[ENGINE_FDS][OP_NUM]; /* started and not completed */
	bool running;			      /* inside run() */
	void (*on_event)(struct engine *eng, const struct engine_event *e); /* or NULL */
};

/* A test for every engine: its body begins with engine_open(*engine). */
struct criterion_test_params engine_engines(void);
#define EngineTest(suite, name)                                                                    \
	ParameterizedTestParameters(suite, name)                                                   \
	{                                                                                          \
		return engine_engines();                                                           \
	}                                                                                          \
	ParameterizedTest(const unsigned *engine, suite, name, .timeout = ENGINE_TIMEOUT)

/* Skips the test, with the reason, where the engine is refused. There is one the_engine. */
struct engine *engine_open(unsigned engine);

/* Give back the buffers of what completed, and end the loop. Nothing may be in flight. */
void engine_close(struct engine *eng);

/* Start an operation on @fd. */
void engine_start(struct engine *eng, enum loop_op op, int fd);
void engine_send(struct engine *eng, int fd, const void *data, size_t len);
void engine_cancel(struct engine *eng, enum loop_op op, int fd);

/* About to close @fd; nothing of it may be in flight. */
void engine_forget(struct engine *eng, int fd);

/* One turn that waits for nothing. */
void engine_poll(struct engine *eng);

/* Some turns, in which whatever can happen without us has happened. */
void engine_settle(struct engine *eng);

/* The next completion that the test has not seen, waited for if need be. */
const struct engine_event *engine_next(struct engine *eng);

/* The next completion is of @op on @fd, with this result. */
void engine_expect(struct engine *eng, enum loop_op op, int fd, int res);

/* The next completion is a receive on @fd, of these bytes; its buffer is put back. */
void engine_expect_data(struct engine *eng, int fd, const char *text);

/* Nothing has completed, and nothing does without us. */
void engine_expect_nothing(struct engine *eng);

/* Put the buffer of a receive back. */
void engine_put_buf(struct engine *eng, const struct engine_event *e);

/* ---------------------------------------------------------------- descriptors */

/* Two connected AF_UNIX stream sockets, non-blocking. */
void sock_pair(int fd[2]);

/* Two connected TCP sockets; skips the test where the loopback device is down. */
void sock_tcp_pair(int fd[2]);

void sock_close_pair(const int fd[2]);

/* A TCP listener on the loopback device, non-blocking, and a client of it. */
int sock_listen(void);
int sock_connect(int listener);

/* Write until there is no more room; how much that was. Of a sock_pair(): TCP may make more. */
size_t sock_fill(int fd);

/* Close @fd so that the peer gets a reset. */
void sock_reset(int fd);

/* Read @n bytes away. */
void sock_drain(int fd, size_t n);
void sock_write(int fd, const char *text);

/* Raise the limit of descriptors to @n; skips the test where that is not allowed. */
void engine_need_fds(unsigned n);
