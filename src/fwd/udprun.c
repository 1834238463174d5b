/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udprun.c - datagrams that leave in one send
 */
#include "fwd/udprun.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "util.h"

#ifndef UDP_SEGMENT
#	define UDP_SEGMENT 103
#endif

#define UDPRUN_BYTES 65000u /* of one send with segments: headers must fit, too */

unsigned udprun_segments(const struct dgram *d)
{
	return d->segment ? (d->len + d->segment - 1) / d->segment : 1;
}

bool udprun_joins(const struct udprun *run, const struct dgram *d)
{
	uint32_t size = d->segment ? d->segment : d->len;

	if (run->n == 0)
		return true;
	if (run->closed || d->len == 0 || run->n == UDPRUN_MAX ||
	    run->segments + udprun_segments(d) > UDPRUN_MAX || run->bytes + d->len > UDPRUN_BYTES)
		return false;
	return size == run->segment || (!d->segment && size < run->segment);
}

void udprun_add(struct udprun *run, const struct dgram *d, buf_id buf)
{
	if (run->n == 0) {
		run->segment = d->segment ? d->segment : d->len;
		run->segments = 0;
		run->bytes = 0;
	}
	run->iov[run->n] = (struct iovec){ .iov_base = d->data, .iov_len = d->len };
	run->buf[run->n++] = buf;
	run->segments += udprun_segments(d);
	run->bytes += d->len;
	run->closed = d->len == 0 || run->bytes % run->segment != 0;
}

void udprun_clear(struct udprun *run, struct bufs *bufs)
{
	for (unsigned i = 0; i < run->n; i++)
		bufs_put(bufs, run->buf[i]);
	run->n = 0;
}

/* ---------------------------------------------------------------- sending */

static void udprun_control(struct udprun_out *o, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)(o->control + o->control_len);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	o->control_len += CMSG_SPACE(len);
}

void udprun_out_listener(struct udprun_out *o, int fd, bool v6, const struct addr *local,
			 const struct addr *to)
{
	*o = (struct udprun_out){ .fd = fd };
	o->to_len = addr_to_sockaddr_as(to, v6, &o->to);
	if (v6) {
		struct in6_pktinfo p = { .ipi6_ifindex = local->scope };

		memcpy(&p.ipi6_addr, local->ip, sizeof(p.ipi6_addr));
		udprun_control(o, IPPROTO_IPV6, IPV6_PKTINFO, &p, sizeof(p));
	} else {
		struct in_pktinfo p = { 0 };

		memcpy(&p.ipi_spec_dst, local->ip + 12, sizeof(p.ipi_spec_dst));
		udprun_control(o, IPPROTO_IP, IP_PKTINFO, &p, sizeof(p));
	}
}

/* 0 or errno. */
static int udprun_sendmsg(struct udprun_out *o, struct iovec *iov, size_t n, uint32_t segment)
{
	size_t plain = o->control_len;
	uint16_t size = (uint16_t)segment;
	struct msghdr m = { .msg_name = o->to_len ? &o->to : NULL,
			    .msg_namelen = o->to_len,
			    .msg_iov = iov,
			    .msg_iovlen = n };
	int code = 0;

	if (segment > 0)
		udprun_control(o, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
	m.msg_control = o->control_len ? o->control : NULL;
	m.msg_controllen = o->control_len;
	if (sendmsg(o->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		code = errno;
	/* An ICMP error for an earlier datagram; this one was not sent (udp(7)). */
	if (code == ECONNREFUSED && o->to_len == 0)
		code = sendmsg(o->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
	o->control_len = plain;
	return code;
}

static unsigned udprun_send_singly(struct udprun *run, struct udprun_out *o, int *ret_code)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < run->n; i++) {
		struct iovec left = run->iov[i];

		while (left.iov_len > 0) {
			struct iovec one = left;
			int code;

			if (one.iov_len > run->segment)
				one.iov_len = run->segment;
			code = udprun_sendmsg(o, &one, 1, 0);
			if (code != 0) {
				failed++;
				*ret_code = code;
			}
			left.iov_base = (uint8_t *)left.iov_base + one.iov_len;
			left.iov_len -= one.iov_len;
		}
	}
	return failed;
}

unsigned udprun_send(struct udprun *run, struct udprun_out *o, int *ret_code)
{
	bool segments = run->segments > 1;
	int code = udprun_sendmsg(o, run->iov, run->n, segments ? run->segment : 0);

	*ret_code = code;
	if (code == 0)
		return 0;
	if (segments && (code == EMSGSIZE || code == EINVAL || code == EIO))
		return udprun_send_singly(run, o, ret_code);
	return run->segments;
}
