/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A ring of provided buffers (io_uring_register_buf_ring(3), Linux 5.19). Each entry
 * that the kernel uses is filled again at once with a fresh buffer, so that a
 * receive never waits for what a slow flow holds.
 */

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "fwd/bufs.h"

#define URING_BUFS 128u

/* Buffers that wait in the kernel's ring for what will be received. */
struct uring_bufs {
	struct io_uring_buf_ring *ring; /* NULL: the kernel has none */
	struct bufs *bufs;		/* where they come from */
	buf_id buf[URING_BUFS];		/* which lies in which entry */
	unsigned missing;		/* entries that could not be filled again */
	uint16_t empty[URING_BUFS];	/* those */
};

/*
 * Register group @group with @uring, filled from @bufs. 0, also where the kernel
 * knows no such rings: then @r->ring is NULL; or -errno.
 */
int uring_bufs_init(struct uring_bufs *r, struct io_uring *uring, unsigned group,
		    struct bufs *bufs);
void uring_bufs_fini(struct uring_bufs *r);

/* The kernel has used entry @bid: the buffer that lay there, the caller's now. */
buf_id uring_bufs_take(struct uring_bufs *r, uint16_t bid);

/* Fill again what could not be filled. Whether there is a buffer to receive into now. */
bool uring_bufs_refill(struct uring_bufs *r);
