/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Datagrams in buffers. A buffer has the layout that a multishot recvmsg of
 * io_uring gives it (struct io_uring_recvmsg_out): a head, then room for the
 * sender's address, for control messages, and for the payload. recvmmsg(2) is
 * made to fill the same.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "fwd/addr.h"
#include "fwd/bufs.h"

#define DGRAM_NAME    32u
#define DGRAM_CONTROL 128u /* UDP_GRO and a pktinfo, with room to spare */
#define DGRAM_PAYLOAD 65536u
#define DGRAM_SIZE    (17u * 4096u) /* of a buffer: all of that, in whole pages */
#define DGRAM_BATCH   32

/* What arrived: one datagram, or several of @segment bytes (the last may be shorter). */
struct dgram {
	struct addr from;  /* of an unconnected socket; else unset */
	struct addr local; /* the host's address that it was sent to, if the socket asks for it */
	bool group;	   /* it was sent to a broadcast or multicast address instead */
	uint32_t ifindex;  /* that it came by, likewise */
	uint8_t *data;
	uint32_t len;
	uint32_t segment; /* 0: a single datagram */
};

/*
 * Take apart what is in a buffer. False if it has no sender, or one that cannot be
 * answered, where there must be one.
 */
bool dgram_parse(uint8_t *buf, bool connected, struct dgram *ret);

/* The template of a multishot receive: room for name and control as above. */
struct msghdr dgram_template(void);

/* A batch for recvmmsg(2), with buffers in place. */
struct dgram_batch {
	struct mmsghdr msg[DGRAM_BATCH];
	struct iovec iov[DGRAM_BATCH];
	buf_id buf[DGRAM_BATCH]; /* BUF_NONE: none */
};

void dgram_batch_init(struct dgram_batch *b);
void dgram_batch_fini(struct dgram_batch *b, struct bufs *bufs);

/*
 * Receive what is there, at most DGRAM_BATCH buffers: the first of @b->buf, which
 * are the caller's then (and BUF_NONE when it has taken them). Their number, or
 * -errno; -ENOBUFS if there is not one buffer.
 */
int dgram_receive(struct dgram_batch *b, struct bufs *bufs, int fd);
