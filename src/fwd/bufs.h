/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Receive buffers of one thread. A buffer is held only while bytes are in it,
 * so idle connections cost none; each direction of a flow holds at most two, and
 * there are enough for all of them, so that a reader that has stalled can never
 * starve another.
 *
 * The memory is reserved at start and made usable in chunks as it is needed;
 * bufs_trim() gives back what a burst left behind.
 */

#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define BUF_SIZE 32768u /* of a stream's buffer */

typedef uint32_t buf_id;
#define BUF_NONE UINT32_MAX

struct bufs {
	uint8_t *base;	/* of all buffers */
	size_t size;	/* of one: whole pages */
	uint32_t *free; /* stack of the free ones */
	uint32_t n_free;
	uint32_t n_ready; /* buffers below this have memory behind them */
	uint32_t max;
	uint32_t low; /* the fewest that were free since the last trim */
};

/* Reserve address space for @max buffers of @size bytes. 0 or -errno with @err. */
int bufs_init(struct bufs *b, uint32_t max, size_t size, struct err *err);
void bufs_fini(struct bufs *b);

/* Take one; BUF_NONE when all are taken or the kernel has no more memory. */
buf_id bufs_get(struct bufs *b);
void bufs_put(struct bufs *b, buf_id id);

/* Give the memory of buffers that were free since the last call back to the kernel. */
void bufs_trim(struct bufs *b);

static inline uint8_t *bufs_data(const struct bufs *b, buf_id id)
{
	return b->base + (size_t)id * b->size;
}
