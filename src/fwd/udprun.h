/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A run: datagrams of one size, the last may be shorter, that leave one way in one
 * sendmsg(2) with UDP_SEGMENT (udp(7)).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "fwd/addr.h"
#include "fwd/bufs.h"
#include "fwd/dgram.h"

#define UDPRUN_MAX 64 /* segments of one send, at most (UDP_MAX_SEGMENTS of older kernels) */

struct udprun {
	bool closed;	  /* the last datagram was shorter, or empty: no more can follow */
	uint32_t segment; /* bytes of each but the last */
	uint32_t bytes;
	unsigned segments;
	unsigned n; /* buffers; 0: the run is empty */
	struct iovec iov[UDPRUN_MAX];
	buf_id buf[UDPRUN_MAX];
};

/* Where to, and how. */
struct udprun_out {
	int fd;
	struct sockaddr_storage to;
	socklen_t to_len; /* 0: the socket is connected */
	char control[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))]
		__attribute__((aligned(8)));
	size_t control_len;
};

/* How many datagrams @d is. */
unsigned udprun_segments(const struct dgram *d);

/* Whether @d can join what the run has. */
bool udprun_joins(const struct udprun *run, const struct dgram *d);

/* Add @d, which lies in @buf: to an empty run, or one that it can join. Takes @buf. */
void udprun_add(struct udprun *run, const struct dgram *d, buf_id buf);

/*
 * Leave from @local, to @to, by a listener: an AF_INET6 one if @v6. @local's scope is
 * the device to leave by, or 0.
 */
void udprun_out_listener(struct udprun_out *o, int fd, bool v6, const struct addr *local,
			 const struct addr *to);

/*
 * Send the run; one by one if the kernel refuses segments (a path that takes only less,
 * a device without checksums). How many datagrams failed, the last errno in *@ret_code.
 */
unsigned udprun_send(struct udprun *run, struct udprun_out *o, int *ret_code);

/* Give the buffers back: the run is empty. */
void udprun_clear(struct udprun *run, struct bufs *bufs);
