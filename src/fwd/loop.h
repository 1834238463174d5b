/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The event loop of one thread, completion-shaped: an operation is started
 * with a reference and later completes exactly once with a result, through
 * the handler of its reference's @op. Nothing completes from inside the call
 * that starts it.
 *
 * Two engines stand behind it: loop_uring.c (io_uring) and loop_epoll.c, which
 * emulates completions where io_uring is refused. Unit tests bring a third.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "fwd/bufs.h"

/* What an operation is for; the index into the handler table. */
enum loop_op {
	OP_NONE, /* the engine's own; never reaches a handler */
	OP_ACCEPT,
	OP_CONNECT,
	OP_RECV,
	OP_SEND,
	OP_READABLE,
	OP_WRITABLE,
	OP_BROKEN,
	OP_MAIL,
	OP_AGENT,
	OP_UDP_LISTENER, /* datagrams of clients */
	OP_UDP_SESSION,	 /* datagrams of the application */
	OP_NUM
};

/*
 * A reference to the owner of an operation: never a pointer, so that a slot
 * that was freed too early is an assertion and not a use after free.
 */
struct loop_ref {
	uint8_t op;	     /* enum loop_op */
	uint8_t side;	     /* which of the owner's descriptors; the owner's business */
	uint16_t generation; /* of the slot */
	uint32_t slot;
};
_Static_assert(sizeof(struct loop_ref) == sizeof(uint64_t), "a reference is a user_data");

/*
 * @res is the result, or -errno. @buf is BUF_NONE but for a successful OP_RECV
 * with @res > 0, and successful datagrams: then the handler owns the buffer.
 */
typedef void loop_handler(void *ctx, struct loop_ref ref, int res, buf_id buf);

struct loop;

struct loop_ops {
	const char *name;

	/* Called in the thread that will run the loop. 0 or -errno with @err. */
	int (*init)(struct loop *loop, struct err *err);
	void (*fini)(struct loop *loop);

	/*
	 * Accept connections on listening socket @fd: one completion each, with
	 * the new descriptor (non-blocking, close-on-exec), until one with an
	 * error, which ends it.
	 */
	void (*accept)(struct loop *loop, int fd, struct loop_ref ref);

	/* Receive up to BUF_SIZE bytes into a buffer. 0: end of stream. */
	void (*recv)(struct loop *loop, int fd, struct loop_ref ref);

	/*
	 * Receive datagrams: one completion for each buffer (dgram.h) of the pool
	 * @dgrams, with the length of its payload, until one with an error, which
	 * ends it.
	 */
	void (*datagrams)(struct loop *loop, int fd, struct loop_ref ref);

	/*
	 * Send @len bytes at @data, which must stay until the completion. The
	 * result may be short, or -EAGAIN: the rest is the caller's to send again
	 * when @fd is writable.
	 */
	void (*send)(struct loop *loop, int fd, const void *data, size_t len, struct loop_ref ref);

	/*
	 * Wait until @fd is readable; until it is writable; until neither matters any
	 * more because the connection is broken. An error ends each of them. Result 0.
	 */
	void (*readable)(struct loop *loop, int fd, struct loop_ref ref);
	void (*writable)(struct loop *loop, int fd, struct loop_ref ref);
	void (*broken)(struct loop *loop, int fd, struct loop_ref ref);

	/*
	 * Ask for the end of the operation @ref on @fd. It still completes, with
	 * -ECANCELED or with its own result.
	 */
	void (*cancel)(struct loop *loop, int fd, struct loop_ref ref);

	/* @fd, with nothing in flight, is about to be closed. */
	void (*forget)(struct loop *loop, int fd);

	/*
	 * Start what was asked for, wait until something completes or until
	 * @deadline (now_ns(); UINT64_MAX: for ever), and call the handlers. 0,
	 * or -errno when the loop itself failed.
	 */
	int (*run)(struct loop *loop, uint64_t deadline);
};

struct loop {
	const struct loop_ops *ops;
	loop_handler *const *handlers;		      /* [OP_NUM] */
	int (*fd_of)(void *ctx, struct loop_ref ref); /* to start an operation again */
	void *ctx;				      /* for both */
	struct bufs bufs;
	struct bufs dgrams; /* max 0: no datagrams will be received */
	unsigned max_fds;   /* descriptors are below this */
	void *engine;	    /* the engine's own state */
};

extern const struct loop_ops loop_uring_ops;
extern const struct loop_ops loop_epoll_ops;

/*
 * Whether this kernel lets us use io_uring with all that loop_uring needs. 0, and
 * *@ret_lacks names what will be emulated, or is NULL; or -errno with @err saying
 * what is missing or who refuses.
 */
int loop_uring_probe(const char **ret_lacks, struct err *err);

static inline uint64_t loop_ref_pack(struct loop_ref ref)
{
	return (uint64_t)ref.op | (uint64_t)ref.side << 8 | (uint64_t)ref.generation << 16 |
	       (uint64_t)ref.slot << 32;
}

static inline struct loop_ref loop_ref_unpack(uint64_t v)
{
	return (struct loop_ref){ .op = (uint8_t)v,
				  .side = (uint8_t)(v >> 8),
				  .generation = (uint16_t)(v >> 16),
				  .slot = (uint32_t)(v >> 32) };
}

/* Whether an operation is datagrams(). */
static inline bool loop_op_is_datagrams(enum loop_op op)
{
	return op == OP_UDP_LISTENER || op == OP_UDP_SESSION;
}

static inline void loop_dispatch(struct loop *loop, struct loop_ref ref, int res, buf_id buf)
{
	loop->handlers[ref.op](loop->ctx, ref, res, buf);
}
