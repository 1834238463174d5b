/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_loop.c - an engine whose operations the test completes
 */
#include "fake_loop.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

static struct fake_op *fake_find_ref(struct fake_loop *f, struct loop_ref ref)
{
	for (unsigned i = 0; i < f->n; i++)
		if (loop_ref_pack(f->op[i].ref) == loop_ref_pack(ref))
			return &f->op[i];
	return NULL;
}

static struct fake_op *fake_start(struct loop *loop, int fd, struct loop_ref ref)
{
	struct fake_loop *f = loop->engine;
	struct fake_op *op = &f->op[f->n];

	cr_assert_null(fake_find_ref(f, ref), "operation %u is started twice", ref.op);
	cr_assert_lt(f->n, FAKE_OPS_MAX);
	*op = (struct fake_op){ .ref = ref, .fd = fd };
	f->n++;
	f->started++;
	return op;
}

static void fake_start_plain(struct loop *loop, int fd, struct loop_ref ref)
{
	fake_start(loop, fd, ref);
}

static void fake_start_send(struct loop *loop, int fd, const void *data, size_t len,
			    struct loop_ref ref)
{
	struct fake_op *op = fake_start(loop, fd, ref);

	op->data = data;
	op->len = len;
}

static void fake_cancel(struct loop *loop, int fd, struct loop_ref ref)
{
	struct fake_op *op = fake_find_ref(loop->engine, ref);

	cr_assert_not_null(op, "operation %u is canceled, but not in flight", ref.op);
	cr_assert_eq(op->fd, fd);
	op->canceled = true;
}

static void fake_forget(struct loop *loop, int fd)
{
	const struct fake_loop *f = loop->engine;

	for (unsigned i = 0; i < f->n; i++)
		cr_assert_neq(f->op[i].fd, fd, "a descriptor in use is forgotten");
}

static const struct loop_ops fake_ops = {
	.name = "fake",
	.accept = fake_start_plain,
	.recv = fake_start_plain,
	.datagrams = fake_start_plain,
	.send = fake_start_send,
	.readable = fake_start_plain,
	.writable = fake_start_plain,
	.broken = fake_start_plain,
	.cancel = fake_cancel,
	.forget = fake_forget,
};

void fake_init(struct fake_loop *f, loop_handler *const *handlers, void *ctx, uint32_t bufs)
{
	struct err err;

	*f = (struct fake_loop){ .loop = { .ops = &fake_ops, .handlers = handlers, .ctx = ctx } };
	f->loop.engine = f;
	cr_assert_eq(bufs_init(&f->loop.bufs, bufs, BUF_SIZE, &err), 0, "%s", err.text);
}

void fake_fini(struct fake_loop *f)
{
	cr_assert_eq(f->n, 0, "%u operations are still in flight", f->n);
	cr_assert_eq(fake_bufs_taken(f), 0, "%u buffers have leaked", fake_bufs_taken(f));
	bufs_fini(&f->loop.bufs);
}

struct fake_op *fake_find(struct fake_loop *f, enum loop_op op)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->op[i].ref.op == op)
			return &f->op[i];
	return NULL;
}

/* The handler may start others: take @op out first. */
static void fake_finish(struct fake_loop *f, struct fake_op *op, int res, buf_id buf)
{
	struct loop_ref ref;

	cr_assert_not_null(op, "what is to complete is not in flight");
	ref = op->ref;
	f->n--;
	memmove(op, op + 1, (size_t)(&f->op[f->n] - op) * sizeof(*op));
	loop_dispatch(&f->loop, ref, res, buf);
}

void fake_complete(struct fake_loop *f, struct fake_op *op, int res)
{
	fake_finish(f, op, res, BUF_NONE);
}

static buf_id fake_buf(struct fake_loop *f)
{
	buf_id buf = bufs_get(&f->loop.bufs);

	cr_assert_neq(buf, BUF_NONE);
	return buf;
}

void fake_complete_recv(struct fake_loop *f, struct fake_op *op, const void *data, size_t len)
{
	buf_id buf = fake_buf(f);

	cr_assert(len > 0 && len <= BUF_SIZE);
	memcpy(bufs_data(&f->loop.bufs, buf), data, len);
	fake_finish(f, op, (int)len, buf);
}

static bool fake_perform_recv(struct fake_loop *f, struct fake_op *op, size_t max)
{
	buf_id buf = fake_buf(f);
	ssize_t n = recv(op->fd, bufs_data(&f->loop.bufs, buf), max < BUF_SIZE ? max : BUF_SIZE,
			 MSG_DONTWAIT);

	if (n > 0) {
		fake_finish(f, op, (int)n, buf);
		return true;
	}
	bufs_put(&f->loop.bufs, buf);
	if (n < 0 && errno == EAGAIN)
		return false;
	fake_complete(f, op, n < 0 ? -errno : 0);
	return true;
}

static bool fake_perform_send(struct fake_loop *f, struct fake_op *op, size_t max)
{
	ssize_t n = send(op->fd, op->data, op->len < max ? op->len : max,
			 MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == EAGAIN && f->send_waits)
		return false;
	fake_complete(f, op, n < 0 ? -errno : (int)n);
	return true;
}

bool fake_perform(struct fake_loop *f, struct fake_op *op, size_t max)
{
	struct pollfd pfd = { .fd = op->fd };

	if (op->ref.op == OP_RECV)
		return fake_perform_recv(f, op, max);
	if (op->ref.op == OP_SEND)
		return fake_perform_send(f, op, max);
	pfd.events = op->ref.op == OP_WRITABLE ? POLLOUT : POLLIN;
	if (poll(&pfd, 1, 0) == 0)
		return false;
	fake_complete(f, op, 0);
	return true;
}

uint32_t fake_bufs_taken(const struct fake_loop *f)
{
	return f->loop.bufs.n_ready - f->loop.bufs.n_free;
}
