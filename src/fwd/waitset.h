/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Waits that a poll of io_uring cannot do, because it always ends when the peer
 * has closed its side, too (IO_POLL_UNMASK in io_uring/poll.c adds EPOLLRDHUP): for
 * room to send on a half-closed connection, and for errors alone. They are kept in
 * an epoll(7) set, which io_uring can wait for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fwd/loop.h"

struct waitset {
	int epoll;	      /* owned; readable when a wait is over */
	uint32_t events;      /* what is waited for, beside errors and hang-ups */
	struct loop_ref *ref; /* [max_fds]; op OP_NONE: no wait */
	unsigned max_fds;
	unsigned n; /* waits */
	bool armed; /* the owner waits for @epoll */
};

#define WAITSET_BATCH 64

/* 0 or -errno with @err. */
int waitset_init(struct waitset *w, uint32_t events, unsigned max_fds, struct err *err);
void waitset_fini(struct waitset *w);

/* Start a wait; one at a time for each descriptor. 0 or -errno. */
int waitset_add(struct waitset *w, int fd, struct loop_ref ref);

/* Forget a wait. False if there is none with this reference. */
bool waitset_cancel(struct waitset *w, int fd, struct loop_ref ref);

/* Take the waits that are over, at most WAITSET_BATCH; their number. Never blocks. */
unsigned waitset_collect(struct waitset *w, struct loop_ref ret[WAITSET_BATCH]);
