/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp_rig.c - UDP sessions whose datagrams the test brings
 *
 * Sources are not kept (that needs a namespace): the sessions' sockets connect to
 * the app as what the kernel makes of them.
 */
#include "udp_rig.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util.h"

#ifndef UDP_GRO
#	define UDP_GRO 104
#endif

struct udp_rig urig;

static struct rule urig_rule = { .proto = PROTO_UDP, .any = true };

/* ---------------------------------------------------------------- the loop */

static void urig_op_datagrams(struct loop *loop, int fd, struct loop_ref ref)
{
	(void)loop;
	cr_assert_geq(fd, 0);
	cr_assert_lt(ref.slot, RIG_SLOTS);
	cr_assert_not(urig.op[ref.slot].in_flight, "session %u receives twice", ref.slot);
	urig.op[ref.slot] = (struct urig_op){ .ref = ref, .in_flight = true };
}

static void urig_op_cancel(struct loop *loop, int fd, struct loop_ref ref)
{
	struct urig_op *op = &urig.op[ref.slot];

	(void)loop;
	(void)fd;
	cr_assert(op->in_flight && loop_ref_pack(op->ref) == loop_ref_pack(ref));
	cr_assert_not(op->canceled, "session %u is canceled twice", ref.slot);
	op->canceled = true;
}

static void urig_op_forget(struct loop *loop, int fd)
{
	(void)loop;
	cr_assert_geq(fd, 0);
}

static const struct loop_ops urig_ops = {
	.name = "test",
	.datagrams = urig_op_datagrams,
	.cancel = urig_op_cancel,
	.forget = urig_op_forget,
};

static bool urig_listener_of(void *ctx, uint32_t index, struct udp_listener *ret)
{
	(void)ctx;
	cr_assert_eq(index, urig.listener.index);
	*ret = urig.listener;
	return true;
}

/* ---------------------------------------------------------------- up and down */

static int urig_socket(bool gro, uint16_t *ret_port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = gro;
	socklen_t len = sizeof(sa);

	cr_assert_geq(fd, 0);
	cr_assert(!bind(fd, (struct sockaddr *)&sa, len));
	cr_assert(!getsockname(fd, (struct sockaddr *)&sa, &len));
	setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

int urig_client(uint16_t *ret_port)
{
	return urig_socket(true, ret_port);
}

void urig_up(uint32_t max_flows)
{
	int channel[2];
	struct err err;

	urig = (struct udp_rig){ 0 };
	urig.app = urig_socket(true, &urig_rule.to_first);
	urig.listener.fd = urig_socket(true, &urig.listener.port);
	urig_rule.first = urig_rule.last = urig.listener.port;
	cr_assert_eq(ruleset_init(&urig.rules, 1), 0);
	cr_assert_eq(ruleset_take(&urig.rules, &urig_rule), 0);
	urig.conf = (struct conf){ .source = { SOURCE_MODE_OFF, true },
				   .udp_timeout = 30,
				   .udp_lasting_timeout = 120 };
	cr_assert(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel));
	close(channel[1]);
	urig.channel = channel[0];
	sockpool_init(&urig.sockets, urig.channel, -1);
	urig.loop = (struct loop){ .ops = &urig_ops };
	cr_assert_eq(bufs_init(&urig.loop.dgrams, 256, DGRAM_SIZE, &err), 0, "%s", err.text);
	cr_assert_eq(stats_init(&urig.stats, 1), 0);
	urig.tcp = (struct tcp){ .sockets = &urig.sockets,
				 .conf = &urig.conf,
				 .stats = &urig.stats,
				 .rules = &urig.rules,
				 .n_flows = &urig.n_flows,
				 .max_flows = max_flows };
	urig.tcp.targets.addr[ADDR_V4] = addr_loopback4;
	urig.tcp.targets.have[ADDR_V4] = true;
	urig.u.tcp = &urig.tcp;
	cr_assert_eq(udppairs_init(&urig.pairs, max_flows), 0);
	urig.u.pairs = &urig.pairs;
	urig.u.listener_of = urig_listener_of;
	cr_assert_eq(udp_init(&urig.u, &urig.loop, &urig.conf, &urig.stats, 1, &err), 0, "%s",
		     err.text);
}

void urig_down(void)
{
	struct bufs *b = &urig.loop.dgrams;

	udp_end(&urig.u);
	udp_close_all(&urig.u);
	urig_settle();
	cr_expect(udp_is_empty(&urig.u));
	cr_expect_eq(urig.n_flows, 0);
	cr_expect_eq(b->n_free, b->n_ready, "%u buffers have leaked", b->n_ready - b->n_free);
	udp_fini(&urig.u);
	udppairs_fini(&urig.pairs);
	sockpool_fini(&urig.sockets);
	bufs_fini(b);
	stats_fini(&urig.stats);
	ruleset_fini(&urig.rules);
	close(urig.app);
	close(urig.listener.fd);
	close(urig.channel);
}

/* ---------------------------------------------------------------- datagrams */

/* As struct io_uring_recvmsg_out. */
struct urig_head {
	uint32_t namelen, controllen, payloadlen, flags;
};

static size_t urig_control(uint8_t *at, int level, int type, const void *data, size_t len)
{
	struct cmsghdr c = { .cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type };

	memcpy(at, &c, sizeof(c));
	memcpy(at + CMSG_LEN(0), data, len);
	return CMSG_SPACE(len);
}

static buf_id urig_buf(uint16_t port, size_t len, unsigned segment, uint8_t fill)
{
	struct sockaddr_in from = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				    .sin_port = htons(port) };
	struct in_pktinfo p = { .ipi_ifindex = 1,
				.ipi_addr.s_addr = htonl(INADDR_LOOPBACK),
				.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK) };
	struct urig_head head = { .namelen = sizeof(from), .payloadlen = (uint32_t)len };
	buf_id id = bufs_get(&urig.loop.dgrams);
	uint8_t *buf, *control;
	int size = (int)segment;

	cr_assert_neq(id, BUF_NONE);
	buf = bufs_data(&urig.loop.dgrams, id);
	control = buf + sizeof(head) + DGRAM_NAME;
	memcpy(buf + sizeof(head), &from, sizeof(from));
	head.controllen = (uint32_t)urig_control(control, IPPROTO_IP, IP_PKTINFO, &p, sizeof(p));
	if (segment)
		head.controllen += (uint32_t)urig_control(control + head.controllen, IPPROTO_UDP,
							  UDP_GRO, &size, sizeof(size));
	memcpy(buf, &head, sizeof(head));
	memset(control + DGRAM_CONTROL, fill, len);
	return id;
}

/* A socket of the "container", so that the pool never has to ask. */
static void urig_stock(void)
{
	struct sockpool_family *f = &urig.sockets.family[SOCKPOOL_UDP][ADDR_V4];

	f->asked = true;
	if (f->n == 0)
		f->fd[f->n++] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

void urig_from_client(uint16_t port, size_t len, unsigned segment, uint8_t fill)
{
	urig_stock();
	udp_from_client(&urig.u, &urig.listener, urig_buf(port, len, segment, fill));
}

void urig_from_app(uint32_t slot, size_t len, unsigned segment, uint8_t fill)
{
	cr_assert(urig.op[slot].in_flight);
	udp_from_container(&urig.u, urig.op[slot].ref, (int)len, urig_buf(0, len, segment, fill));
}

void urig_complete(uint32_t slot, int code)
{
	cr_assert(urig.op[slot].in_flight);
	urig.op[slot].in_flight = false;
	udp_from_container(&urig.u, urig.op[slot].ref, -code, BUF_NONE);
}

void urig_settle(void)
{
	for (uint32_t i = 0; i < RIG_SLOTS; i++)
		if (urig.op[i].in_flight && urig.op[i].canceled)
			urig_complete(i, ECANCELED);
}

struct udp_session *urig_session(uint16_t port)
{
	for (uint32_t i = 0; i < urig.u.used; i++)
		if (urig.u.v[i].state == UDP_OPEN && urig.u.v[i].client.port == port)
			return &urig.u.v[i];
	return NULL;
}

uint32_t urig_slot(uint16_t port)
{
	struct udp_session *s = urig_session(port);

	cr_assert_not_null(s, "no session of port %u", port);
	return (uint32_t)(s - urig.u.v);
}

uint64_t urig_error(enum stats_error error)
{
	return stats_get(&urig.stats.error[error]);
}

/* ---------------------------------------------------------------- what arrived */

void urig_expect_read(int fd, size_t len, unsigned segment)
{
	static uint8_t data[65536];
	char control[64] __attribute__((aligned(8)));
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, 0);
	int got = 0;

	cr_assert_geq(n, 0, "nothing there, %zu bytes expected", len);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&got, CMSG_DATA(c), sizeof(got));
	cr_expect_eq(n, (ssize_t)len, "%zd bytes, expected %zu", n, len);
	/* The kernel tells the size of a single datagram, too. */
	cr_expect(got == (int)segment || (segment == 0 && got == n), "segments of %d, expected %u",
		  got, segment);
}

void urig_expect_silence(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	cr_expect_eq(poll(&p, 1, 0), 0, "more arrived");
}
