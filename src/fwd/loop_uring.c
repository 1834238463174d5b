/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_uring.c - the loop on io_uring(7)
 *
 * Operations become submission entries; one io_uring_enter(2) per turn submits
 * what the handlers of the last turn asked for and waits. Receives take their
 * buffer from a ring of provided buffers only when data is there
 * (io_uring_register_buf_ring(3), Linux 5.19), so a connection that is idle
 * holds none. Each entry of that ring is filled again at once with a fresh
 * buffer: a slot of the ring is never what a flow waits for.
 *
 * What older kernels lack is emulated, and named once at start by the caller:
 *   before 5.19: no buffer ring: a receive is a poll, then recv(2);
 *                no multishot accept: one accept at a time, started again
 *   before 6.1:  no DEFER_TASKRUN: completions interrupt us
 *
 * IORING_OP_SPLICE is never used: it always runs on a kernel worker thread
 * (io_uring/splice.c sets REQ_F_FORCE_ASYNC) and costs three times as much.
 */
#include "fwd/loop.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "fwd/dgram.h"
#include "fwd/uring_bufs.h"
#include "fwd/waitset.h"
#include "util.h"

/* Newer than the liburing that Debian 12 has. */
#ifndef IORING_SETUP_SINGLE_ISSUER
#	define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#	define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#define URING_SQ   512u
#define URING_CQ   4096u
#define URING_BUFS 128u /* buffers that wait in the kernel's ring */
/* Groups of provided buffers. */
enum uring_group { URING_STREAM, URING_DGRAM, URING_GROUPS };

/*
 * Waits in epoll sets. The engine's own references, of OP_NONE, have as slot: 1 + this,
 * or URING_CANCEL and more.
 */
#define URING_CANCEL 16u
enum uring_wait { URING_WRITABLE, URING_BROKEN, URING_WAITS };

/* A receive that found no buffer; it is started again when there is one. */
struct uring_starved {
	struct loop_ref ref;
	bool canceled;
};

/* A cancel that the kernel has not answered yet; or a free entry, op OP_NONE. */
struct uring_cancel {
	struct loop_ref ref;
	uint32_t next; /* free entry, or URING_NO_CANCEL */
};
#define URING_NO_CANCEL UINT32_MAX

struct uring {
	struct io_uring ring;
	struct uring_bufs bufs[URING_GROUPS];
	bool multishot_accept;
	bool multishot_dgram;
	struct msghdr dgram;	  /* template of multishot receives */
	struct dgram_batch batch; /* for where there are none */
	struct waitset waits[URING_WAITS];
	struct uring_cancel *cancels; /* asked for, and not yet answered by the kernel */
	unsigned n_cancels, max_cancels;
	uint32_t free_cancel;
	struct loop_ref *canceled; /* of @waits: to be completed in the next turn */
	unsigned n_canceled, max_canceled;
	struct uring_starved *starved; /* one per descriptor at most */
	unsigned n_starved, max_starved;
};

static struct io_uring_sqe *uring_sqe(struct uring *u, struct loop_ref ref)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	while (!sqe) {
		/* The queue is full: hand over what it has. */
		io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	io_uring_sqe_set_data64(sqe, loop_ref_pack(ref));
	return sqe;
}

/* io_uring_prep_*() resets user_data in newer versions of liburing: set it last. */
static void uring_tag(struct io_uring_sqe *sqe, struct loop_ref ref)
{
	io_uring_sqe_set_data64(sqe, loop_ref_pack(ref));
}

/* ---------------------------------------------------------------- set-up */

static int uring_setup(struct io_uring *ring)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int ret = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
		struct io_uring_params p = { .flags = flags[i] | IORING_SETUP_CQSIZE |
						      IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED,
					     .cq_entries = URING_CQ };

		ret = io_uring_queue_init_params(URING_SQ, ring, &p);
		if (ret == 0 && !(p.features & IORING_FEAT_EXT_ARG)) {
			io_uring_queue_exit(ring);
			return -ENOSYS; /* before 5.11 */
		}
	}
	return ret;
}

static int uring_setup_err(struct err *err, int ret)
{
	char v[16];

	if (ret == -EPERM && read_file("/proc/sys/kernel/io_uring_disabled", v, sizeof(v)) > 0 &&
	    v[0] != '0')
		return err_set(err, EPERM, "kernel.io_uring_disabled is %c", v[0]);
	if (ret == -EPERM)
		return err_set(err, EPERM, "refused, probably by a seccomp filter or an LSM");
	if (ret == -ENOMEM)
		return err_set(err, ENOMEM,
			       "out of locked memory (kernels before 5.12 count it: ulimit -l)");
	if (ret == -ENOSYS)
		return err_set(err, ENOSYS, "this kernel has none that is new enough");
	return err_sys(err, -ret, "io_uring_setup");
}

/* What we ask of the kernel; loop_uring_probe() makes sure of the first few. */
#define URING_PROBED 5
static const uint8_t uring_ops[] = {
	IORING_OP_ACCEPT,   IORING_OP_RECV,	    IORING_OP_SEND,
	IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_RECVMSG
};

/* Debian 12's liburing declares functions for these, and lacks them. 0 or -errno. */
static int uring_register(const struct io_uring *ring, unsigned what, const void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, what, arg, n) < 0 ? -errno : 0;
}

/*
 * Let the ring work, and do nothing but that: no system call filter sees what an
 * io_uring is asked to do, and it could open files. Registering is over as well.
 */
static int uring_enable(struct io_uring *ring)
{
	struct io_uring_restriction r[ARRAY_SIZE(uring_ops) + 1] = { 0 };
	unsigned n = 0;
	int ret;

	for (; n < ARRAY_SIZE(uring_ops); n++) {
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n].sqe_op = uring_ops[n];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n++].sqe_flags = IOSQE_BUFFER_SELECT;
	ret = uring_register(ring, IORING_REGISTER_RESTRICTIONS, r, n);
	return ret < 0 ? ret : uring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* What is emulated because the kernel does not have it, or NULL. */
static const char *uring_lacks(struct io_uring *ring)
{
	struct io_uring_buf_reg reg = { .ring_entries = 1, .bgid = URING_STREAM };
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (page == MAP_FAILED)
		return NULL;
	reg.ring_addr = (uintptr_t)page;
	ret = io_uring_register_buf_ring(ring, &reg, 0);
	if (ret == 0)
		io_uring_unregister_buf_ring(ring, URING_STREAM);
	munmap(page, 4096);
	if (ret == -EINVAL)
		return "buffer rings and multishot accept (Linux 5.19)";
	return ring->flags & IORING_SETUP_DEFER_TASKRUN ? NULL : "deferred task work (Linux 6.1)";
}

int loop_uring_probe(const char **ret_lacks, struct err *err)
{
	struct io_uring_probe *probe;
	struct io_uring ring;
	int ret = uring_setup(&ring);

	if (ret < 0)
		return uring_setup_err(err, ret);
	probe = io_uring_get_probe_ring(&ring);
	ret = probe ? 0 : err_set(err, ENOSYS, "the kernel does not say what it can do");
	for (size_t i = 0; probe && ret == 0 && i < URING_PROBED; i++)
		if (!io_uring_opcode_supported(probe, uring_ops[i]))
			ret = err_set(err, ENOSYS, "operation %d is missing", uring_ops[i]);
	*ret_lacks = uring_lacks(&ring);
	io_uring_free_probe(probe);
	io_uring_queue_exit(&ring);
	return ret;
}

static void uring_fini(struct loop *loop)
{
	struct uring *u = loop->engine;

	if (!u)
		return;
	io_uring_queue_exit(&u->ring);
	for (unsigned i = 0; i < URING_GROUPS; i++)
		uring_bufs_fini(&u->bufs[i]);
	dgram_batch_fini(&u->batch, &loop->dgrams);
	for (unsigned i = 0; i < URING_WAITS; i++)
		waitset_fini(&u->waits[i]);
	free(u->cancels);
	free(u->canceled);
	free(u->starved);
	free(u);
	loop->engine = NULL;
}

static int uring_init(struct loop *loop, struct err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return err_sys(err, ENOMEM, "io_uring");
	ret = uring_setup(&u->ring);
	if (ret < 0) {
		free(u);
		return uring_setup_err(err, ret);
	}
	loop->engine = u;
	u->free_cancel = URING_NO_CANCEL;
	dgram_batch_init(&u->batch);
	u->dgram = dgram_template();
	ret = uring_bufs_init(&u->bufs[URING_STREAM], &u->ring, URING_STREAM, &loop->bufs);
	if (ret == 0 && loop->dgrams.max > 0)
		ret = uring_bufs_init(&u->bufs[URING_DGRAM], &u->ring, URING_DGRAM, &loop->dgrams);
	if (ret == 0)
		ret = uring_enable(&u->ring);
	if (ret == 0)
		ret = waitset_init(&u->waits[URING_WRITABLE], EPOLLOUT, loop->max_fds, err);
	if (ret == 0)
		ret = waitset_init(&u->waits[URING_BROKEN], 0, loop->max_fds, err);
	/* A receive holds no more than its descriptor: at most one each. */
	u->max_starved = loop->max_fds;
	u->starved = ret < 0 ? NULL : malloc(u->max_starved * sizeof(*u->starved));
	if (!u->starved) {
		uring_fini(loop);
		return err_sys(err, ret < 0 ? -ret : ENOMEM, "io_uring buffers");
	}
	u->multishot_accept = u->bufs[URING_STREAM].ring != NULL; /* both came with 5.19 */
	u->multishot_dgram = u->bufs[URING_DGRAM].ring != NULL;	  /* needs 6.0: EINVAL tells */
	return 0;
}

/* ---------------------------------------------------------------- operations */

static void uring_accept(struct loop *loop, int fd, struct loop_ref ref)
{
	struct uring *u = loop->engine;
	struct io_uring_sqe *sqe = uring_sqe(u, ref);

	if (u->multishot_accept)
		io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	else
		io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	uring_tag(sqe, ref);
}

static void uring_poll(struct loop *loop, int fd, unsigned mask, struct loop_ref ref)
{
	struct io_uring_sqe *sqe = uring_sqe(loop->engine, ref);

	io_uring_prep_poll_add(sqe, fd, mask);
	uring_tag(sqe, ref);
}

static void uring_readable(struct loop *loop, int fd, struct loop_ref ref)
{
	uring_poll(loop, fd, POLLIN, ref);
}

static void uring_writable(struct loop *loop, int fd, struct loop_ref ref)
{
	uring_poll(loop, fd, POLLOUT, ref);
}

static void uring_recv(struct loop *loop, int fd, struct loop_ref ref)
{
	struct uring *u = loop->engine;
	struct io_uring_sqe *sqe;

	if (!u->bufs[URING_STREAM].ring) {
		uring_readable(loop, fd, ref);
		return;
	}
	sqe = uring_sqe(u, ref);
	io_uring_prep_recv(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = URING_STREAM;
	uring_tag(sqe, ref);
}

static void uring_datagrams(struct loop *loop, int fd, struct loop_ref ref)
{
	struct uring *u = loop->engine;
	struct io_uring_sqe *sqe;

	if (!u->multishot_dgram) {
		uring_readable(loop, fd, ref);
		return;
	}
	sqe = uring_sqe(u, ref);
	io_uring_prep_recvmsg_multishot(sqe, fd, &u->dgram, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = URING_DGRAM;
	uring_tag(sqe, ref);
}

static void uring_send(struct loop *loop, int fd, const void *data, size_t len, struct loop_ref ref)
{
	struct io_uring_sqe *sqe = uring_sqe(loop->engine, ref);

	/*
	 * Never let io_uring wait for room: if the peer has closed its side, its poll
	 * comes back at once, again and again (waitset.h).
	 */
	io_uring_prep_send(sqe, fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	uring_tag(sqe, ref);
}

/* Wait in one of the epoll sets, and for that. */
static void uring_wait_in(struct loop *loop, enum uring_wait which, int fd, struct loop_ref ref)
{
	struct uring *u = loop->engine;
	struct waitset *w = &u->waits[which];

	if (waitset_add(w, fd, ref) < 0) {
		uring_poll(loop, fd, POLLHUP, ref); /* no kernel memory: at least its end */
		return;
	}
	if (!w->armed) {
		w->armed = true;
		uring_poll(loop, w->epoll, POLLIN,
			   (struct loop_ref){ .op = OP_NONE, .slot = 1u + which });
	}
}

static void uring_broken(struct loop *loop, int fd, struct loop_ref ref)
{
	uring_wait_in(loop, URING_BROKEN, fd, ref);
}

/* A wait in an epoll set is over: its completion comes with the next turn. */
static bool uring_cancel_wait(struct uring *u, int fd, struct loop_ref ref)
{
	for (unsigned i = 0; i < URING_WAITS; i++) {
		if (!waitset_cancel(&u->waits[i], fd, ref))
			continue;
		if (u->n_canceled == u->max_canceled) {
			u->max_canceled = u->max_canceled ? u->max_canceled * 2 : 64;
			u->canceled = realloc(u->canceled, u->max_canceled * sizeof(*u->canceled));
			fwd_assert(u->canceled);
		}
		u->canceled[u->n_canceled++] = ref;
		return true;
	}
	return false;
}

/*
 * A completion that lies in the queue already may make us start its operation again,
 * behind the cancel, which would then find nothing: until the kernel has answered
 * the cancel, uring_is_canceled() knows of it.
 */
static struct loop_ref uring_note_cancel(struct uring *u, struct loop_ref ref)
{
	uint32_t i = u->free_cancel;

	if (i != URING_NO_CANCEL) {
		u->free_cancel = u->cancels[i].next;
	} else {
		if (u->n_cancels == u->max_cancels) {
			u->max_cancels = u->max_cancels ? u->max_cancels * 2 : 64;
			u->cancels = realloc(u->cancels, u->max_cancels * sizeof(*u->cancels));
			fwd_assert(u->cancels);
		}
		i = u->n_cancels++;
	}
	u->cancels[i].ref = ref;
	return (struct loop_ref){ .op = OP_NONE, .slot = URING_CANCEL + i };
}

static void uring_cancel_answered(struct uring *u, uint32_t i)
{
	u->cancels[i].ref.op = OP_NONE;
	u->cancels[i].next = u->free_cancel;
	u->free_cancel = i;
}

static bool uring_is_canceled(const struct uring *u, struct loop_ref ref)
{
	for (unsigned i = 0; i < u->n_cancels; i++)
		if (u->cancels[i].ref.op != OP_NONE &&
		    loop_ref_pack(u->cancels[i].ref) == loop_ref_pack(ref))
			return true;
	return false;
}

static void uring_cancel(struct loop *loop, int fd, struct loop_ref ref)
{
	struct uring *u = loop->engine;
	struct io_uring_sqe *sqe;
	struct loop_ref note;

	if (uring_cancel_wait(u, fd, ref))
		return;
	for (unsigned i = 0; i < u->n_starved; i++)
		if (loop_ref_pack(u->starved[i].ref) == loop_ref_pack(ref))
			u->starved[i].canceled = true;
	note = uring_note_cancel(u, ref);
	sqe = uring_sqe(u, note);
	io_uring_prep_cancel64(sqe, loop_ref_pack(ref), 0);
	uring_tag(sqe, note);
}

static void uring_forget(struct loop *loop, int fd)
{
	(void)loop;
	(void)fd;
}

/* ---------------------------------------------------------------- completions */

/* No buffer ring: the poll of a receive came back with @res, so receive. */
static int uring_polled_recv(struct loop *loop, struct loop_ref ref, int res, buf_id *ret_buf)
{
	buf_id buf;

	if (res < 0)
		return res;
	buf = bufs_get(&loop->bufs);
	if (buf == BUF_NONE)
		return -ENOBUFS;
	*ret_buf = buf;
	res = (int)recv(loop->fd_of(loop->ctx, ref), bufs_data(&loop->bufs, buf), BUF_SIZE,
			MSG_DONTWAIT);
	return res < 0 ? -errno : res;
}

static void uring_starve(struct uring *u, struct loop_ref ref)
{
	fwd_assert(u->n_starved < u->max_starved);
	u->starved[u->n_starved++] = (struct uring_starved){ .ref = ref };
}

/* Whether an operation ended for a reason that is none of its owner's. */
static bool uring_is_passing(int res)
{
	return res == -ENOBUFS || res == -EINTR || res == -EAGAIN || res == -ECONNABORTED;
}

/*
 * Start an operation again that ended with a passing @res, or that the kernel ended
 * after a success (@res 0). If it was cancelled meanwhile, that is how it completes.
 */
static void uring_restart(struct loop *loop, struct loop_ref ref, int res)
{
	int fd = loop->fd_of(loop->ctx, ref);

	if (uring_is_canceled(loop->engine, ref))
		loop_dispatch(loop, ref, -ECANCELED, BUF_NONE);
	else if (res == -ENOBUFS && ref.op != OP_ACCEPT)
		uring_starve(loop->engine, ref);
	else if (ref.op == OP_ACCEPT)
		uring_accept(loop, fd, ref);
	else if (ref.op == OP_RECV)
		uring_recv(loop, fd, ref);
	else
		uring_datagrams(loop, fd, ref);
}

static void uring_complete_recv(struct loop *loop, struct loop_ref ref, int res, unsigned flags)
{
	struct uring *u = loop->engine;
	buf_id buf = BUF_NONE;

	if (!u->bufs[URING_STREAM].ring)
		res = uring_polled_recv(loop, ref, res, &buf);
	else if (flags & IORING_CQE_F_BUFFER)
		buf = uring_bufs_take(&u->bufs[URING_STREAM],
				      (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT));

	if (res <= 0 && buf != BUF_NONE) {
		bufs_put(&loop->bufs, buf);
		buf = BUF_NONE;
	}
	if (!uring_is_passing(res))
		loop_dispatch(loop, ref, res, buf);
	else
		uring_restart(loop, ref, res);
}

/* No multishot: the poll came back, so receive what is there, and wait again. */
static void uring_polled_datagrams(struct loop *loop, struct loop_ref ref, int res)
{
	struct uring *u = loop->engine;
	int n = res < 0 ? res
			: dgram_receive(&u->batch, &loop->dgrams, loop->fd_of(loop->ctx, ref));

	for (int i = 0; i < n; i++) {
		buf_id buf = u->batch.buf[i];

		u->batch.buf[i] = BUF_NONE;
		loop_dispatch(loop, ref, (int)u->batch.msg[i].msg_len, buf);
	}
	if (n >= 0 || uring_is_passing(n))
		uring_restart(loop, ref, n < 0 ? n : 0);
	else
		loop_dispatch(loop, ref, n, BUF_NONE);
}

static void uring_complete_datagram(struct loop *loop, struct loop_ref ref, int res, unsigned flags)
{
	struct uring *u = loop->engine;
	buf_id buf = BUF_NONE;

	if (!u->multishot_dgram) {
		uring_polled_datagrams(loop, ref, res);
		return;
	}
	if (flags & IORING_CQE_F_BUFFER)
		buf = uring_bufs_take(&u->bufs[URING_DGRAM],
				      (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT));
	if (res >= 0 && buf != BUF_NONE) {
		const struct io_uring_recvmsg_out *out =
			(const struct io_uring_recvmsg_out *)bufs_data(&loop->dgrams, buf);

		loop_dispatch(loop, ref, (int)out->payloadlen, buf);
	} else if (buf != BUF_NONE) {
		bufs_put(&loop->dgrams, buf);
	}
	if (flags & IORING_CQE_F_MORE)
		return;
	if (res == -EINVAL)
		u->multishot_dgram = false; /* before 6.0 */
	/* The kernel may end a multishot at any time. */
	if (res >= 0 || res == -EINVAL || uring_is_passing(res))
		uring_restart(loop, ref, res < 0 ? res : 0);
	else
		loop_dispatch(loop, ref, res, BUF_NONE);
}

static void uring_complete_waits(struct loop *loop, enum uring_wait which)
{
	struct uring *u = loop->engine;
	struct waitset *w = &u->waits[which];
	struct loop_ref refs[WAITSET_BATCH];
	unsigned n = waitset_collect(w, refs);

	w->armed = w->n > 0;
	if (w->armed)
		uring_poll(loop, w->epoll, POLLIN,
			   (struct loop_ref){ .op = OP_NONE, .slot = 1u + which });
	for (unsigned i = 0; i < n; i++)
		loop_dispatch(loop, refs[i], 0, BUF_NONE);
}

static void uring_complete_accept(struct loop *loop, struct loop_ref ref, int res, unsigned flags)
{
	/* Out of memory (ENOBUFS) is for the owner to wait for. */
	bool passing = uring_is_passing(res) && res != -ENOBUFS;

	if (!passing)
		loop_dispatch(loop, ref, res, BUF_NONE);
	if (passing || (res >= 0 && !(flags & IORING_CQE_F_MORE)))
		uring_restart(loop, ref, 0);
}

static void uring_complete(struct loop *loop, const struct io_uring_cqe *cqe)
{
	struct loop_ref ref = loop_ref_unpack(cqe->user_data);
	int res = cqe->res;

	switch (ref.op) {
	case OP_NONE:
		if (ref.slot >= URING_CANCEL)
			uring_cancel_answered(loop->engine, ref.slot - URING_CANCEL);
		else if (ref.slot > 0 && res >= 0)
			uring_complete_waits(loop, (enum uring_wait)(ref.slot - 1));
		return;
	case OP_RECV:
		uring_complete_recv(loop, ref, res, cqe->flags);
		return;
	case OP_UDP_LISTENER:
	case OP_UDP_SESSION:
		uring_complete_datagram(loop, ref, res, cqe->flags);
		return;
	case OP_ACCEPT:
		uring_complete_accept(loop, ref, res, cqe->flags);
		return;
	case OP_CONNECT:
	case OP_WRITABLE:
		if (res > 0 && !(res & (POLLOUT | POLLERR | POLLHUP))) {
			/* Only that the peer has closed its side: wait on in the epoll set. */
			if (uring_is_canceled(loop->engine, ref))
				loop_dispatch(loop, ref, -ECANCELED, BUF_NONE);
			else
				uring_wait_in(loop, URING_WRITABLE, loop->fd_of(loop->ctx, ref),
					      ref);
			return;
		}
		res = res > 0 ? 0 : res;
		break;
	case OP_BROKEN:
	case OP_READABLE:
	case OP_MAIL:
	case OP_AGENT:
		res = res > 0 ? 0 : res;
		break;
	default:
		break;
	}
	loop_dispatch(loop, ref, res, BUF_NONE);
}

/*
 * Fill the rings again, and start the receives that found them empty. Whether any was
 * cancelled meanwhile, and completed here.
 */
static bool uring_unstarve(struct loop *loop, struct uring *u)
{
	unsigned n = u->n_starved, kept = 0;
	bool stream = uring_bufs_refill(&u->bufs[URING_STREAM]);
	bool dgram = uring_bufs_refill(&u->bufs[URING_DGRAM]);
	bool canceled = false;

	for (unsigned i = 0; i < n; i++) {
		struct uring_starved s = u->starved[i];
		bool is_dgram = loop_op_is_datagrams((enum loop_op)s.ref.op);

		canceled |= s.canceled;
		if (s.canceled)
			loop_dispatch(loop, s.ref, -ECANCELED, BUF_NONE);
		else if (is_dgram && dgram)
			uring_datagrams(loop, loop->fd_of(loop->ctx, s.ref), s.ref);
		else if (!is_dgram && stream)
			uring_recv(loop, loop->fd_of(loop->ctx, s.ref), s.ref);
		else
			u->starved[kept++] = s;
	}
	u->n_starved = kept;
	return canceled;
}

/* Complete the waits that were cancelled. Whether there were any. */
static bool uring_complete_canceled(struct loop *loop, struct uring *u)
{
	bool any = u->n_canceled > 0;

	for (unsigned i = 0; i < u->n_canceled; i++)
		loop_dispatch(loop, u->canceled[i], -ECANCELED, BUF_NONE);
	u->n_canceled = 0;
	return any;
}

static int uring_run(struct loop *loop, uint64_t deadline)
{
	struct uring *u = loop->engine;
	struct __kernel_timespec ts, *pts = NULL;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	int ret;

	/* What is completed here gives the caller something to do at once. */
	if (uring_unstarve(loop, u) || uring_complete_canceled(loop, u))
		deadline = 0;
	if (deadline != UINT64_MAX) {
		uint64_t now = now_ns(), left = deadline > now ? deadline - now : 0;

		ts = (struct __kernel_timespec){ .tv_sec = (long long)(left / 1000000000u),
						 .tv_nsec = (long long)(left % 1000000000u) };
		pts = &ts;
	}
	ret = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, pts, NULL);
	if (ret < 0 && ret != -ETIME && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
		return ret;
	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		uring_complete(loop, cqe);
		n++;
	}
	io_uring_cq_advance(&u->ring, n);
	return 0;
}

const struct loop_ops loop_uring_ops = {
	.name = "io_uring",
	.init = uring_init,
	.fini = uring_fini,
	.accept = uring_accept,
	.recv = uring_recv,
	.datagrams = uring_datagrams,
	.send = uring_send,
	.readable = uring_readable,
	.writable = uring_writable,
	.broken = uring_broken,
	.cancel = uring_cancel,
	.forget = uring_forget,
	.run = uring_run,
};
