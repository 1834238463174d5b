/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_bufs.c - buffers that io_uring takes when data is there
 */
#include "fwd/uring_bufs.h"

#include <errno.h>
#include <sys/mman.h>

#include "util.h"

/* Put a fresh buffer into entry @bid of a ring. */
static bool uring_refill(struct uring_bufs *r, uint16_t bid)
{
	buf_id id = bufs_get(r->bufs);

	if (id == BUF_NONE)
		return false;
	r->buf[bid] = id;
	io_uring_buf_ring_add(r->ring, bufs_data(r->bufs, id), (unsigned)r->bufs->size, bid,
			      (int)io_uring_buf_ring_mask(URING_BUFS), 0);
	io_uring_buf_ring_advance(r->ring, 1);
	return true;
}

buf_id uring_bufs_take(struct uring_bufs *r, uint16_t bid)
{
	buf_id id;

	fwd_assert(bid < URING_BUFS);
	id = r->buf[bid];
	if (!uring_refill(r, bid))
		r->empty[r->missing++] = bid;
	return id;
}

bool uring_bufs_refill(struct uring_bufs *r)
{
	while (r->missing > 0 && uring_refill(r, r->empty[r->missing - 1]))
		r->missing--;
	return r->ring ? r->missing < URING_BUFS : r->bufs && r->bufs->n_free > 0;
}

void uring_bufs_fini(struct uring_bufs *r)
{
	if (r->ring)
		munmap(r->ring, URING_BUFS * sizeof(struct io_uring_buf));
	r->ring = NULL;
}

int uring_bufs_init(struct uring_bufs *r, struct io_uring *uring, unsigned group, struct bufs *bufs)
{
	size_t size = URING_BUFS * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = { .ring_entries = URING_BUFS, .bgid = (uint16_t)group };
	int ret;

	r->bufs = bufs;
	r->ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->ring == MAP_FAILED) {
		r->ring = NULL;
		return -errno;
	}
	reg.ring_addr = (uintptr_t)r->ring;
	ret = io_uring_register_buf_ring(uring, &reg, 0);
	if (ret < 0) {
		uring_bufs_fini(r);
		return ret == -EINVAL ? 0 : ret; /* EINVAL: before 5.19 */
	}
	io_uring_buf_ring_init(r->ring);
	for (uint16_t bid = 0; bid < URING_BUFS; bid++)
		if (!uring_refill(r, bid))
			return -ENOMEM;
	return 0;
}
