/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dgram.c - datagrams in buffers
 */
#include "fwd/dgram.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "util.h"

#ifndef UDP_GRO
#	define UDP_GRO 104
#endif

/* As struct io_uring_recvmsg_out. */
struct dgram_head {
	uint32_t namelen, controllen, payloadlen, flags;
};

#define DGRAM_AT_NAME	 sizeof(struct dgram_head)
#define DGRAM_AT_CONTROL (DGRAM_AT_NAME + DGRAM_NAME)
#define DGRAM_AT_PAYLOAD (DGRAM_AT_CONTROL + DGRAM_CONTROL)

_Static_assert(DGRAM_AT_PAYLOAD + DGRAM_PAYLOAD <= DGRAM_SIZE, "a buffer holds everything");
_Static_assert(sizeof(struct sockaddr_in6) <= DGRAM_NAME, "an address fits");
_Static_assert(DGRAM_AT_CONTROL % sizeof(size_t) == 0, "control messages are aligned");

static void dgram_parse_control(const struct cmsghdr *c, struct dgram *ret)
{
	struct addr local;

	if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
		int segment;

		memcpy(&segment, CMSG_DATA(c), sizeof(segment));
		ret->segment = (uint32_t)segment;
	} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
		struct in_pktinfo p;

		memcpy(&p, CMSG_DATA(c), sizeof(p));
		/*
		 * One that was in the socket before IP_PKTINFO was set has only its header
		 * (ipv4_pktinfo_prepare() was not called): no device, no such address.
		 */
		if (p.ipi_spec_dst.s_addr == INADDR_ANY)
			p.ipi_spec_dst = p.ipi_addr;
		/* For a broadcast this is the address of the device that it came by. */
		ret->local = addr_from_bytes(&p.ipi_spec_dst, sizeof(p.ipi_spec_dst));
		ret->group = p.ipi_addr.s_addr != p.ipi_spec_dst.s_addr;
		ret->ifindex = (uint32_t)p.ipi_ifindex;
	} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
		struct in6_pktinfo p;

		memcpy(&p, CMSG_DATA(c), sizeof(p));
		local = addr_from_bytes(&p.ipi6_addr, sizeof(p.ipi6_addr));
		/* Of IPv4 on a dual-stack socket IP_PKTINFO says more. */
		if (addr_family(&local) == ADDR_V4)
			return;
		ret->group = addr_is_multicast(&local);
		ret->local = ret->group ? addr_any6 : local;
		ret->ifindex = p.ipi6_ifindex;
	}
}

bool dgram_parse(uint8_t *buf, bool connected, struct dgram *ret)
{
	const struct dgram_head *head = (const struct dgram_head *)buf;
	struct sockaddr_storage sa = { 0 };
	struct msghdr msg = { .msg_control = buf + DGRAM_AT_CONTROL,
			      .msg_controllen = head->controllen };

	*ret = (struct dgram){ .data = buf + DGRAM_AT_PAYLOAD, .len = head->payloadlen };
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		dgram_parse_control(c, ret);
	/* One segment only, or more than there is: a plain datagram. */
	if (ret->segment >= ret->len)
		ret->segment = 0;
	if (connected)
		return true;
	memcpy(&sa, buf + DGRAM_AT_NAME, sizeof(struct sockaddr_in6));
	/* 0.0.0.0 or ::, before a client has an address: an answer would go to ourselves. */
	return head->namelen <= DGRAM_NAME && addr_from_sockaddr(&sa, &ret->from) &&
	       !addr_is_any(&ret->from);
}

struct msghdr dgram_template(void)
{
	return (struct msghdr){ .msg_namelen = DGRAM_NAME, .msg_controllen = DGRAM_CONTROL };
}

void dgram_batch_init(struct dgram_batch *b)
{
	*b = (struct dgram_batch){ 0 };
	for (unsigned i = 0; i < DGRAM_BATCH; i++)
		b->buf[i] = BUF_NONE;
}

void dgram_batch_fini(struct dgram_batch *b, struct bufs *bufs)
{
	for (unsigned i = 0; i < DGRAM_BATCH; i++)
		if (b->buf[i] != BUF_NONE)
			bufs_put(bufs, b->buf[i]);
}

/* Put buffers where there are none; how many lie in a row from the start. */
static unsigned dgram_batch_fill(struct dgram_batch *b, struct bufs *bufs)
{
	for (unsigned i = 0; i < DGRAM_BATCH; i++) {
		struct msghdr *m = &b->msg[i].msg_hdr;
		uint8_t *buf;

		if (b->buf[i] == BUF_NONE) {
			b->buf[i] = bufs_get(bufs);
			if (b->buf[i] == BUF_NONE)
				return i;
			buf = bufs_data(bufs, b->buf[i]);
			b->iov[i] = (struct iovec){ .iov_base = buf + DGRAM_AT_PAYLOAD,
						    .iov_len = DGRAM_PAYLOAD };
			*m = (struct msghdr){ .msg_name = buf + DGRAM_AT_NAME,
					      .msg_iov = &b->iov[i],
					      .msg_iovlen = 1,
					      .msg_control = buf + DGRAM_AT_CONTROL };
		}
		m->msg_namelen = DGRAM_NAME;
		m->msg_controllen = DGRAM_CONTROL;
	}
	return DGRAM_BATCH;
}

int dgram_receive(struct dgram_batch *b, struct bufs *bufs, int fd)
{
	unsigned room = dgram_batch_fill(b, bufs);
	int n;

	if (room == 0)
		return -ENOBUFS;
	do
		n = recvmmsg(fd, b->msg, room, MSG_DONTWAIT, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct dgram_head *head = (struct dgram_head *)bufs_data(bufs, b->buf[i]);

		*head = (struct dgram_head){ .namelen = b->msg[i].msg_hdr.msg_namelen,
					     .controllen =
						     (uint32_t)b->msg[i].msg_hdr.msg_controllen,
					     .payloadlen = b->msg[i].msg_len,
					     .flags = (uint32_t)b->msg[i].msg_hdr.msg_flags };
	}
	return n;
}
