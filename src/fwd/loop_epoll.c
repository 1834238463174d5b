/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_epoll.c - the loop on epoll(7), for where io_uring is refused
 *
 * Completions are emulated. Each connected descriptor is registered once,
 * edge-triggered, for both directions, and has places for three operations: one
 * that waits for input (receive, readable) and one that waits for room (send,
 * writable, connect). Operations that go on by themselves (accept, datagrams) have
 * theirs registered level-triggered while they last. An operation is tried when
 * it is started, if its direction may be ready, and again after each edge; its
 * completion goes to a queue that the next turn delivers, so that nothing
 * completes from inside the call that started it.
 *
 * Invariant: when the "may be ready" bit of a direction is clear, a system
 * call has said EAGAIN since the last edge, so another edge will come. A
 * caller's own splice(2) may have seen EAGAIN behind our back: readable and
 * writable therefore ask poll(2) and never trust the bit. End of stream and
 * errors come with the last edge, and urgent data cuts a receive short: after one
 * of these the bit stays (EP_KEEP_TRYING).
 */
#include "fwd/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fwd/dgram.h"
#include "util.h"

#define EPOLL_BATCH   256
#define EPOLL_ACCEPTS 64 /* at most, of one listener in one turn */

enum ep_dir { EP_IN, EP_OUT, EP_ERR, EP_DIRS };

enum ep_flag {
	EP_REGISTERED = 1 << 0,
	EP_KEEP_TRYING = 1 << 1, /* the last edge has been: keep trying */
	EP_STARVED = 1 << 2,	 /* a receive waits for a buffer */
};

struct ep_pending {
	struct loop_ref ref; /* op OP_NONE: nothing pending */
	bool maybe_ready;
	const void *data; /* OP_SEND */
	size_t len;
};

struct ep_fd {
	struct ep_pending dir[EP_DIRS];
	uint8_t flags; /* enum ep_flag */
};

struct ep_done {
	struct loop_ref ref;
	int res;
	buf_id buf;
};

/* Completions that wait for the next turn. */
struct ep_queue {
	struct ep_done *v;
	size_t n, max;
};

struct ep {
	int fd;
	struct ep_fd *fds;	 /* by descriptor */
	struct ep_queue done[2]; /* being filled, being delivered */
	unsigned filling;
	unsigned n_starved;
	struct dgram_batch batch;
};

static enum ep_dir ep_dir_of(enum loop_op op)
{
	if (op == OP_BROKEN)
		return EP_ERR;
	return op == OP_SEND || op == OP_WRITABLE || op == OP_CONNECT ? EP_OUT : EP_IN;
}

static void ep_complete(struct ep *ep, struct loop_ref ref, int res, buf_id buf)
{
	struct ep_queue *q = &ep->done[ep->filling];

	if (q->n == q->max) {
		q->max = q->max ? q->max * 2 : 256;
		q->v = realloc(q->v, q->max * sizeof(*q->v));
		/* As many as there are descriptors, at most: kilobytes. */
		fwd_assert(q->v);
	}
	q->v[q->n++] = (struct ep_done){ .ref = ref, .res = res, .buf = buf };
}

/* The pending operation of @p is over: one completion, the last. */
static void ep_finish(struct ep *ep, struct ep_pending *p, int res, buf_id buf)
{
	struct loop_ref ref = p->ref;

	p->ref.op = OP_NONE;
	ep_complete(ep, ref, res, buf);
}

/* ---------------------------------------------------------------- trying */

/* The end of an operation that went on by itself. */
static void ep_finish_level(struct ep *ep, struct ep_fd *f, int fd, int res)
{
	epoll_ctl(ep->fd, EPOLL_CTL_DEL, fd, NULL);
	f->flags &= (uint8_t)~EP_REGISTERED;
	ep_finish(ep, &f->dir[EP_IN], res, BUF_NONE);
}

static void ep_try_accept(struct ep *ep, struct ep_fd *f, int fd)
{
	for (int i = 0; i < EPOLL_ACCEPTS; i++) {
		int conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (conn >= 0) {
			ep_complete(ep, f->dir[EP_IN].ref, conn, BUF_NONE);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			ep_finish_level(ep, f, fd, -errno);
			return;
		}
	}
}

static void ep_set_starved(struct ep *ep, struct ep_fd *f, bool starved)
{
	if (starved == !!(f->flags & EP_STARVED))
		return;
	f->flags ^= EP_STARVED;
	ep->n_starved += starved ? 1 : -1;
}

static void ep_try_recv(struct loop *loop, struct ep *ep, struct ep_fd *f, int fd)
{
	struct ep_pending *p = &f->dir[EP_IN];
	buf_id buf = bufs_get(&loop->bufs);
	ssize_t n;

	ep_set_starved(ep, f, buf == BUF_NONE);
	if (buf == BUF_NONE)
		return;
	n = recv(fd, bufs_data(&loop->bufs, buf), BUF_SIZE, MSG_DONTWAIT);
	if (n > 0) {
		/* Short: all that there was, but for what may lie behind the last edge. */
		p->maybe_ready = n == BUF_SIZE || (f->flags & EP_KEEP_TRYING);
		ep_finish(ep, p, (int)n, buf);
		return;
	}
	bufs_put(&loop->bufs, buf);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		p->maybe_ready = errno == EINTR;
	else
		ep_finish(ep, p, n < 0 ? -errno : 0, BUF_NONE);
}

static void ep_try_datagrams(struct loop *loop, struct ep *ep, struct ep_fd *f, int fd)
{
	int n = dgram_receive(&ep->batch, &loop->dgrams, fd);

	for (int i = 0; i < n; i++) {
		uint32_t len = ep->batch.msg[i].msg_len;

		ep_complete(ep, f->dir[EP_IN].ref, (int)len, ep->batch.buf[i]);
		ep->batch.buf[i] = BUF_NONE;
	}
	/* Without a buffer: those that are out come back with this turn's completions. */
	if (n < 0 && n != -EAGAIN && n != -ENOBUFS)
		ep_finish_level(ep, f, fd, n);
}

static void ep_try_send(struct ep *ep, struct ep_pending *p, int fd)
{
	ssize_t n = send(fd, p->data, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == EAGAIN) {
		p->maybe_ready = false;
		return;
	}
	/* Short: the caller sends the rest, and that says EAGAIN. */
	ep_finish(ep, p, n < 0 ? -errno : (int)n, BUF_NONE);
}

static void ep_try_poll(struct ep *ep, struct ep_pending *p, int fd, enum ep_dir dir)
{
	static const short events[] = { [EP_IN] = POLLIN | POLLRDHUP, [EP_OUT] = POLLOUT };
	struct pollfd pfd = { .fd = fd, .events = dir == EP_ERR ? 0 : events[dir] };

	p->maybe_ready = false; /* before poll(2): an edge from here on counts */
	if (poll(&pfd, 1, 0) > 0) {
		p->maybe_ready = true;
		ep_finish(ep, p, 0, BUF_NONE);
	}
}

static void ep_try(struct loop *loop, int fd, enum ep_dir dir)
{
	struct ep *ep = loop->engine;
	struct ep_fd *f = &ep->fds[fd];
	struct ep_pending *p = &f->dir[dir];

	switch (p->ref.op) {
	case OP_NONE:
		break;
	case OP_ACCEPT:
		ep_try_accept(ep, f, fd);
		break;
	case OP_RECV:
		ep_try_recv(loop, ep, f, fd);
		break;
	case OP_SEND:
		ep_try_send(ep, p, fd);
		break;
	case OP_UDP_LISTENER:
	case OP_UDP_SESSION:
		ep_try_datagrams(loop, ep, f, fd);
		break;
	default:
		ep_try_poll(ep, p, fd, dir);
		break;
	}
}

/* ---------------------------------------------------------------- operations */

static bool ep_is_level(enum loop_op op)
{
	return op == OP_ACCEPT || loop_op_is_datagrams(op);
}

static void ep_register(struct ep *ep, int fd, struct ep_fd *f, enum loop_op op)
{
	struct epoll_event ev = { .events = ep_is_level(op) ? EPOLLIN
							    : EPOLLIN | EPOLLPRI | EPOLLOUT |
								      EPOLLRDHUP | EPOLLET,
				  .data.fd = fd };

	/* Fails only for what we never pass (EBADF, EPERM) or without kernel memory. */
	if (epoll_ctl(ep->fd, EPOLL_CTL_ADD, fd, &ev) == 0)
		f->flags |= EP_REGISTERED;
	for (int dir = 0; dir < EP_DIRS; dir++)
		f->dir[dir].maybe_ready = true;
}

static void ep_start(struct loop *loop, int fd, struct loop_ref ref, const void *data, size_t len)
{
	struct ep *ep = loop->engine;
	struct ep_fd *f = &ep->fds[fd];
	enum ep_dir dir = ep_dir_of(ref.op);
	struct ep_pending *p = &f->dir[dir];

	fwd_assert((unsigned)fd < loop->max_fds && p->ref.op == OP_NONE);
	if (!(f->flags & EP_REGISTERED)) {
		ep_register(ep, fd, f, ref.op);
		if (!(f->flags & EP_REGISTERED)) {
			ep_complete(ep, ref, -ENOMEM, BUF_NONE);
			return;
		}
	}
	p->ref = ref;
	p->data = data;
	p->len = len;
	/* A receive or a send that has met EAGAIN waits for the edge; poll(2) tells the others. */
	if (p->maybe_ready || (ref.op != OP_RECV && ref.op != OP_SEND))
		ep_try(loop, fd, dir);
}

static void ep_start_plain(struct loop *loop, int fd, struct loop_ref ref)
{
	ep_start(loop, fd, ref, NULL, 0);
}

static void ep_send(struct loop *loop, int fd, const void *data, size_t len, struct loop_ref ref)
{
	ep_start(loop, fd, ref, data, len);
}

static void ep_cancel(struct loop *loop, int fd, struct loop_ref ref)
{
	struct ep *ep = loop->engine;
	struct ep_fd *f = &ep->fds[fd];
	struct ep_pending *p = &f->dir[ep_dir_of(ref.op)];

	if (p->ref.op == OP_NONE || loop_ref_pack(p->ref) != loop_ref_pack(ref))
		return; /* its completion is under way */
	ep_set_starved(ep, f, f->flags & EP_STARVED && ref.op != OP_RECV);
	if (ep_is_level(ref.op))
		ep_finish_level(ep, f, fd, -ECANCELED);
	else
		ep_finish(ep, p, -ECANCELED, BUF_NONE);
}

/* close(2) takes the descriptor out of the epoll set by itself. */
static void ep_forget(struct loop *loop, int fd)
{
	struct ep *ep = loop->engine;

	for (int dir = 0; dir < EP_DIRS; dir++)
		fwd_assert(ep->fds[fd].dir[dir].ref.op == OP_NONE);
	ep->fds[fd] = (struct ep_fd){ 0 };
}

/* ---------------------------------------------------------------- running */

static int ep_timeout(const struct ep *ep, uint64_t deadline)
{
	uint64_t now, ms;

	if (ep->done[ep->filling].n > 0)
		return 0;
	if (deadline == UINT64_MAX)
		return -1;
	now = now_ns();
	if (deadline <= now)
		return 0;
	ms = (deadline - now + 999999) / 1000000;
	return ms > 1000000 ? 1000000 : (int)ms;
}

static void ep_edge(struct loop *loop, const struct epoll_event *ev)
{
	struct ep *ep = loop->engine;
	struct ep_fd *f = &ep->fds[ev->data.fd];

	if (!(f->flags & EP_REGISTERED))
		return; /* closed earlier in this batch */
	if (ev->events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		f->flags |= EP_KEEP_TRYING;
	if (ev->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		f->dir[EP_IN].maybe_ready = true;
		ep_try(loop, ev->data.fd, EP_IN);
	}
	if (ev->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		f->dir[EP_OUT].maybe_ready = true;
		ep_try(loop, ev->data.fd, EP_OUT);
	}
	if (ev->events & (EPOLLHUP | EPOLLERR))
		ep_try(loop, ev->data.fd, EP_ERR);
}

/* Buffers may be free again: the receives that found none try once more. */
static void ep_unstarve(struct loop *loop, struct ep *ep)
{
	for (unsigned fd = 0; fd < loop->max_fds && ep->n_starved > 0; fd++) {
		if (!(ep->fds[fd].flags & EP_STARVED))
			continue;
		ep_try(loop, (int)fd, EP_IN);
		if (ep->fds[fd].flags & EP_STARVED)
			return; /* still none */
	}
}

static int ep_run(struct loop *loop, uint64_t deadline)
{
	struct epoll_event ev[EPOLL_BATCH];
	struct ep *ep = loop->engine;
	struct ep_queue *q;
	int n;

	/* Buffers came back with the completions of the last turn. */
	if (ep->n_starved > 0)
		ep_unstarve(loop, ep);
	n = epoll_wait(ep->fd, ev, EPOLL_BATCH, ep_timeout(ep, deadline));
	if (n < 0 && errno != EINTR)
		return -errno;
	for (int i = 0; i < n; i++)
		ep_edge(loop, &ev[i]);

	q = &ep->done[ep->filling];
	ep->filling ^= 1;
	for (size_t i = 0; i < q->n; i++)
		loop_dispatch(loop, q->v[i].ref, q->v[i].res, q->v[i].buf);
	q->n = 0;
	return 0;
}

static void ep_fini(struct loop *loop)
{
	struct ep *ep = loop->engine;

	if (!ep)
		return;
	close_fd(&ep->fd);
	if (ep->fds)
		munmap(ep->fds, loop->max_fds * sizeof(*ep->fds));
	dgram_batch_fini(&ep->batch, &loop->dgrams);
	free(ep->done[0].v);
	free(ep->done[1].v);
	free(ep);
	loop->engine = NULL;
}

static int ep_init(struct loop *loop, struct err *err)
{
	struct ep *ep = calloc(1, sizeof(*ep));
	void *fds;

	if (!ep)
		return err_sys(err, ENOMEM, "epoll");
	loop->engine = ep;
	dgram_batch_init(&ep->batch);
	ep->fd = epoll_create1(EPOLL_CLOEXEC);
	/* By descriptor; pages that are never used cost nothing. */
	fds = mmap(NULL, loop->max_fds * sizeof(*ep->fds), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ep->fd < 0 || fds == MAP_FAILED) {
		int code = errno;

		ep_fini(loop);
		return err_sys(err, code, "epoll");
	}
	ep->fds = fds;
	return 0;
}

const struct loop_ops loop_epoll_ops = {
	.name = "epoll",
	.init = ep_init,
	.fini = ep_fini,
	.accept = ep_start_plain,
	.recv = ep_start_plain,
	.datagrams = ep_start_plain,
	.send = ep_send,
	.readable = ep_start_plain,
	.writable = ep_start_plain,
	.broken = ep_start_plain,
	.cancel = ep_cancel,
	.forget = ep_forget,
	.run = ep_run,
};
