/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bufs.c - receive buffers of one thread
 *
 * The free ones are a stack, so that the warm ones at its top are used first;
 * those at its bottom are what a burst left behind, and bufs_trim() drops
 * their pages.
 */
#include "fwd/bufs.h"

#include <errno.h>
#include <sys/mman.h>

#include "util.h"

#define BUFS_CHUNK 64u	/* buffers made usable at a time: 2 MiB */
#define BUFS_WARM  256u /* that many free ones keep their memory */

int bufs_init(struct bufs *b, uint32_t max, size_t buf_size, struct err *err)
{
	size_t size;
	void *base, *stack;

	max = (max + BUFS_CHUNK - 1) / BUFS_CHUNK * BUFS_CHUNK;
	size = (size_t)max * buf_size;
	*b = (struct bufs){ .max = max, .size = buf_size };
	/* PROT_NONE: counts for nothing, whatever vm.overcommit_memory says. */
	base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return err_sys(err, errno, "reserve %zu MiB for buffers", size >> 20);
	stack = mmap(NULL, max * sizeof(*b->free), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED) {
		munmap(base, size);
		return err_sys(err, errno, "reserve memory for buffers");
	}
	b->base = base;
	b->free = stack;
	return 0;
}

void bufs_fini(struct bufs *b)
{
	if (!b->base)
		return;
	munmap(b->base, (size_t)b->max * b->size);
	munmap(b->free, b->max * sizeof(*b->free));
	*b = (struct bufs){ 0 };
}

/* Make the next chunk usable. */
static bool bufs_grow(struct bufs *b)
{
	if (b->n_ready == b->max)
		return false;
	if (mprotect(bufs_data(b, b->n_ready), (size_t)BUFS_CHUNK * b->size,
		     PROT_READ | PROT_WRITE) != 0)
		return false;
	for (uint32_t i = BUFS_CHUNK; i-- > 0;)
		b->free[b->n_free++] = b->n_ready + i;
	b->n_ready += BUFS_CHUNK;
	return true;
}

buf_id bufs_get(struct bufs *b)
{
	if (b->n_free == 0 && !bufs_grow(b))
		return BUF_NONE;
	if (--b->n_free < b->low)
		b->low = b->n_free;
	return b->free[b->n_free];
}

void bufs_put(struct bufs *b, buf_id id)
{
	fwd_assert(id < b->n_ready && b->n_free < b->n_ready);
	b->free[b->n_free++] = id;
}

void bufs_trim(struct bufs *b)
{
	for (uint32_t i = 0; b->low > BUFS_WARM && i < b->low - BUFS_WARM; i++)
		madvise(bufs_data(b, b->free[i]), b->size, MADV_DONTNEED);
	b->low = b->n_free;
}
