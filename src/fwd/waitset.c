/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waitset.c - waits that a poll of io_uring cannot do
 */
#include "fwd/waitset.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "util.h"

int waitset_init(struct waitset *w, uint32_t events, unsigned max_fds, struct err *err)
{
	void *ref;

	*w = (struct waitset){ .events = events, .max_fds = max_fds };
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0)
		return err_sys(err, errno, "epoll");
	ref = mmap(NULL, max_fds * sizeof(*w->ref), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ref == MAP_FAILED) {
		close_fd(&w->epoll);
		return err_sys(err, ENOMEM, "epoll");
	}
	w->ref = ref;
	return 0;
}

void waitset_fini(struct waitset *w)
{
	if (!w->ref)
		return;
	munmap(w->ref, w->max_fds * sizeof(*w->ref));
	w->ref = NULL;
	close_fd(&w->epoll);
}

int waitset_add(struct waitset *w, int fd, struct loop_ref ref)
{
	struct epoll_event ev = { .events = w->events, .data.fd = fd };

	fwd_assert((unsigned)fd < w->max_fds && w->ref[fd].op == OP_NONE);
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
		return -errno;
	w->ref[fd] = ref;
	w->n++;
	return 0;
}

static struct loop_ref waitset_take(struct waitset *w, int fd)
{
	struct loop_ref ref = w->ref[fd];

	epoll_ctl(w->epoll, EPOLL_CTL_DEL, fd, NULL);
	w->ref[fd].op = OP_NONE;
	w->n--;
	return ref;
}

bool waitset_cancel(struct waitset *w, int fd, struct loop_ref ref)
{
	if (w->ref[fd].op == OP_NONE || loop_ref_pack(w->ref[fd]) != loop_ref_pack(ref))
		return false;
	waitset_take(w, fd);
	return true;
}

unsigned waitset_collect(struct waitset *w, struct loop_ref ret[WAITSET_BATCH])
{
	struct epoll_event ev[WAITSET_BATCH];
	int n = epoll_wait(w->epoll, ev, WAITSET_BATCH, 0);

	for (int i = 0; i < n; i++)
		ret[i] = waitset_take(w, ev[i].data.fd);
	return n > 0 ? (unsigned)n : 0;
}
